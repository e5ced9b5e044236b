"""`topobook profile`: a network and images of the user's own, from the command line."""

import html
import os
import re
import shutil
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from topo_utils import (
    block_shapes,
    embedding_profile,
    load_model,
    open_images,
    topological_complexity,
)
from topo_utils.__main__ import main
from topo_utils.datasets import OUTPUT_MARK

OWN = """\
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.two = nn.Conv2d(8, 12, 3, padding=1)
        self.activation = nn.ReLU(inplace=True)
        self.head = nn.Linear(12, 2)

    def forward(self, images):
        maps = self.activation(self.two(self.activation(self.one(images))))
        return self.head(maps.mean((2, 3)))


def grey():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())


def mistaken():
    raise RuntimeError("a mistake of one's own")
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with code and two photographs beside files that are none."""
    (tmp_path / "own_code.py").write_text(OWN)
    photographs = tmp_path / "photographs"
    (photographs / "été").mkdir(parents=True)
    for file, name in (("china.jpg", "a.jpg"), ("flower.jpg", "été/b c.png")):
        Image.fromarray(load_sample_image(file)).resize((96, 64)).save(photographs / name)
    (photographs / "broken.jpg").write_bytes((photographs / "a.jpg").read_bytes()[:900])
    (photographs / "notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOPO_UTILS_CODE", str(tmp_path))  # as the command sets it where it is not
    (tmp_path / "statistics.py").write_text("raise ImportError('this is not the library')\n")
    yield tmp_path
    sys.modules.pop("own_code", None)


def words(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page.read_text("utf-8"))).split())


NETWORKS = {
    "resnet18": ["--random-weights", "--size", "64"],
    "convnext_tiny": ["--random-weights", "--size", "64"],
    "vit_tiny_patch16_224": ["--random-weights"],
    "efficientnet_lite0": ["--size", "64"],
    "own_code:Network": ["--size", "32", "--thresholds", "0", "0.25"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_on_a_folder_of_photographs(place, capsys, name):
    if name.startswith("vit"):
        pytest.importorskip("timm")
    arguments = ["profile", "--model", name, "--images", "photographs", "-o", "out"]
    assert main([*arguments, "--compare-with", "efficientnet_lite1", *NETWORKS[name]]) == 0
    out, errors = capsys.readouterr()
    for file in ("profile.nc", "profile.csv", "profile.svg", "page/your_network.html"):
        assert f"{place / 'out' / file}: " in out
        assert (place / "out" / file).stat().st_size > 100
    assert re.search(
        r"Complexity (falls|rises|neither) .* Of the other networks, `efficientnet_", out
    )
    assert re.search(r"warning: .*skipped .*notes.txt \(.*broken.jpg \(", errors)
    assert "Traceback" not in errors

    # The same integers as by hand.
    weights = "random" if "--random-weights" in NETWORKS[name] else "pretrained"
    network = load_model(name, weights=weights)
    saved = xr.open_dataarray(place / "out" / "profile.nc").load()
    size = int(saved.attrs["image_size"].partition("x")[0])
    shapes, _ = block_shapes(network, size)
    with pytest.warns(UserWarning, match="skipped"):
        expected = embedding_profile(
            network,
            f"folder:{place / 'photographs'}",
            thresholds=saved["threshold"].values,
            blocks=list(shapes),
            image_size=size,
            progress=False,
        )
    assert np.array_equal(saved, expected)
    assert saved.dims == ("image", "block", "threshold", "degree")
    assert saved["block"].values.tolist() == list(shapes)
    assert saved["file"].values.tolist() == ["a.jpg", "été/b c.png"]
    assert saved.attrs["model"] == name
    found = list(
        zip(*(saved[side].values for side in ("channels", "height", "width")), strict=True)
    )
    assert found == list(shapes.values())

    table = pd.read_csv(place / "out" / "profile.csv")
    assert len(table) == saved.sizes["block"] * saved.sizes["threshold"]
    omega = topological_complexity(expected).mean("image").transpose("threshold", "block")
    np.testing.assert_allclose(table["Omega"], omega.values.ravel(), rtol=1e-4)
    assert (table.filter(like="shuffled") >= 0).all(axis=None)
    # Of its own code's weights nothing is known, and random ones are untrained themselves.
    assert ("Omega, untrained" in table) == (name == "efficientnet_lite0")

    text = words(place / "out" / "page" / "your_network.html")
    assert f"{name} ({network.weights_name})" in text
    assert "2 images of photographs" in text
    skipped = (
        "Skipped of the folder: notes.txt (its name is not that of a picture that can be read)"
    )
    assert f"{skipped}, broken.jpg (image file is truncated" in text
    assert "Of the other networks, efficientnet_lite1 has the curve" in text
    assert f"-p model {name}" in text or name == "efficientnet_lite0"


@pytest.mark.slow
def test_one_photograph_and_a_checkpoint(place, capsys):
    # Its folder is where the result goes, too, and no name is what it should be.
    (place / "photographs" / "a.jpg").unlink()
    bad = place / "photographs" / os.fsdecode(b"\xff")
    (place / "photographs" / "été").rename(bad)
    (bad / "b c.png").rename(bad / os.fsdecode(b"\xe9`\n.PNG"))
    (place / "photographs" / "notes.txt").rename(bad / os.fsdecode(b"\x1b[31m\xe9.txt"))
    torch.manual_seed(5)
    state = load_model("own_code:Network").state_dict()
    state = {key: torch.randn_like(value) for key, value in state.items()}
    save_file(state, place / "trained.safetensors")
    arguments = ["profile", "--model", "own_code:Network", "--checkpoint", "trained.safetensors"]
    arguments += [
        "--images",
        "photographs",
        "--size",
        "32",
        "--compare-with",
        "--blocks",
        "one|two",
    ]
    out = place / "photographs" / "out"
    assert main([*arguments, "-o", str(out)]) == 0
    told = capsys.readouterr()
    assert "own_code:Network (checkpoint trained.safetensors): 2 blocks" in told.out
    assert "1 image of" in told.out
    assert r"skipped \xff/\x1b[31m\xe9.txt (its name" in told.err
    saved = xr.open_dataarray(out / "profile.nc").load()
    assert saved["file"].values.tolist() == [r"\xff/\xe9`\n.PNG"]
    network = load_model("own_code:Network", checkpoint=place / "trained.safetensors")
    with pytest.warns(UserWarning, match="skipped"):
        expected = embedding_profile(
            network,
            f"folder:{place / 'photographs'}",
            thresholds=0.0,
            blocks=["one", "two"],
            image_size=32,
            progress=False,
        )
    assert np.array_equal(saved, expected)
    text = words(out / "page" / "your_network.html")
    assert r"Skipped of the folder: \xff/\x1b[31m\xe9.txt (its name" in text
    assert "for which one image gives no interval" in text
    assert "No other network was measured" in text
    table = pd.read_csv(out / "profile.csv")
    assert not np.allclose(table["Omega, untrained"], table["Omega"])
    assert table["standard error"].isna().all()
    # A second run goes to the same folder, and reads nothing of what is there.
    assert main([*arguments, "-o", str(out), "--seed", "1"]) == 0
    told = capsys.readouterr()
    assert "1 image of" in told.out
    assert re.search(r"skipped out \(made by topobook profile: \d+ pictures\), ", told.err)
    notebook = nbformat.read(out / "your_network.ipynb", 4)
    assert notebook.metadata.papermill.parameters["seed"] == 1
    again = xr.open_dataarray(out / "profile.nc").load()
    assert np.array_equal(saved, again)
    assert re.search(
        r"Skipped of the folder: out \(made by topobook profile: \d+ pictures\), ",
        words(out / "page" / "your_network.html"),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet19"], "unknown network 'resnet19'"),
        (["--model", "own_code:nothing"], "has no attribute 'nothing'"),
        (["--model", "own_code:mistaken"], "a mistake of one's own"),
        (["--model", "own_code:grey"], "does not take an image of 3 x 224 x 224"),
        (["--model", "resnet18", "--random-weights", "--blocks", "x.*"], "no module's whole name"),
        (["--model", "resnet18", "--random-weights", "--blocks", "("], "no regular expression"),
        (["--model", "resnet18", "--random-weights", "--blocks", "fc"], "a curve needs two"),
        (["--model", "resnet18", "--random-weights", "--n-images", "9"], "9 images asked for"),
        (["--model", "resnet18", "--random-weights", "--size", "0"], "--size is 0"),
        (["--model", "vit_b_16", "--random-weights", "--size", "64"], "Expected 224 but got 64"),
        (["--model", "fashion_plain_5", "--images", "nowhere"], "there is no folder nowhere"),
        (["--model", "fashion_plain_5", "--thresholds", "nan"], "threshold"),
        (["--model", "fashion_plain_5", "--compare-with", "resnet19"], "unknown network"),
        (["--model", "fashion_plain_5", "--checkpoint", "own_code.py"], "own_code.py cannot be"),
        (["--model", "fashion_plain_5", "-o", "own_code.py"], "own_code.py is a file"),
        (["--model", "fashion_plain_5", "-o", "x" * 300], "x: File name too long"),
        (["--model", "fashion_plain_5", "-o", "x/" * 3000 + "x"], "x: File name too long"),
        (["--model", "fashion_plain_5", "-o", os.fsdecode(b"\xe9")], "' is not in UTF-8"),
        (["--model", "fashion_plain_5", "--images", "x" * 300], "there is no folder x"),
        (["--model", "fashion_plain_5", "--images", "~nobody-here"], "there is no folder ~nobody"),
        (["--model", "fashion_plain_5", "--images", "folder:~nobody-here"], "is not a folder"),
        (["--model", "fashion_plain_5", "--images", "folder:"], "there is no folder folder:"),
        (["--model", "fashion_plain_5", "--size", "1000000"], "1 image would take 24,000 GB"),
        (["--model", "fashion_plain_5", "--size", "300"], "image size is 300, for which 1 image"),
        (["--model", "resnet19", "--n-images", "-5"], "--n-images is -5"),  # first of all
    ],
)
def test_what_cannot_be_profiled_is_said_before_anything_is_measured(
    place, capsys, monkeypatch, arguments, message
):
    if arguments[-1] == "300":  # an image fits, but not what the network makes of it
        monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 600, "SC_PAGE_SIZE": 2**12}.get)
    if "--images" not in arguments:
        arguments = [*arguments, "--images", "photographs"]
    if "-o" not in arguments:
        arguments = [*arguments, "-o", "out"]
    assert main(["profile", *arguments]) in (1, 2)
    errors = capsys.readouterr().err
    wrong, todo = errors.splitlines()[-2:]
    assert wrong.startswith("topobook: ")
    assert message in wrong
    assert len(todo) > 20
    assert message == "a mistake of one's own" or "--debug" not in todo  # it says what to do
    assert "Traceback" not in errors
    assert not (place / "out").exists()


def test_weights_that_cannot_be_fetched_name_the_option(place, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(place))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    assert main(["profile", "--model", "resnet18", "--images", "photographs", "-o", "out"]) == 1
    errors = capsys.readouterr().err
    assert "weights of resnet18 could not be fetched (no route to host)" in errors
    assert "--random-weights" in errors
    assert not (place / "out").exists()


@pytest.fixture
def told(monkeypatch):
    """Whether what a run would be told and would see, instead of a run."""

    class Told(Exception):
        pass

    def run(project, chapter, parameters, out):
        raise Told(parameters["dataset"])

    monkeypatch.setattr("topo_utils.book.Project.run", run)
    monkeypatch.setattr("topo_utils.__main__.explained", lambda error: error)


@pytest.mark.parametrize("images", ["photographs", "folder:photographs"])
def test_the_chapter_is_told_the_whole_place_of_the_images(place, told, capsys, images):
    assert main(["profile", "--model", "fashion_plain_5", "--images", images, "-o", "out"]) == 1
    assert capsys.readouterr().err.endswith(f"topobook: folder:{place / 'photographs'}\n")


@pytest.mark.parametrize(
    ("out", "count", "marked"),
    [
        ("photographs/out", 2, True),  # not there yet
        ("photographs/link/out", 2, True),
        ("photographs/été", 1, True),  # with a picture of the user's own, which is said
        ("photographs", 2, False),  # nor is it read below anything that was asked for
        (".", 2, False),
        ("elsewhere", 2, False),
    ],
)
def test_the_chapter_sees_the_images_that_were_counted(place, told, capsys, out, count, marked):
    (place / "elsewhere").mkdir()
    (place / "photographs" / "link").symlink_to(place / "elsewhere")
    for page in (place / "photographs", place / "elsewhere"):
        (page / "page" / "_static").mkdir(parents=True)
        (page / "page" / "searchindex.js").write_text("rendered")
        shutil.copy(place / "photographs" / "a.jpg", page / "page" / "_static" / "a.png")
    assert (
        main(["profile", "--model", "fashion_plain_5", "--images", "photographs", "-o", out]) == 1
    )
    said = capsys.readouterr()
    assert f"{count} image{'s' if count > 1 else ''} of {place / 'photographs'}\n" in said.out
    assert "page (a rendered page: 1 picture), " in said.err
    assert ("été (made by topobook profile: 1 picture)" in said.err) == (count == 1)
    assert (place / out / OUTPUT_MARK).exists() == marked
    with pytest.warns(UserWarning, match="skipped"):
        assert len(open_images(f"folder:{place / 'photographs'}", 8)) == count


def test_a_folder_is_meant_from_where_it_is_typed(place, monkeypatch):
    from topo_utils.book import Project

    project = Project(__file__.rpartition("tests")[0])
    values = project.resolve("depth_decay", texts=[("dataset", "folder:photographs")])
    assert values == {"dataset": f"folder:{place / 'photographs'}"}
