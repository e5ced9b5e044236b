"""Images by name: what is installed, folders, torchvision's sets (without a network), the draw."""

import gc
import io
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
import warnings
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile, PngInfo
from scipy.io import savemat
from torchvision import datasets as tv

from topo_utils import dataset_names, load_images, normalise, open_images, published_table
from topo_utils.datasets import EMBEDDED_DATASETS, OUTPUT_MARK, grey_pictures

#: Number of images, number of classes, side in pixels (None: several), stem of foolbox's files.
EMBEDDED = {
    "imagenet_samples": (20, 1000, None, "imagenet"),
    "cifar10_samples": (20, 10, 32, "cifar10"),
    "cifar100_samples": (20, 100, 32, "cifar100"),
    "mnist_samples": (20, 10, 28, "mnist"),
    "fashion_mnist_samples": (20, 10, 28, "fashionMNIST"),
    "mnist_5k": (5000, 10, 28, None),
    "digits": (1797, 10, 8, None),
}
TORCHVISION = ["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "stl10", "dtd"]
TORCHVISION += ["fgvc_aircraft", "caltech101", "food101", "flowers102", "oxford_pets"]

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
#: One grey level, in units of the normalised channel where it is largest.
LEVEL = 1 / 255 / STD.min()


def by_hand(picture):
    """PIL and numpy only: (3, H, W), not resized."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64)
    return ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1)


def grey(level, size=(8, 8)):
    return Image.fromarray(np.full(size, level, dtype=np.uint8))


def levels(images):
    """Grey level of uniform images, whatever the channel, back from the normalised values."""
    values = images.double().numpy() * STD[:, None, None] + MEAN[:, None, None]
    assert np.ptp(values.reshape(len(values), -1), axis=1).max() < 1e-5
    return np.round(values[:, 0, 0, 0] * 255).astype(int).tolist()


# --- What is installed with the package


def test_importing_the_module_costs_little():
    code = "import sys, topo_utils.datasets; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    heavy = {"torchvision", "pandas", "sklearn", "mlxtend", "scipy", "xarray", "numba"}
    assert not heavy & set(loaded.split())
    assert "topo_utils.datasets" in loaded.split()


def test_the_names_are_the_ones_of_the_specification():
    assert dataset_names() == (*EMBEDDED, *TORCHVISION)
    assert tuple(EMBEDDED_DATASETS) == tuple(EMBEDDED)


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_images_in_a_fixed_order(name, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", refuse(AssertionError("no network, please")))
    count, classes, side, stem = EMBEDDED[name]
    opened = open_images(name, side or 64)
    assert len(opened) == count
    np.testing.assert_array_equal(opened.indices, range(count))
    assert opened.labels.dtype == np.int64
    assert 0 <= opened.labels.min() <= opened.labels.max() < classes
    if classes == 10 and count > 20:
        assert len(set(opened.labels)) == 10
    image, label = opened[count - 1]
    assert image.shape == (3, side or 64, side or 64)
    assert type(image) is torch.Tensor
    assert image.dtype == torch.float32
    assert isinstance(label, int)
    if side:  # nothing to resize: exact
        np.testing.assert_allclose(image, by_hand(opened.picture(count - 1)), atol=1e-6)
    if stem:
        folder = Path(distribution("foolbox").locate_file("foolbox/data"))
        files = {int(f.stem.split("_")[1]): f for f in folder.glob(f"{stem}_*")}
        expected = [int(files[i].stem.split("_")[2]) for i in range(20)]
        np.testing.assert_array_equal(opened.labels, expected)
        for i in (0, 7, 19):
            with Image.open(files[i]) as picture:
                np.testing.assert_array_equal(opened.picture(i), picture.convert("RGB"))


@pytest.mark.parametrize("name", ["imagenet_samples", "cifar100_samples", "fashion_mnist_samples"])
def test_values_are_those_of_normalised_pixels(name):
    images, labels = load_images(name, 48)
    assert images.shape == (20, 3, 48, 48)
    assert images.dtype == torch.float32
    assert labels.shape == (20,)
    assert labels.dtype == torch.int64
    black, white = (torch.from_numpy((v - MEAN) / STD)[:, None, None] for v in (0, 1))
    assert ((images >= black - 1e-5) & (images <= white + 1e-5)).all()
    contrast = images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))
    assert (contrast > 1).all()  # real pictures
    again, labels_again = load_images(name, 48)
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)


def test_the_digits_use_the_whole_range_of_grey():
    picture = np.asarray(open_images("digits", 8).picture(0))
    assert (picture.min(), picture.max()) == (0, round(15 * 255 / 16))
    pictures = open_images("mnist_5k", 28)
    assert max(np.max(pictures.picture(i)) for i in range(20)) == 255
    assert Counter(pictures.labels.tolist()) == dict.fromkeys(range(10), 500)


# --- Resizing


@pytest.mark.parametrize("shape", [(5, 9), (40, 17), (24, 24), (100, 301)])
def test_resizing_is_bilinear_antialiased_and_without_crop_as_in_pil(shape, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    image = load_images(f"folder:{tmp_path}", 24)[0][0]
    resized = Image.fromarray(pixels).resize((24, 24), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(image, by_hand(resized), atol=1.01 * LEVEL)  # PIL rounds twice
    assert torch.equal(normalise(Image.fromarray(pixels), 24), image)
    assert torch.equal(normalise(pixels, 24), image)


def test_a_uniform_image_stays_uniform(tmp_path):
    color = (10, 128, 250)
    Image.new("RGB", (37, 11), color).save(tmp_path / "a.png")
    image = load_images(f"folder:{tmp_path}", 16)[0][0]
    expected = np.broadcast_to(((np.array(color) / 255 - MEAN) / STD)[:, None, None], (3, 16, 16))
    np.testing.assert_allclose(image, expected, atol=1e-5)


# --- The draw


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1797), st.integers(0, 2**32))
def test_a_draw_has_no_repeats_and_is_as_even_over_classes_as_these_allow(n_images, seed):
    everything = open_images("digits", 8)
    drawn = open_images("digits", 8, n_images, seed)
    assert len(drawn) == n_images
    assert (np.diff(drawn.indices) > 0).all()  # ascending, none twice
    np.testing.assert_array_equal(drawn.labels, everything.labels[drawn.indices])
    counts = np.bincount(drawn.labels, minlength=10)
    left = np.bincount(everything.labels, minlength=10) - counts
    assert all(counts[c] >= counts.max() - 1 for c in range(10) if left[c])
    assert torch.equal(drawn[0][0], everything[int(drawn.indices[0])][0])


@pytest.mark.parametrize("n_images", [13, 4995])
def test_a_draw_from_equal_classes_is_balanced_within_one(n_images):
    counts = np.bincount(open_images("mnist_5k", 28, n_images, 1).labels, minlength=10)
    assert np.ptp(counts) <= 1


def test_a_draw_depends_on_the_seed_and_only_on_it():
    draws = [open_images("digits", 8, 10, seed).indices for seed in range(20)]
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    np.testing.assert_array_equal(draws[3], open_images("digits", 8, 10, 3).indices)
    assert len({tuple(draw) for draw in draws}) == 20
    # A single image may be of any class, and any image of it.
    single = [open_images("digits", 8, 1, seed) for seed in range(60)]
    assert len({int(one.labels[0]) for one in single}) >= 8
    assert len({int(one.indices[0]) for one in single}) >= 50
    before = torch.get_rng_state()
    load_images("digits", 8, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_draw_of_all_is_the_fixed_order():
    images, labels = load_images("cifar10_samples", 32)
    drawn, drawn_labels = load_images("cifar10_samples", 32, 20, 5)
    assert torch.equal(images, drawn)
    assert torch.equal(labels, drawn_labels)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"n_images": 1798}, "1798 images asked for, but digits has 1797"),
        ({"n_images": 0}, "n_images is 0; accepted: None, or a whole number from 1"),
        ({"n_images": -1}, "n_images is -1; accepted"),
        ({"n_images": 2.0}, r"n_images is 2\.0; accepted"),
        ({"n_images": True}, "n_images is True; accepted"),
        ({"size": 0}, "image size is 0; accepted: a whole number of pixels, at least 1"),
        ({"size": 8.0}, r"image size is 8\.0; accepted"),
        ({"size": None}, "image size is None; accepted"),
        ({"size": True}, "image size is True; accepted"),
        (
            {"size": 10**6},
            r"image size is 1000000, for which 1 image would take 24,000 GB of memory; accepted: "
            r"here, which has \d+ GB, at most \d+",
        ),
    ],
)
def test_numbers_that_are_refused(keywords, message, tmp_path, no_network):
    grey(1).save(tmp_path / "a.png")
    # Before a download, too. How many there are is known only afterwards.
    names = ["digits", f"folder:{tmp_path}", "mnist"]
    for name in names[:1] if "has 1797" in message else names:
        for function in (load_images, open_images):
            with pytest.raises(ValueError, match=message):
                function(name, **keywords)


def test_as_many_images_are_loaded_at_once_as_the_memory_takes(monkeypatch):
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 24 * 300, "SC_PAGE_SIZE": 16**2}.get)
    assert load_images("digits", 16, 300)[0].shape == (300, 3, 16, 16)
    assert len(open_images("digits", 16)) == 1797  # one by one
    with pytest.raises(ValueError, match=r"1797 images would .*; accepted: here, .* at most 6$"):
        load_images("digits", 16)


def test_whole_numbers_of_numpy_are_whole_numbers():
    assert load_images("digits", np.int64(9), np.int32(2))[0].shape == (2, 3, 9, 9)


def test_images_are_a_sequence_for_loops_and_loaders():
    opened = open_images("cifar10_samples", 8)
    images, labels = next(iter(torch.utils.data.DataLoader(opened, batch_size=20)))
    assert torch.equal(images, torch.stack([image for image, _ in opened]))
    np.testing.assert_array_equal(labels, opened.labels)
    for i in (-1, 20):
        with pytest.raises(IndexError, match=f"image {i} of 20"):
            opened[i]


@pytest.mark.parametrize("name", ["imagenet", "MNIST", "", None, ["mnist"]])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ValueError, match="unknown data set") as caught:
        load_images(name)
    assert all(known in str(caught.value) for known in (*dataset_names(), "folder:PATH"))


# --- A folder of one's own


def test_folders_right_below_are_the_classes(tmp_path):
    # Written in another order than the one they are read in.
    for name, level in [("b/z.png", 4), ("b/deep/er/a.jpg", 3), ("a/2.PNG", 2), ("a/1.bmp", 1)]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        grey(level * 40).save(path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("no image")
    images, labels = load_images(f"folder:{tmp_path}", 8)
    assert levels(images) == [40, 80, 120, 160]
    assert labels.tolist() == [0, 0, 1, 1]
    half, half_labels = load_images(f"folder:{tmp_path}", 8, 2)
    assert half_labels.tolist() == [0, 1]
    assert len(half) == 2


def test_a_folder_without_class_folders_has_no_labels(tmp_path):
    grey(50).save(tmp_path / "b.png")
    (tmp_path / "a").mkdir()
    grey(100).save(tmp_path / "a" / "c.png")
    images, labels = load_images(f"folder:{tmp_path}", 8)
    assert sorted(levels(images)) == [50, 100]
    assert labels is None
    told = "no picture has a label, since 1 of 2 are in no class folder, such as b.png$"
    with pytest.warns(UserWarning, match=told):
        image, label = open_images(f"folder:{tmp_path}", 8)[0]
    assert image.shape == (3, 8, 8)
    assert label == -1
    assert open_images(f"folder:{tmp_path}", 8, 1, 3).labels is None
    with pytest.raises(ValueError, match=r"3 images asked for, but folder:.* has 2"):
        load_images(f"folder:{tmp_path}", 8, 3)


def test_a_path_with_a_tilde_and_spaces(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "my own pictures: 1").mkdir()
    grey(7).save(tmp_path / "my own pictures: 1" / "a b.png")
    assert levels(load_images("folder:~/my own pictures: 1", 8)[0]) == [7]
    monkeypatch.chdir(tmp_path)
    assert levels(load_images("folder:my own pictures: 1", 8)[0]) == [7]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_pictures_of_every_mode_become_rgb(mode, tmp_path):
    Image.new("RGB", (9, 7), "white").convert(mode).save(
        tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    )
    assert levels(load_images(f"folder:{tmp_path}", 8)[0]) == [255]


@pytest.mark.parametrize(
    ("file", "pixels"),
    [
        ("a.png", np.full((8, 8), 128 * 257, dtype=np.uint16)),
        ("a.tiff", np.full((8, 8), 128 * 257, dtype=np.int32)),
        ("a.tiff", np.full((8, 8), 128 / 255, dtype=np.float32)),
    ],
)
def test_pictures_of_more_than_8_bits_are_never_cut_in_silence(file, pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / file)
    try:
        images, _ = load_images(f"folder:{tmp_path}", 8)
    except ValueError as error:
        message = str(error)
    else:
        message = file if levels(images) == [128] else "neither read rightly nor refused"
    assert file in message


def encoded(kind, mode="RGB", **options):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(file, kind, **options)
    return file.getvalue()


def truncated(kind):
    return encoded(kind)[:1500]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("text.png", b"no image at all"),
        ("empty.jpg", b""),
        ("half.png", truncated("png")),
        ("half.jpg", truncated("jpeg")),
        ("half.bmp", truncated("bmp")),
        ("pipe.png", lambda path: os.mkfifo(path)),  # where reading would never end
        ("socket.png", lambda path: os.mknod(path, stat.S_IFSOCK | 0o600)),
        ("device.png", lambda path: Path(path).symlink_to("/dev/zero")),
    ],
)
def test_files_that_only_look_like_images_are_named_and_skipped(file, content, tmp_path):
    grey(1).save(tmp_path / "a.png")
    content(tmp_path / file) if callable(content) else (tmp_path / file).write_bytes(content)
    (tmp_path / "z").mkdir()
    grey(2).save(tmp_path / "z" / "z.png")
    with pytest.warns(UserWarning, match=rf"skipped {file} \(") as caught:
        opened = open_images(f"folder:{tmp_path}", 8)
    assert len(caught) == 1
    assert list(opened.skipped) == [file]
    assert [image.shape for image, _ in opened] == [(3, 8, 8)] * 2
    # Where it would have been drawn, another picture is.
    for seed in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            images, _ = load_images(f"folder:{tmp_path}", 8, 2, seed)
        assert levels(images) == [1, 2]
    with (
        pytest.warns(UserWarning, match=file),
        pytest.raises(ValueError, match=r"3 images asked for, but .* has 2"),
    ):
        load_images(f"folder:{tmp_path}", 8, 3)


def test_a_file_that_is_mended_is_read_again(tmp_path):
    grey(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"not yet")
    with pytest.warns(UserWarning, match="b.png"):
        load_images(f"folder:{tmp_path}", 8)
    grey(2).save(tmp_path / "b.png")
    assert levels(load_images(f"folder:{tmp_path}", 8)[0]) == [1, 2]


def test_of_many_files_that_are_no_pictures_ten_are_named(tmp_path):
    grey(1).save(tmp_path / "a.png")
    for number in range(12):
        (tmp_path / f"{number:02}.txt").write_text("no image")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.warns(UserWarning, match=r"09.txt \(its name .*\), and 3 more$"):
        opened = open_images(f"folder:{tmp_path}", 8)
    assert opened.skipped["gone.png"] == "No such file or directory"
    assert len(opened) == 1


def orientations():
    """Pictures by kind and the orientation that they tell."""
    for number in range(10):
        exif = Image.Exif()
        exif[0x0112] = number
        for kind in ("jpeg", "png", "webp", "tiff", "mpo"):
            more = {"lossless": True} if kind == "webp" else {}
            # A picture of two (mpo) has the name of a JPEG.
            end = kind.replace("mpo", "jpg")
            yield f"{kind}{number}.{end}", encoded(kind, exif=exif, **more)
        for kind in ("png", "tiff"):
            yield f"grey{number}.{kind}", encoded(kind, "L", exif=exif)
        xmp = f'<tiff:Orientation>{number}</tiff:Orientation> tiff:Orientation="{number}"'
        yield f"xmp{number}.jpeg", encoded("jpeg", xmp=xmp.encode())
        info = PngInfo()
        raw = exif.tobytes()
        info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n")
        yield f"raw{number}.png", encoded("png", pnginfo=info)


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    for file, content in orientations():
        (tmp_path / file).write_bytes(content)
    opened = open_images(f"folder:{tmp_path}", 8)
    assert len(opened) == 90
    found = dict(zip(opened.files, map(opened.picture, range(90)), strict=True))
    for file, picture in found.items():
        with Image.open(io.BytesIO((tmp_path / file).read_bytes())) as image:
            np.testing.assert_array_equal(picture, ImageOps.exif_transpose(image).convert("RGB"))
        if file.startswith(("tiff", "webp", "raw")):
            np.testing.assert_array_equal(picture, found[f"png{Path(file).stem[-1]}.png"])
        if file.startswith("grey"):  # a TIFF that PIL would map into memory, and scramble
            np.testing.assert_array_equal(picture, found[f"{Path(file).stem}.png"])
    sizes = Counter(picture.size for picture in found.values())
    assert sizes == {(48, 64): 54, (64, 48): 36}


def directory(tags, order="<", tail=b""):
    """An EXIF block with these tags, each (number, type, count, four bytes)."""
    entries = [struct.pack(f"{order}HHL4s", *tag) for tag in tags]
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}L", 8)
    return start + struct.pack(f"{order}H", len(tags)) + b"".join(entries) + bytes(4) + tail


ON_ITS_SIDE = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
RATIONAL = (0x011A, 5, 1, struct.pack("<L", 8))
NUMBERS = st.sampled_from([0x0112, 0x011A, 0x0128, 0x010F, 0x8769, 0x8825, 0xA005])
TAGS = st.tuples(
    NUMBERS | st.integers(0, 0xFFFF),
    st.integers(0, 18),
    st.sampled_from([0, 1, 2, 8, 2**31, 2**32 - 1]),
    st.sampled_from([bytes(4), b"\6\0\0\0", b"\0\6\0\0", b"\x08\0\0\0"]) | st.binary(max_size=4),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["jpeg", "png", "webp", "mpo"]),
    st.builds(directory, st.lists(TAGS, max_size=5), st.sampled_from("<>"), st.binary(max_size=24))
    | st.binary(max_size=40),
)
# Malformed beside the one that counts: a rational out of range, a pointer that is none, a text.
@example("jpeg", directory([ON_ITS_SIDE, (0x8825, 2, 4, b"GPS\0")]))
@example("png", directory([ON_ITS_SIDE, (0x8769, 5, 1, b"\x08\0\0\0")]))
@example("webp", directory([ON_ITS_SIDE, (0x011A, 11, 1, b"\0\0\xc0\x7f")]))
@example("jpeg", directory([ON_ITS_SIDE, RATIONAL, (0x8825, 4, 1, b"\xff\xff\xff\xff")]))
@example("jpeg", directory([(0x0112, 5, 1, b"\x08\0\0\0")]))
@example("jpeg", directory([(0x0112, 3, 2**31, b"\6\0\0\0")]))
def test_what_is_taken_for_a_picture_can_be_read_whatever_its_camera_wrote(tmp_path, kind, exif):
    file = tmp_path / "a.jpg"  # the content tells
    file.write_bytes(encoded(kind, exif=b"Exif\0\0" + exif))
    grey(1).save(tmp_path / "b.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PIL, too
        opened = open_images(f"folder:{tmp_path}", 8)
        assert [*opened.files, *opened.skipped] in ([file.name, "b.png"], ["b.png", file.name])
        pictures = [opened.picture(i) for i in range(len(opened))]
        if exif.startswith(directory([ON_ITS_SIDE])[10:22], 10):
            assert pictures[0].size == (64, 48)
        try:
            with Image.open(file) as image:
                expected = ImageOps.exif_transpose(image)
        except Exception:  # it writes all tags anew, which fails on some
            return
    np.testing.assert_array_equal(pictures[0], expected)


def test_a_file_that_is_another_when_it_is_read_is_named(tmp_path):
    for name in "ab":
        grey(1).save(tmp_path / f"{name}.png")
    opened = open_images(f"folder:{tmp_path}", 8)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png is not a readable image: not in"):
        opened[0]
    (tmp_path / "b.png").unlink()
    os.mkfifo(tmp_path / "b.png")
    for read in (opened.__getitem__, opened.content):
        with pytest.raises(ValueError, match=r"b\.png is gone"):
            read(1)


class FakeHeif(PngImageFile):
    """What stands for a picture of this kind where the plugin is not installed."""

    format, format_description = "HEIF", "HEIF"


@pytest.mark.parametrize("installed", [True, False])
def test_heic_needs_a_plugin(installed, tmp_path, monkeypatch):
    def register():
        monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])
        monkeypatch.setitem(Image.OPEN, "HEIF", (FakeHeif, None))
        monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")

    plugin = SimpleNamespace(register_heif_opener=register) if installed else None
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    (tmp_path / "A.HEIC").write_bytes(encoded("png"))
    (tmp_path / "b.jpg").write_bytes(b"\0\0\0\x18ftypheic")
    grey(1).save(tmp_path / "c.png")
    with pytest.warns(UserWarning, match=r"skipped .*b\.jpg \("):
        opened = open_images(f"folder:{tmp_path}", 8)
    needed = "HEIC, which pillow-heif reads: pip install pillow-heif"
    if installed:
        assert opened.files == ["A.HEIC", "c.png"]
        assert opened.skipped == {"b.jpg": "not in a readable format"}
    else:
        assert opened.files == ["c.png"]
        assert opened.skipped == {"A.HEIC": needed, "b.jpg": needed}


def test_heic_is_read(tmp_path):
    pytest.importorskip("pillow_heif")
    write(tmp_path, "a.png")
    open_images(f"folder:{tmp_path}", 8)  # which lets PIL know of it
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.heic").write_bytes(encoded("heif", exif=exif.tobytes()))
    assert open_images(f"folder:{tmp_path}", 8).picture(0).size == (64, 48)


@pytest.mark.parametrize(
    "other", ["b/report.pdf", "b/._a.png", ".thumbnails/a.png", "a/.ipynb_checkpoints/a.png"]
)
def test_what_lies_beside_the_images_is_left_alone(other, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        grey(9).save(tmp_path / name / "a.png")
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_bytes(b"%PDF, or whatever a file manager left here")
    images, labels = load_images(f"folder:{tmp_path}", 8)
    assert levels(images) == [9, 9]
    assert labels.tolist() == [0, 1]


def write(root, *names):
    """Pictures of one grey, each somewhat lighter than the last."""
    for number, name in enumerate(names, 1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        grey(number).save(path, "png")


def test_links_are_followed_each_folder_once(tmp_path):
    root = tmp_path / "root"
    write(root, "a/1.png", "c/2.png")
    write(tmp_path, "elsewhere/3.png", "elsewhere/deep/4.png", "one.png")
    for link, target in {
        "b": tmp_path / "elsewhere",
        "again": "b",  # also after what it leads to
        "a/loop": "..",
        "a/self": "self",
        "c/up": tmp_path,  # where it lies in
        "c/single.png": tmp_path / "one.png",
        "c/same.png": "2.png",  # of two names each is one of the data set
        "c/nothing": "nowhere",
        "c/nothing.png": "nowhere.png",
        "elsewhere": tmp_path / "elsewhere" / "deep",
    }.items():
        (root / link).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    with pytest.warns(UserWarning, match=r"skipped .*a/loop \(a link to \., and each folder"):
        opened = open_images(f"folder:{root}", 8)
    files = ["a/1.png", "again/3.png", "again/deep/4.png"]
    files += ["c/2.png", "c/same.png", "c/single.png"]
    assert opened.files == files
    assert opened.labels.tolist() == [0, 1, 1, 2, 2, 2]
    assert opened.skipped == {
        "b": "a link to again, and each folder is read once",
        "elsewhere": "a link to again/deep, and each folder is read once",
        "a/loop": "a link to ., and each folder is read once",
        "c/up": "a link to a folder that contains it",
        "again/back": "a link to ., and each folder is read once",
        "a/self": "a link that leads nowhere",
        "c/nothing": "a link that leads nowhere",
        "c/nothing.png": "No such file or directory",
    }


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError("no way in")])
@pytest.mark.parametrize("which", [".", "b"])
def test_a_folder_that_cannot_be_read_is_named(which, error, tmp_path, monkeypatch):
    write(tmp_path, "a/1.png", "b/2.png")
    scandir = os.scandir

    def refusing(path):
        if Path(path) == tmp_path / which:
            raise error
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    reason = error.strerror or "no way in"
    if which == ".":
        with pytest.raises(ValueError, match=rf"no image files in .*: \. \({reason}\); accepted"):
            open_images(f"folder:{tmp_path}", 8)
    else:
        with pytest.warns(UserWarning, match=rf"skipped b \({reason}\)$"):
            opened = open_images(f"folder:{tmp_path}", 8)
        assert opened.files == ["a/1.png"]


ODD = [
    b"f\xe9.png",
    b"two\nlines.png",
    b"\x1b[31mred.png",
    "t\u00e9\u202f`x\\xe9.png".encode(),
    b"\xff/d.png",
]


def test_names_can_be_written_whatever_their_bytes(tmp_path):
    write(tmp_path, *(os.fsdecode(name) for name in ODD))
    write(tmp_path, *(os.fsdecode(name.replace(b"png", b"txt")) for name in ODD[:3]))
    with pytest.warns(UserWarning, match="skipped") as caught:
        opened = open_images(f"folder:{tmp_path}", 8)
    assert opened.files == [
        "\\x1b[31mred.png",
        "f\\xe9.png",
        "two\\nlines.png",
        "t\u00e9\u202f`x\\xe9.png",
        "\\xff/d.png",
    ]
    assert [image.shape for image, _ in opened] == [(3, 8, 8)] * 5
    assert len(opened.skipped) == 3
    for text in [*opened.files, *opened.skipped, *(str(w.message) for w in caught)]:
        text.encode()
        assert text.splitlines() == [text]
        assert "\x1b" not in text
    written = tmp_path / "a.nc"
    coords = {"file": ("image", opened.files)}
    xr.DataArray(np.zeros(5), dims="image", coords=coords).to_netcdf(written, engine="scipy")
    assert xr.open_dataarray(written)["file"].values.tolist() == opened.files
    (tmp_path / os.fsdecode(ODD[0])).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"f\\xe9\.png is not a readable image"):
        opened.picture(1)


@pytest.mark.parametrize(
    ("made", "pictures", "said"),
    [
        (["searchindex.js"], ["_static/a.png", "_images/b.PNG"], "a rendered page: 2 pictures"),
        (["html/x.html"], ["jupyter_execute/b.png"], None),
        ([OUTPUT_MARK], ["a.png"], "made by topobook profile: 1 picture"),
        ([OUTPUT_MARK, "profile.nc"], [], None),  # nothing is lost
    ],
)
def test_what_was_made_from_pictures_is_none_of_them(made, pictures, said, tmp_path):
    write(tmp_path, "_static/1.png", "mine/searchindex.png", "mine/_static/2.png")
    kept = open_images(f"folder:{tmp_path}", 8).files
    write(tmp_path / "mine" / "out", *pictures)
    for file in made:
        (tmp_path / "mine" / "out" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / "out" / file).write_text("made")
    place = "mine/out"
    if "html/x.html" in made:
        place, said = "mine/out/jupyter_execute", "a rendered page: 1 picture"
    (tmp_path / "into").symlink_to(tmp_path / place / "_static")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened = open_images(f"folder:{tmp_path}", 8)
    assert opened.files == kept
    assert opened.skipped.get(place) == said
    assert (said is None) == all(place not in str(w.message) for w in caught)


def test_nothing_is_read_of_a_page_nor_below_what_is_left_out(tmp_path):
    write(tmp_path, "a/1.png", "out/2.png", "out/b/3.png")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for out in ("out", "link"):
        with pytest.warns(UserWarning, match=r"out \(made by topobook profile: 2 pictures\)"):
            opened = open_images(f"folder:{tmp_path}", 8, leave_out=tmp_path / out)
        assert opened.files == ["a/1.png"]
    # The folder itself, or one that it lies in, is what was asked for.
    for out in (tmp_path / "out", tmp_path, tmp_path / "nowhere"):
        opened = open_images(f"folder:{tmp_path / 'out'}", 8, leave_out=out)
        assert opened.files == ["2.png", "b/3.png"]
    (tmp_path / "out" / "_static").mkdir()
    (tmp_path / "out" / "searchindex.js").write_text("made")
    with pytest.raises(ValueError, match=r"no image files in .*: \. \(a rendered page: 2 pic"):
        open_images(f"folder:{tmp_path / 'out'}", 8)


def test_no_file_stays_open(tmp_path):
    grey(9).save(tmp_path / "a.gif")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_images(f"folder:{tmp_path}", 8)
        gc.collect()
    assert not [w for w in caught if issubclass(w.category, ResourceWarning)]


def test_a_folder_without_a_name_is_not_the_current_one(tmp_path, monkeypatch):
    grey(1).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"folder: is not a folder; accepted: .*such as folder:\.$"
    ):
        load_images("folder:", 8)
    assert levels(load_images("folder:.", 8)[0]) == [1]


def test_folders_that_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nonesuch is not a folder; accepted: folder:PATH"):
        load_images(f"folder:{tmp_path / 'nonesuch'}")
    (tmp_path / "notes.txt").write_text("no image")
    told = r"no image files in .*: notes.txt \(its name is not that .*; accepted: \.jpg, \.png"
    with pytest.raises(ValueError, match=told):
        load_images(f"folder:{tmp_path}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no image files in .* that can be read; accepted"):
        load_images(f"folder:{tmp_path / 'empty'}")
    # Names that no system takes, too.
    for name in (
        tmp_path / "notes.txt",
        "x" * 300,
        "a/" * 3000,
        "~nobody-here/x",
        "a\0b",
        "\ud800",
    ):
        with pytest.raises(ValueError, match=r"is not a folder; accepted: folder:PATH") as caught:
            load_images(f"folder:{name}")
        assert str(caught.value).isprintable()


# --- Through torchvision: on disk, and without a network


def refuse(error):
    def call(*_, **__):
        raise error

    return call


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", refuse(URLError("no route to host")))
    monkeypatch.setattr("socket.socket.connect", refuse(OSError("no route to host")))


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("download", [True, False])
def test_without_a_network_the_embedded_sets_are_named(name, download, tmp_path, no_network):
    with pytest.raises(ConnectionError, match=f"data set {name} is not in") as caught:
        load_images(name, root=tmp_path / "new", download=download)
    message = str(caught.value)
    for part in (
        *EMBEDDED_DATASETS,
        "folder:PATH",
        str(tmp_path),
        "Without an internet connection",
    ):
        assert part in message
    assert ("could not be downloaded" in message) is download
    assert ("download=False" in message) is not download


def idx(array):
    """The file format of MNIST."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">i4").tobytes()
    return header + array.tobytes()


def write_mnist(root, folder="MNIST"):
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels = np.array(SHADES if part == "t10k" else [1], dtype=np.uint8)
        pixels = np.repeat(pixels, 28 * 28).reshape(-1, 28, 28)
        labels = np.array(LABELS if part == "t10k" else [1], dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


def write_cifar(root, folder, test, meta, names, labels):
    base = root / folder
    base.mkdir()
    data = np.repeat(np.array(SHADES, dtype=np.uint8), 3072).reshape(-1, 3072)
    (base / test).write_bytes(pickle.dumps({"data": data, labels: LABELS}))
    (base / meta).write_bytes(pickle.dumps({names: list("abc")}))


def write_svhn(root):
    pixels = np.broadcast_to(np.array(SHADES, dtype=np.uint8), (32, 32, 3, len(SHADES)))
    savemat(root / "test_32x32.mat", {"X": pixels, "y": np.array(LABELS)[:, None]})


def write_stl10(root):
    base = root / "stl10_binary"
    base.mkdir()
    np.repeat(np.array(SHADES, dtype=np.uint8), 3 * 96 * 96).tofile(base / "test_X.bin")
    (np.array(LABELS, dtype=np.uint8) + 1).tofile(base / "test_y.bin")


def write_pictures(folder, names, suffix=".jpg"):
    for name, shade in zip(names, SHADES, strict=True):
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey(shade).save(path, quality=100)


def write_dtd(root):
    base = root / "dtd" / "dtd"
    names = [f"class{label}/{i}" for i, label in enumerate(LABELS)]
    write_pictures(base / "images", names)
    (base / "labels").mkdir()
    (base / "labels" / "test1.txt").write_text("\n".join(f"{name}.jpg" for name in names))


def write_aircraft(root):
    base = root / "fgvc-aircraft-2013b" / "data"
    write_pictures(base / "images", range(len(SHADES)))
    (base / "variants.txt").write_text("Type 0\nType 1\nType 2\n")
    lines = [f"{i} Type {label}\n" for i, label in enumerate(LABELS)]
    (base / "images_variant_test.txt").write_text("".join(lines))


def write_caltech(root):
    base = root / "caltech101" / "101_ObjectCategories"
    names = [f"class{label}/image_{LABELS[:i].count(label) + 1:04d}" for i, label in ENUMERATED]
    write_pictures(base, names)
    (base / "BACKGROUND_Google").mkdir()


def write_food(root):
    base = root / "food-101"
    names = [f"class{label}/{i}" for i, label in ENUMERATED]
    write_pictures(base / "images", names)
    (base / "meta").mkdir()
    classes = {name.split("/")[0]: [] for name in names}
    for name in names:
        classes[name.split("/")[0]].append(name)
    (base / "meta" / "test.json").write_text(json.dumps(classes))


def write_flowers(root):
    base = root / "flowers-102"
    write_pictures(base / "jpg", [f"image_{i + 1:05d}" for i, _ in ENUMERATED])
    savemat(base / "imagelabels.mat", {"labels": np.array([LABELS]) + 1})
    savemat(base / "setid.mat", {"tstid": np.array([[i + 1 for i, _ in ENUMERATED]])})


def write_pets(root):
    base = root / "oxford-iiit-pet"
    names = [f"breed{label}_{i}" for i, label in ENUMERATED]
    write_pictures(base / "images", names)
    (base / "annotations").mkdir()
    lines = [f"{name} {label + 1} 1 1\n" for name, label in zip(names, LABELS, strict=True)]
    (base / "annotations" / "test.txt").write_text("".join(lines))


#: Five uniform images of three classes, in the format of each data set.
LABELS = [2, 0, 1, 0, 2]
ENUMERATED = list(enumerate(LABELS))
SHADES = [10, 60, 110, 160, 210]
WRITERS = {
    "mnist": write_mnist,
    "fashion_mnist": lambda root: write_mnist(root, "FashionMNIST"),
    "cifar10": lambda root: write_cifar(
        root, "cifar-10-batches-py", "test_batch", "batches.meta", "label_names", "labels"
    ),
    "cifar100": lambda root: write_cifar(
        root, "cifar-100-python", "test", "meta", "fine_label_names", "fine_labels"
    ),
    "svhn": write_svhn,
    "stl10": write_stl10,
    "dtd": write_dtd,
    "fgvc_aircraft": write_aircraft,
    "caltech101": write_caltech,
    "food101": write_food,
    "flowers102": write_flowers,
    "oxford_pets": write_pets,
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_set_that_is_on_disk_needs_no_network(name, tmp_path, no_network, monkeypatch):
    for module in ("cifar", "svhn", "stl10", "flowers102"):  # the files are not the real ones
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)
    WRITERS[name](tmp_path)
    images, labels = load_images(name, 12, root=tmp_path)
    assert images.shape == (5, 3, 12, 12)
    found = list(zip(labels.tolist(), levels(images), strict=True))
    expected = list(zip(LABELS, SHADES, strict=True))
    assert sorted(found) == sorted(expected)
    # Caltech-101 and Food-101 come class by class, the others in the order of their lists.
    assert found == expected or name in ("caltech101", "food101")
    assert labels.dtype == torch.int64
    drawn, drawn_labels = load_images(name, 12, 3, root=str(tmp_path), download=False)
    assert sorted(drawn_labels.tolist()) == [0, 1, 2]
    assert set(levels(drawn)) < set(SHADES)


@pytest.mark.parametrize("where", ["root", "variable", "home"])
def test_a_set_that_is_not_on_disk_is_downloaded_where_it_belongs(where, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("TOPO_UTILS_DATA", raising=False)
    monkeypatch.setattr(tv.MNIST, "download", lambda self: write_mnist(Path(self.root)))
    folder, root = tmp_path / ".cache" / "topo_utils", None
    if where == "root":
        folder = root = tmp_path / "a" / "b"
    elif where == "variable":
        folder = tmp_path / "c"
        monkeypatch.setenv("TOPO_UTILS_DATA", str(folder))
    assert levels(load_images("mnist", 8, root=root)[0]) == SHADES
    assert (folder / "MNIST" / "raw").is_dir()


def test_a_root_with_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr(tv.MNIST, "download", lambda self: write_mnist(Path(self.root)))
    load_images("mnist", 8, root="~/data")
    assert (tmp_path / "data" / "MNIST").is_dir()
    assert os.listdir(tmp_path / "work") == []


# --- Published tables


def test_the_published_table_is_consistent():
    table = published_table("suresh2023_cifar10_betti")
    assert set(table.model) == {
        *("vgg16", "resnet18", "resnet50", "resnet101", "resnet152"),
        *("densenet121", "densenet169", "densenet201", "mobilenet_v2"),
    }
    for _, rows in table.groupby("model"):
        np.testing.assert_array_equal(rows.block, range(1, len(rows) + 1))
    total = table[["betti0_mean", "betti1_mean", "betti2_mean"]].sum(axis=1)
    np.testing.assert_allclose(table.omega_mean, total, rtol=1e-4)


@pytest.mark.parametrize("name", ["nonesuch", "", "../complexity", "README", None])
def test_unknown_tables_list_the_known_ones(name):
    with pytest.raises(ValueError, match=r"unknown table .*; known: .*suresh2023_cifar10_betti"):
        published_table(name)


def test_grey_pictures_are_those_of_the_data_set():
    pictures, labels = grey_pictures("digits", 20, seed=1)
    opened = open_images("digits", n_images=20, seed=1)
    assert pictures.shape == (20, 8, 8)
    assert pictures.dtype == np.uint8
    for i, picture in enumerate(pictures):  # grey in RGB: all channels are equal
        assert (np.asarray(opened.picture(i)) == picture[..., None]).all()
    assert np.array_equal(labels, opened.labels)


def test_grey_pictures_of_several_sizes_or_without_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="several sizes"):
        grey_pictures("imagenet_samples")
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no labels"):
        grey_pictures(f"folder:{tmp_path}")
