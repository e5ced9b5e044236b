"""Nothing is computed twice, nothing is lost: kills, damage, two runs at once, and what is kept."""

import contextlib
import functools
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from topo_utils import embedding_profile, load_images, load_model
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
    assert passed == 1  # the image by which the network is known
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


class Acts(nn.Module):
    """Networks of the same parts, which are printed alike."""

    def __init__(self, forward, scale=1):
        super().__init__()
        self.first, self.act, self.scale = nn.Identity(), forward, scale

    def forward(self, x):
        return self.first(self.act(x) * self.scale)


def hooked():
    network = Acts(F.relu)
    network.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    return network


def with_buffer():
    network = Acts(F.relu)
    network.register_buffer("unused", torch.zeros(1), persistent=False)
    return network


def replaced():
    network = Acts(F.relu)
    network.forward = types.MethodType(lambda self, x: self.first(-x), network)
    return network


def test_networks_that_differ_only_in_code_or_only_for_some_images_are_told_apart(cache):
    large = torch.zeros(3, 3, 44, 42)
    large[0, 0, :3], large[2, 1, 5:7] = 3, 9.5  # ReLU6 shows in the last image only
    networks = [
        Acts(F.relu),
        Acts(F.relu6),
        Acts(lambda x: -x if x.shape[-1] > 40 else x),
        Acts(lambda x: x),
        Acts(lambda x: F.avg_pool2d(x, 3) if x.shape[-2] > 43 else x),
        Acts(F.relu, scale=-1),
        replaced(),
        hooked(),
        with_buffer(),
    ]
    for count, network in enumerate(networks, 1):
        result = profile(network, large, [5, 7])
        np.testing.assert_array_equal(result, profile(network, large, [5, 7], cache=False))
        assert len(profiles(cache)) == count
    for network in networks:
        profile(network, large, [5, 7])
    assert len(profiles(cache)) == count


@given(
    jobs=st.sampled_from([1, 2, 5]),
    batch_size=st.sampled_from([1, 2, 8]),
    named=st.booleans(),
    kept=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    context=st.sampled_from(
        [
            contextlib.nullcontext,
            torch.inference_mode,
            torch.enable_grad,
            functools.partial(torch.autocast, "cpu", torch.bfloat16),
            functools.partial(torch.device, "meta"),
        ]
    ),
    flush=st.booleans(),
)
@example(1, 2, True, False, torch.float32, functools.partial(torch.autocast, "cpu"), True)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_the_integers_are_the_same_however_they_are_asked_for(
    tmp_path_factory, jobs, batch_size, named, kept, dtype, context, flush
):
    name, options = "fashion_plain_5", {"image_size": 12, "n_images": 4}
    model, pictures = load_model(name), load_images("digits", 12, 4)[0]
    global _EXPECTED
    if _EXPECTED is None:
        _EXPECTED = profile(model, pictures, [-0.1, 0], cache=False, n_jobs=1)
    folder = tmp_path_factory.getbasetemp() / "however"
    options |= {"n_jobs": jobs, "batch_size": batch_size, "cache": kept and folder}
    arguments = (name, "digits") if named and dtype == torch.float32 else (model, pictures)
    torch.set_flush_denormal(flush)
    torch.set_default_dtype(dtype)  # of no consequence to a network that is there
    try:
        with context():
            result = profile(*arguments, [-0.1, 0], **options)
    finally:
        torch.set_flush_denormal(False)
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(result, _EXPECTED)


_EXPECTED = None


class Meanwhile(nn.Module):
    """Does something once, when the third image passes: that of the key is the first of them."""

    def forward(self, x):
        self.do()
        return x


def meanwhile(do):
    passed = []
    # Of the class: what a network holds itself is copied, and with it the network in `do`.
    Meanwhile.do = staticmethod(lambda: do() if passed.append(0) or len(passed) == 3 else None)
    torch.manual_seed(0)
    return nn.Sequential(Meanwhile(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()


@pytest.mark.filterwarnings("ignore:the profile is not kept")
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda net: net[1].weight.data.mul_(-1), r"network changed .*first in 1\.weight;"),
        (lambda net: net[1].bias.detach().numpy().fill(9), r"network changed .* first in 1\.bias;"),
        (
            lambda net: net[2].running_mean.add_(1),
            r"in 2\.running_mean; nothing of it is kept",
        ),
        (lambda net: setattr(net[2], "eps", 1.0), r"first in 2\.eps;.*; accepted: one that stays"),
        (
            lambda net: net.__setitem__(1, nn.Conv2d(3, 4, 3)),
            "network changed while it was measured",
        ),
        (
            lambda net: torch.use_deterministic_algorithms(True),
            "in torch's determinist",
        ),
        (None, "image 3 of the tensor is not what it was when the run began"),
    ],
    ids=["weight", "memory", "buffer", "attribute", "part", "setting", "image"],
)
def test_what_changes_while_a_run_goes_on_is_refused_and_nothing_wrong_is_kept(
    cache, kept, change, named
):
    pictures, done = images(8), []

    def do():
        done.append(change(network) if change else pictures[3:].mul_(-1))

    network = meanwhile(do)
    try:
        with pytest.raises(ValueError, match=named):
            profile(network, pictures, n_jobs=1, batch_size=1, cache=kept)
    finally:
        torch.use_deterministic_algorithms(False)
    assert done
    assert not profiles(cache)
    for _ in range(2):
        result = profile(network, pictures)
        np.testing.assert_array_equal(result, profile(network, pictures, cache=False))


def test_nothing_wrong_is_kept_of_a_run_that_is_stopped(cache):
    def do():
        network[1].weight.data.mul_(-1)
        raise KeyboardInterrupt

    network = meanwhile(do)
    with pytest.raises(KeyboardInterrupt):
        profile(network, images(8), n_jobs=1, batch_size=1)
    assert not profiles(cache)


def test_code_whose_surroundings_change_is_not_kept(cache):
    seen = []
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    network.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs)))
    expected = profile(network, images(), cache=False)
    with pytest.warns(UserWarning, match=r"the profile is not kept: 0?_?.*seen.*changed while it"):
        xr.testing.assert_identical(profile(network, images()), expected)
    assert not profiles(cache)


@pytest.mark.filterwarnings("error:.*kept")
def test_what_a_network_puts_aside_while_it_runs_makes_no_difference(cache):
    class Keeps(nn.Module):
        outputs, lock = {}, threading.Lock()

        def forward(self, x):
            with self.lock:
                self.outputs[x.shape] = x
            return x

    for kept in (False, True, True):
        profile(nn.Sequential(Keeps()), images(4), cache=kept)
    assert len(profiles(cache)) == 1


def test_networks_of_unknown_code_are_not_kept(cache):
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    numbers = (i for i in range(3))
    network.register_forward_hook(lambda *_: numbers is None)
    expected = profile(network, images(), cache=False)
    with pytest.warns(UserWarning, match=r"of Sequential are not kept: .*numbers, which is"):
        xr.testing.assert_identical(profile(network, images()), expected)
    assert not profiles(cache)


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


def test_a_name_stands_for_what_is_loaded(cache, monkeypatch):
    options = {"n_images": 2, "image_size": 32, "blocks": ["_blocks.0"]}
    first = profile("efficientnet_lite0", "digits", **options)
    given = profile(load_model("efficientnet_lite0"), "digits", **options)  # the same content
    np.testing.assert_array_equal(first, given)
    assert len(profiles(cache)) == 1
    xr.testing.assert_identical(profile("efficientnet_lite0", "digits", **options), first)
    assert len(profiles(cache)) == 1

    def load_another(name, weights, seed):  # as when the file of weights was replaced
        return load_model(name, weights="random", seed=5)

    monkeypatch.setattr("topo_utils.embedding.load_model", load_another)
    another = profile("efficientnet_lite0", "digits", **options)
    np.testing.assert_array_equal(
        another, profile(load_another("efficientnet_lite0", "", 0), "digits", **options)
    )
    assert (another != first).any()


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
@pytest.mark.parametrize(("how", "times"), [("by name", 2), ("as tensors", 10)])
def test_a_second_profile_is_faster(cache, how, times):
    if how == "by name":
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
    assert first / min(seconds() for _ in range(3)) >= times


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
    assert main(["cache", "prune", "much"]) == 2
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
