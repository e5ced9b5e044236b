"""Nothing is computed twice, nothing is lost: kills, damage, two runs at once, and what is kept."""

import importlib
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from topo_utils import embedding_profile, load_model
from topo_utils.__main__ import main
from topo_utils.store import cache_folder, list_cache, prune_cache


class Passes(nn.Module):
    """A layer that notes in a file each image that passes; one profile begins with one more."""

    def __init__(self, log):
        super().__init__()
        self.log = str(log)

    def forward(self, x):
        with open(self.log, "a") as log:
            log.write(".\n")
        return x


def network(log):
    torch.manual_seed(0)
    return nn.Sequential(Passes(log), nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).eval()


def images(count=12):
    return torch.randn(count, 3, 9, 10, generator=torch.Generator().manual_seed(1))


def profile(model, inputs, thresholds=0.0, **keywords):
    defaults = {"device": "cpu", "progress": False, "batch_size": 4}
    return embedding_profile(model, inputs, thresholds=thresholds, **defaults | keywords)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TOPO_UTILS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def count(tmp_path):
    """How many images pass through `network(count.log)` while a function runs."""

    def passes(function):
        count.log.write_text("")
        result = function()
        return count.log.read_text().count("."), result

    count = passes
    count.log = tmp_path / "log"
    return count


def profiles(cache):
    return sorted((cache / "profiles").glob("*.safetensors"))


def test_a_second_profile_is_read(cache, count):
    expected = profile(network(count.log), images(), cache=False)
    assert not cache.exists()
    passed, first = count(lambda: profile(network(count.log), images()))
    assert passed == 1 + 12
    assert len(profiles(cache)) == 3
    passed, again = count(lambda: profile(network(count.log), images()))
    assert passed == 1  # the image of noise by which the network is known
    xr.testing.assert_identical(first, expected)
    xr.testing.assert_identical(again, expected)


def test_batches_that_are_known_are_not_computed_again(cache, count):
    profile(network(count.log), images()[:8])
    passed, more = count(lambda: profile(network(count.log), images()))
    assert passed == 1 + 4
    other = images()
    other[5] += 1e-6
    passed, changed = count(lambda: profile(network(count.log), other))
    assert passed == 1 + 4
    np.testing.assert_array_equal(changed[:4], more[:4])


class Wired(nn.Module):
    """The same parts, wired in two ways, and printed alike."""

    def __init__(self, skip):
        super().__init__()
        self.first, self.skip = nn.Identity(), skip

    def forward(self, x):
        return self.first(-x if self.skip else x)


@pytest.mark.parametrize(
    "change",
    [
        {"thresholds": [0.1]},
        {"batch_norm": "per_image"},
        {"null": "volume"},
        {"null": "volume", "seed": 1},
        {"blocks": ["0"]},
        {"blocks": ["1", "0"]},
        {"inputs": images(4) * 1.0000001},
        {"inputs": images(4).double()},
        {"inputs": images(4)[[1, 0, 2, 3]]},
        {"model": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh()).eval()},
    ],
    ids=lambda change: ", ".join(f"{k}" for k in change),
)
def test_whatever_integers_follow_from_is_in_the_key(cache, change):
    torch.manual_seed(0)
    base = {"model": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "inputs": images(4)}
    profile(**base)
    assert len(profiles(cache)) == 1
    expected = profile(**base | change, cache=False)
    np.testing.assert_array_equal(profile(**base | change), expected)
    assert len(profiles(cache)) == 2


def test_what_cannot_be_seen_from_outside_is_in_the_key(cache):
    different = [Wired(False), Wired(True)]
    hooked = Wired(False)
    hooked.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    state = Wired(False)
    state.register_buffer("unused", torch.zeros(1), persistent=False)
    for model in (*different, hooked, state):
        expected = profile(model, images(4), cache=False)
        np.testing.assert_array_equal(profile(model, images(4)), expected)
    assert len(profiles(cache)) == 4


def test_a_network_that_draws_random_numbers_is_never_taken_for_another(cache):
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    for _ in range(2):
        profile(nn.Sequential(Noise()), images(4))
    assert len(profiles(cache)) == 2


def test_what_makes_no_difference_is_not_in_the_key(cache):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    first = profile(model, images(4), seed=0, n_jobs=1)
    again = profile(model, images(4).numpy(), [0], seed=5, n_jobs=2, blocks=["0"])
    np.testing.assert_array_equal(first, again)
    assert len(profiles(cache)) == 1


def test_a_file_that_is_replaced_by_another_is_noticed(cache, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)

    def save(name):
        pixels = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / name)

    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        save(name)
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    options = {"image_size": 16, "batch_size": 1}
    first = profile(model, f"folder:{tmp_path / 'pictures'}", **options)
    save("b.png")
    again = profile(model, f"folder:{tmp_path / 'pictures'}", **options)
    np.testing.assert_array_equal(again[0], first[0])
    assert (again[1] != first[1]).any()
    assert len(profiles(cache)) == 3


def test_a_file_that_changes_while_the_run_goes_on_is_refused(cache, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)

    class Replaces(nn.Module):
        def forward(self, x):
            save("b.png")
            return x

    def save(name):
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / name)

    save("a.png")
    save("b.png")
    with pytest.raises(ValueError, match=r"image 1 of folder:.* is not what it was when the run"):
        profile(nn.Sequential(Replaces()), f"folder:{tmp_path}", image_size=16, n_jobs=1)


def test_names_of_networks_are_known_without_loading_them(cache, monkeypatch):
    options = {"n_images": 2, "image_size": 32, "blocks": ["_blocks.0"]}
    first = profile("efficientnet_lite0", "digits", **options)
    given = profile(load_model("efficientnet_lite0"), "digits", **options)  # the same content
    assert len(profiles(cache)) == 1
    monkeypatch.setattr("topo_utils.embedding.load_model", None)
    xr.testing.assert_identical(profile("efficientnet_lite0", "digits", **options), first)
    np.testing.assert_array_equal(first, given)


def test_code_of_ones_own_is_not_known_by_its_name(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = []
    for bias in (0.0, 1e6):
        (tmp_path / "own_net.py").write_text(
            "import torch\nfrom torch import nn\n\n\ndef make():\n"
            "    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
            f"    nn.init.constant_(net[0].bias, {bias})\n    return net\n"
        )
        sys.modules.pop("own_net", None)
        importlib.invalidate_caches()
        results.append(profile("own_net:make", images()))
    sys.modules.pop("own_net", None)
    assert results[0].sum() > 0
    assert results[1].sum() == 0  # nothing is at or below 0


@pytest.mark.slow
@pytest.mark.parametrize("given", ["by name", "as tensors"])
def test_a_second_profile_is_at_least_20_times_faster(cache, given):
    if given == "by name":
        arguments = "efficientnet_lite0", "imagenet_samples"
    else:
        arguments = (
            load_model("resnet18", weights="random"),
            torch.randn(40, 3, 224, 224, generator=torch.Generator().manual_seed(0)),
        )
    profile(*arguments, n_images=1, image_size=64)  # compiles the engine

    def seconds():
        start = time.perf_counter()
        profile(*arguments)
        return time.perf_counter() - start

    first = seconds()
    assert first / min(seconds() for _ in range(3)) >= 20


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "header"])
def test_a_damaged_file_is_named_and_made_again(cache, count, damage):
    _, expected = count(lambda: profile(network(count.log), images()))
    file, other, _ = profiles(cache)
    content = file.read_bytes()
    damaged = {
        "empty": b"",
        "cut": content[:-3],
        "flipped": content[:-3] + bytes([content[-3] ^ 4]) + content[-2:],
        "other": other.read_bytes(),
        "header": content.replace(b"what", b"whaT"),
    }[damage]
    file.write_bytes(damaged)
    with pytest.warns(UserWarning, match=f"{file.stem}.safetensors is damaged and is made again"):
        passed, again = count(lambda: profile(network(count.log), images()))
    assert passed == 1 + 4
    xr.testing.assert_identical(again, expected)
    assert file.read_bytes() == content
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count(lambda: profile(network(count.log), images()))[0] == 1


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path):
    (tmp_path / "file").write_text("in the way")
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.warns(UserWarning, match="could not be written, so it is not kept"):
        result = profile(model, images(), cache=tmp_path / "file")
    xr.testing.assert_identical(result, profile(model, images(), cache=False))


def test_switched_off(tmp_path, monkeypatch, cache):
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    monkeypatch.setenv("TOPO_UTILS_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    profile(model, images())
    assert cache_folder() is None
    assert not list(tmp_path.iterdir())
    assert len(list_cache()) == 0
    profile(model, images(), cache=tmp_path / "here")  # a folder of one's own all the same
    assert len(profiles(tmp_path / "here")) == 3
    with pytest.raises(TypeError, match="cache is None; accepted: True, False, or the path of"):
        profile(model, images(), cache=None)


def test_list_and_prune(cache, capsys):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    profile(model, images())
    files = profiles(cache)
    now = time.time()
    for age, file in enumerate(files):
        os.utime(file, (now - 100 * age, now - 100 * age))
    part = cache / "profiles" / "tmpabc.part"
    part.write_bytes(b"12345")
    (cache / "notes.txt").write_text("not ours")
    (cache / "profiles" / "notes.txt").write_text("not ours")
    table = list_cache()
    assert list(table["kind"]) == ["unfinished", *["profiles"] * 3]
    assert list(table["file"][1:]) == files
    assert "Sequential (as given) on tensor 9x10" in table["what"][1]
    size = table["bytes"][1]

    assert prune_cache(2 * size) == (1, size)
    assert profiles(cache) == files[:2]  # the oldest went
    assert part.exists()  # another run may be writing it
    os.utime(part, (now - 7200, now - 7200))
    assert prune_cache(2 * size) == (1, 5)
    assert not part.exists()

    # Use makes a file young again.
    os.utime(files[0], (now - 999, now - 999))
    profile(model, images())
    assert list_cache()["used"].min().timestamp() > now - 50

    assert main(["cache", "list"]) == 0
    out = capsys.readouterr().out
    assert "profiles: 3 files" in out
    assert "Sequential (as given) on tensor 9x10, 1 blocks, 1 thresholds" in out
    assert main(["cache", "prune", "1kB"]) == 0
    assert sum(f.stat().st_size for f in profiles(cache)) <= 1000
    assert main(["cache", "clear"]) == 0
    assert not profiles(cache)
    assert "removed" in capsys.readouterr().out
    with pytest.raises(ValueError, match="max_bytes is -1; accepted"):
        prune_cache(-1)
    assert main(["cache", "prune", "much"]) == 1
    assert "no size: 'much'\nAccepted: a number with B, kB, MB" in capsys.readouterr().err


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_store import images, network, profile
from topo_utils import store

write, written = store.write, []


def wait_and_write(*arguments):
    if len(written) == int(sys.argv[3]):
        print("waits", flush=True)
        sys.stdin.read()
    written.append(write(*arguments))


store.write = wait_and_write
print(profile(network(sys.argv[2]), images(40), n_jobs=1).values.tolist())
"""


def start(log, count):
    """A run in a process of its own that has written `count` files, and waits for its stdin."""
    arguments = [str(Path(__file__).parent), str(log), str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    run = subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], **pipes)
    assert run.stdout.readline() == "waits\n"
    return run


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(cache, count):
    expected = profile(network(count.log), images(40), cache=False)
    count.log.write_text("")
    with start(count.log, 3) as run:
        run.kill()
    assert run.returncode == -signal.SIGKILL
    kept = {file: file.read_bytes() for file in profiles(cache)}
    assert len(kept) == 3
    passed, resumed = count(lambda: profile(network(count.log), images(40)))
    xr.testing.assert_identical(resumed, expected)
    assert passed == 1 + 40 - 4 * len(kept)
    assert all(file.read_bytes() == content for file, content in kept.items())


@pytest.mark.slow
def test_two_runs_at_once_do_not_harm_each_other(cache, count):
    expected = profile(network(count.log), images(40), cache=False).values.tolist()
    runs = [start(count.log, 0) for _ in range(2)]
    for run in runs:
        run.stdin.close()  # both go on
    for run in runs:
        with run:
            assert eval(run.stdout.read()) == expected
        assert run.returncode == 0
    assert len(profiles(cache)) == 10
    assert set(list_cache()["kind"]) == {"profiles"}
    assert count(lambda: profile(network(count.log), images(40)))[0] == 1
