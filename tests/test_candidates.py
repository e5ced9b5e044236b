"""The small networks that come with the package: their files, and the command that makes them."""

import gzip
import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open

from topo_utils import candidates, load_images, load_model
from topo_utils.__main__ import main
from topo_utils.candidates import CANDIDATES, SmallNetwork, candidate_table
from topo_utils.weights.pretrain import fashion_mnist, pretrain


def idx_files(folder, n_images=40, seed=0):
    """Files as those of Fashion-MNIST: class k is bright in row k."""
    rng = np.random.default_rng(seed)
    for part in ("train", "t10k"):
        labels = rng.integers(10, size=n_images).astype(np.uint8)
        pixels = rng.integers(60, size=(n_images, 28, 28)).astype(np.uint8)
        pixels[np.arange(n_images), 2 * labels] = 255
        for kind, array in (("images", pixels), ("labels", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            file = folder / f"{part}-{kind}-idx{array.ndim}-ubyte.gz"
            file.write_bytes(gzip.compress(header + array.tobytes()))
    return folder


def test_there_are_nine_of_four_families_and_their_files_are_small():
    assert len(CANDIDATES) >= 9
    assert {family for family, *_ in CANDIDATES.values()} == {
        "residual",
        "plain",
        "depthwise",
        "dense",
    }
    assert list(candidate_table()) == list(CANDIDATES)
    files = [candidates._WEIGHTS / f"{name}.safetensors" for name in CANDIDATES]
    assert sum(file.stat().st_size for file in files) < 10e6
    for name, file in zip(CANDIDATES, files, strict=True):
        row = candidate_table()[name]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == row["sha256"]
        with safe_open(file, "pt") as content:
            assert "num_batches_tracked" in " ".join(content.keys())
        network = SmallNetwork(*CANDIDATES[name])
        assert sum(p.numel() for p in network.parameters()) == row["parameters"]


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_weights_classify_fashion_mnist(name):
    model = load_model(name)
    assert model.weights_name == f"Fashion-MNIST (SHA-256 {candidate_table()[name]['sha256'][:12]})"
    images, labels = load_images("fashion_mnist_samples", size=28)
    with torch.inference_mode():
        right = (model(images).argmax(1) == labels).double().mean()
        assert model.features(images).shape == (20, model.head.in_features)
    # The table says about 0.9; of 20 images, 14 or more are right with a probability of 0.999.
    assert right >= 0.7
    assert 0.85 < candidate_table()[name]["accuracy"] < 0.96


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    for file in [*candidates._WEIGHTS.glob("*.json"), *candidates._WEIGHTS.glob("*.safetensors")]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(candidates, "_WEIGHTS", tmp_path)
    load_model("fashion_plain_5")
    file = tmp_path / "fashion_plain_5.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights of fashion_plain_5 have SHA-256 .* was changed"):
        load_model("fashion_plain_5")
    file.write_bytes(pickle.dumps(load_model("fashion_dense_6").state_dict()))
    with pytest.raises(ValueError, match="was changed or is damaged"):
        load_model("fashion_plain_5")
    load_model("fashion_plain_5", weights="random")


@pytest.mark.slow
def test_pretraining_is_reproducible_and_learns(tmp_path):
    folder = idx_files(tmp_path, n_images=400)
    arguments = {"names": ["fashion_plain_5"], "epochs": 2, "n_jobs": 1}
    first = pretrain(folder, tmp_path / "a", seed=0, **arguments)
    again = pretrain(folder, tmp_path / "b", seed=0, **arguments | {"n_jobs": 1000})
    other = pretrain(folder, tmp_path / "c", seed=1, **arguments)
    name = "fashion_plain_5"
    assert first[name]["sha256"] == again[name]["sha256"] != other[name]["sha256"]
    assert first[name]["accuracy"] > 0.2  # chance is 0.1
    assert json.loads((tmp_path / "a" / "candidates.json").read_text()) == first


def test_fashion_mnist_is_read_as_it_is_distributed(tmp_path):
    images, labels = fashion_mnist(idx_files(tmp_path), "train")
    assert images.shape == (40, 3, 28, 28)
    assert images.dtype == torch.float32
    bright = images[:, 0].mean(dim=2).argmax(dim=1)
    torch.testing.assert_close(bright, 2 * labels)


def test_what_is_no_fashion_mnist_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz cannot be read .* Debian"):
        fashion_mnist(tmp_path, "train")
    idx_files(tmp_path)
    file = tmp_path / "t10k-labels-idx1-ubyte.gz"
    whole = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(whole[:-1]))
    with pytest.raises(ValueError, match="is no idx file of bytes with 1 axes, or is cut off"):
        fashion_mnist(tmp_path, "t10k")
    shorter = whole[:4] + np.array([39], ">i4").tobytes() + whole[8:-1]
    file.write_bytes(gzip.compress(shorter))
    with pytest.raises(ValueError, match=r"\(40, 28, 28\) images and \(39,\) labels"):
        fashion_mnist(tmp_path, "t10k")


def test_the_command_says_what_is_missing(tmp_path, capsys):
    assert main(["pretrain", str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("topobook: ")
    assert "\nNeeded: the four .gz files of Fashion-MNIST" in said
    assert not (tmp_path / "out").exists()


def test_unknown_candidates_list_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="no candidate resnet18; candidates: fashion_residual_4"):
        pretrain(tmp_path, tmp_path, names=["resnet18"])
