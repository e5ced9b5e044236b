"""Profiles against networks run layer by layer, and the promise to leave a network as it was."""

import contextlib
import copy
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
import torchvision
import xarray as xr
from conftest import wait_until
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from topo_utils import (
    betti_curves,
    betti_numbers,
    block_outputs,
    cubical,
    embedding,
    embedding_profile,
    load_images,
    load_model,
    measure,
    model_blocks,
    store,
    topological_complexity,
)
from topo_utils.cubical import betti_from_persistence, persistence

ETAS = [-0.5, 0.0, 0.3, 0.0]


@pytest.fixture
def images():
    return torch.randn(5, 3, 12, 14, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def lite0():
    return load_model("efficientnet_lite0")


def profile(model, images, thresholds=0.0, **keywords):
    defaults = {"device": "cpu", "progress": False, "cache": False}
    return embedding_profile(model, images, thresholds=thresholds, **defaults | keywords)


def workers():
    """Threads that are alive, but for the one that tqdm starts once and keeps."""
    return {thread for thread in threading.enumerate() if thread.name != "tqdm_monitor"}


class Meeting:
    """Threads but the main one wait here until `count` of them have come; later ones go on."""

    def __init__(self, count):
        self.count, self.here = count, set()

    def __call__(self):
        if threading.current_thread() is not threading.main_thread():
            self.here.add(threading.get_ident())
            assert wait_until(lambda: len(self.here) >= self.count)


def by_hand(layers, image):
    """Every layer's output for one image; each layer works on a copy, so none is overwritten."""
    outputs, x = [], image[None]
    with torch.no_grad():
        for layer in layers:
            x = layer(x.clone())
            outputs.append(x[0].clone())
    return outputs


def betti_by_hand(layers, images):
    """(N, L, T, 3), vectors read as C x 1 x 1."""
    return np.array(
        [
            [betti_numbers(out.reshape(len(out), *(out.shape[1:] or (1, 1))), ETAS) for out in outs]
            for outs in (by_hand(layers, image) for image in images)
        ]
    )


class Net(nn.Module):
    """Two blocks that change nothing, joined by any function of the network and its input."""

    def __init__(self, forward):
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()
        self.body = forward

    def forward(self, x):
        return self.body(self, x)


# --- What is measured


def test_profile_equals_the_network_run_layer_by_layer(small_network, images):
    expected = betti_by_hand(copy.deepcopy(small_network).eval(), images)
    result = profile(small_network, images, ETAS)
    assert result.dims == ("image", "block", "threshold", "degree")
    assert result.dtype == np.int64
    assert list(result.block.values) == [str(i) for i in range(8)]
    np.testing.assert_array_equal(result.threshold, ETAS)
    np.testing.assert_array_equal(result.degree, [0, 1, 2])
    np.testing.assert_array_equal(result.image, range(5))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("network", ["small_network", "resnet18"])
def test_an_in_place_relu_does_not_overwrite_what_the_block_before_it_gave(network, request):
    if network == "resnet18":
        model = load_model("resnet18", weights="random")
        blocks, layers = ["bn1", "relu"], [model.conv1, model.bn1, model.relu]
    else:
        model = request.getfixturevalue(network).eval()
        blocks, layers = ["1", "2"], list(model[:3])
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    result = profile(model, images, [-0.2, 0.0, 0.2], blocks=blocks)
    before, after = result.transpose("block", ...).values
    assert (before[:, 0] != after[:, 0]).any(axis=-1).all()  # eta < 0: nothing is below it after
    assert not after[:, 0].any()
    np.testing.assert_array_equal(before[:, 1:], after[:, 1:])
    hand = np.array(
        [[betti_numbers(o, -0.2) for o in by_hand(layers, image)[1:]] for image in images]
    )
    np.testing.assert_array_equal(result.sel(threshold=-0.2), hand)


def test_resnet18_equals_its_residual_blocks_run_one_by_one():
    model = load_model("resnet18", weights="random", seed=3)
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    layers = [model.conv1, model.bn1, model.relu, model.maxpool, *(b for s in stages for b in s)]
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = np.delete(betti_by_hand(layers, images), 3, axis=1)  # max pooling is no point
    np.testing.assert_array_equal(profile(model, images, ETAS), expected)


def test_the_same_integers_for_any_batch_size_and_for_an_image_alone(small_network, images):
    one, three, eight = (profile(small_network, images, ETAS, batch_size=b) for b in (1, 3, 8))
    xr.testing.assert_identical(one, three)
    xr.testing.assert_identical(one, eight)
    for i in range(len(images)):
        alone = profile(small_network, images[i : i + 1], ETAS)
        np.testing.assert_array_equal(alone[0], one[i])


def test_batch_size_changes_nothing_where_batch_norm_has_only_batch_statistics(images):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    xr.testing.assert_equal(
        profile(network, images, ETAS, batch_size=1), profile(network, images, ETAS, batch_size=4)
    )


def test_per_image_batch_norm_equals_batch_norm_in_training_mode_by_hand(small_network, images):
    network = copy.deepcopy(small_network).eval()
    norm, buffers = network[1], copy.deepcopy(dict(network[1].named_buffers()))
    layers = list(network)
    layers[1] = lambda x: F.batch_norm(x, None, None, norm.weight, norm.bias, training=True)
    expected = betti_by_hand(layers, images)
    for size in (1, 4):
        result = profile(small_network, images, ETAS, batch_norm="per_image", batch_size=size)
        np.testing.assert_array_equal(result, expected)
        assert result.attrs["batch_norm"] == "per_image"
    for name, buffer in small_network[1].named_buffers():
        assert torch.equal(buffer, buffers[name])
    assert (profile(small_network, images, ETAS) != expected).any()


def test_a_block_named_input_is_the_image_and_comes_only_when_asked_for(small_network, images):
    assert "input" not in profile(small_network, images).block
    result = profile(small_network, images, ETAS, blocks=["2", "input", "0"])
    assert list(result.block.values) == ["2", "input", "0"]
    expected = [betti_numbers(image, ETAS) for image in images]
    np.testing.assert_array_equal(result.sel(block="input"), expected)
    default = profile(small_network, images, ETAS)
    np.testing.assert_array_equal(result.sel(block=["2", "0"]), default.sel(block=["2", "0"]))


def test_a_tensor_is_measured_as_it_is_also_in_double_precision(small_network):
    tenth = torch.full((1, 3, 12, 12), 0.1, dtype=torch.float64)  # float32(0.1) > 0.1
    result = profile(small_network, tenth, 0.1, blocks=["input"])
    np.testing.assert_array_equal(result.squeeze(), betti_numbers(tenth[0], 0.1))


def test_a_module_of_the_users_own_that_is_called_input(images):
    network = nn.Sequential()
    network.add_module("input", nn.Conv2d(3, 2, 3))
    expected = [betti_numbers(by_hand(network, image)[0], 0.0) for image in images]
    np.testing.assert_array_equal(profile(network, images).squeeze(), expected)


def test_vectors_are_read_as_c_by_1_by_1_and_flattening_a_pooled_map_changes_nothing(
    small_network, images
):
    result = profile(small_network, images, ETAS)
    np.testing.assert_array_equal(result.sel(block="5"), result.sel(block="6"))
    inside = [(by_hand(small_network.eval(), image)[-1] <= 0).numpy() for image in images]
    runs = [
        np.sum(np.diff(np.r_[False, row].astype(int)) == 1) for row in inside
    ]  # beta0 of a path
    last = result.sel(block="7").isel(threshold=1)
    np.testing.assert_array_equal(last, [[count, 0, 0] for count in runs])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_any_precision(small_network, images, dtype):
    network = small_network.to(dtype)
    expected = betti_by_hand(copy.deepcopy(network).eval(), images.to(dtype))
    np.testing.assert_array_equal(profile(network, images, ETAS), expected)
    assert next(network.parameters()).dtype == dtype


def test_outputs_of_any_strides(images):
    network = Net(lambda net, x: net.second(net.first(x).transpose(1, 3)[:, ::2]))
    result = profile(network, images, ETAS)
    expected = [betti_numbers(image.transpose(0, 2)[::2], ETAS) for image in images]
    np.testing.assert_array_equal(result.sel(block="second"), expected)


def test_one_threshold_or_several_in_any_container(small_network, images):
    several = profile(small_network, images, ETAS)
    assert profile(small_network, images, 0).sizes["threshold"] == 1
    np.testing.assert_array_equal(
        profile(small_network, images, 0).squeeze("threshold"), several.isel(threshold=1)
    )
    for same in (tuple(ETAS), np.array(ETAS), torch.tensor(ETAS, dtype=torch.float64)):
        xr.testing.assert_equal(profile(small_network, images, same), several)
    everything = profile(small_network, images, [np.inf, -np.inf])
    assert (everything == xr.DataArray([[1, 0, 0], [0, 0, 0]], dims=("threshold", "degree"))).all()


def test_n_images_of_a_tensor_are_its_first(small_network, images):
    xr.testing.assert_equal(
        profile(small_network, images, ETAS, n_images=2), profile(small_network, images[:2], ETAS)
    )


@pytest.mark.filterwarnings("error")
def test_images_may_be_a_numpy_array(small_network, images):
    flipped = images.numpy()[:, :, ::-1]
    flipped.setflags(write=False)
    xr.testing.assert_equal(profile(small_network, flipped), profile(small_network, images.flip(2)))
    halves = images.half()
    expected = profile(small_network, halves.double(), blocks=["input", "0"])
    for dtype in ("<f2", ">f2", ">f4", ">f8", np.longdouble):
        same = halves.numpy().astype(dtype)
        xr.testing.assert_equal(profile(small_network, same, blocks=["input", "0"]), expected)


def test_names_labels_and_attributes():
    keywords = {"image_size": 16, "n_images": 6, "seed": 5, "weights": "random"}
    result = profile("mobilenet_v2", "digits", ETAS, blocks=["features.0"], **keywords)
    images, labels = load_images("digits", 16, 6, 5)
    model = load_model("mobilenet_v2", weights="random", seed=5)
    np.testing.assert_array_equal(result, profile(model, images, ETAS, blocks=["features.0"]))
    np.testing.assert_array_equal(result.label, labels)
    assert sorted(result.image.values) == list(result.image.values) != list(range(6))
    assert all(isinstance(value, str) for value in result.attrs.values())
    expected = {"model": "mobilenet_v2", "dataset": "digits", "image_size": "16x16", "seed": "5"}
    expected |= {"weights": "random (seed 5)", "batch_norm": "eval", "device": "cpu"}
    assert expected.items() <= result.attrs.items()
    assert json.loads(result.attrs["versions"])["torch"] == torch.__version__.split("+")[0]
    attrs = profile(Net(lambda net, x: net.second(net.first(x))), images).attrs
    assert all(isinstance(value, str) for value in attrs.values())
    assert (attrs["model"], attrs["dataset"], attrs["weights"]) == ("Net", "tensor", "as given")


def test_a_profile_can_be_saved_and_read_again(small_network, images, tmp_path):
    result = profile(small_network, images, ETAS)
    result.to_netcdf(tmp_path / "profile.nc", engine="scipy")
    with xr.open_dataarray(tmp_path / "profile.nc", engine="scipy") as saved:
        np.testing.assert_array_equal(saved, result)
        assert saved.attrs == result.attrs
        assert list(saved.block.values) == list(result.block.values)


# --- The measured figures of the design


IMAGENET = [6142, 2706, 3156, 1379, 1489, 645, 626, 593, 978, 956, 921, 302, 287, 270, 258, 240]
CIFAR10 = [1094, 1009, 1659, 976, 1079, 530, 504, 467, 904, 896, 860, 306, 292, 286, 272, 214]


@pytest.mark.parametrize(
    ("name", "count", "figures"),
    [("imagenet_samples", 20, IMAGENET), ("cifar10_samples", 10, CIFAR10)],
)
def test_omega_of_lite0_is_the_one_of_the_design(lite0, name, count, figures):
    images = load_images(name)[0][:count]
    omega = topological_complexity(profile(lite0, images)).mean("image").squeeze()
    np.testing.assert_allclose(omega, figures, rtol=0.05)


def test_lite0_recognises_the_imagenet_samples(lite0):
    images, labels = load_images("imagenet_samples")
    with torch.inference_mode():
        found = lite0(images).argmax(dim=1)
    assert (found == labels).double().mean() >= 0.75


# --- The network is left as it was


def state_of(model):
    """All that a profile might change and must not."""
    hooks = [name for name in vars(model) if "hooks" in name]
    return {
        "values": {key: value.clone() for key, value in model.state_dict().items()},
        "flags": [
            (m.training, getattr(m, "track_running_stats", None), getattr(m, "momentum", None))
            for m in model.modules()
        ],
        "hooks": [len(getattr(m, name)) for m in model.modules() for name in hooks],
        "tensors": [
            (p.data_ptr(), p.device, p.dtype, p.requires_grad, p.is_inference(), p.grad)
            for p in (*model.parameters(), *model.buffers())
        ],
    }


def assert_same_state(model, before):
    after = state_of(model)
    values, expected = after.pop("values"), before.pop("values")
    assert values.keys() == expected.keys()
    assert all(torch.equal(values[key], expected[key]) for key in values)
    assert after == before


class Do(nn.Module):
    """A block that raises, or gives whatever a function gives."""

    def __init__(self, outcome):
        super().__init__()
        self.outcome = outcome

    def forward(self, x):
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome(x)


def test_the_error_is_raised_whichever_thread_stops_first(small_network, images, monkeypatch):
    count = embedding._count_or_error

    def first_is_stopped(network, images, stop, positions, *others):
        # As when another image has failed before the first was begun.
        return None if positions[0] == 0 else count(network, images, stop, positions, *others)

    monkeypatch.setattr(embedding, "_count_or_error", first_is_stopped)
    with pytest.raises(RuntimeError, match="in block '4'"):
        profile(small_network.insert(4, Do(RuntimeError("in block '4'"))), images, ETAS)


@pytest.mark.parametrize("batch_norm", ["eval", "per_image"])
@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (lambda x: x, None),
        (RuntimeError("in block '4'"), RuntimeError),
        (KeyError("in block '4'"), KeyError),
        (KeyboardInterrupt("in block '4'"), KeyboardInterrupt),
        (lambda x: x * torch.nan, ValueError),
        (lambda x: (x, x), TypeError),
    ],
    ids=["success", "RuntimeError", "KeyError", "KeyboardInterrupt", "NaN", "tuple"],
)
def test_a_network_is_left_as_it_was(small_network, images, outcome, error, batch_norm):
    network = small_network.insert(4, Do(outcome))
    network.insert(4, nn.BatchNorm2d(4, track_running_stats=False)).append(nn.Dropout())
    network[0].weight.requires_grad_(False)
    network.train()
    network[1].eval()
    network[1].momentum = None
    seen = []
    network[2].register_forward_hook(  # the user's own stays
        lambda *_: seen.append(torch.is_inference_mode_enabled())
    )
    before, threads = state_of(network), workers()
    with pytest.raises(error, match=r"block '[45]'") if error else contextlib.nullcontext():
        profile(network, images, ETAS, batch_norm=batch_norm)
    assert seen
    assert all(seen)
    assert_same_state(network, before)
    assert wait_until(lambda: workers() <= threads)  # idle ones end by themselves
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_a_network_can_still_be_trained(small_network, images):
    profile(small_network, images, ETAS)
    small_network(images).sum().backward()
    assert small_network[0].weight.grad.abs().sum() > 0
    assert small_network[1].num_batches_tracked == 1


def test_images_are_left_as_they_were(images):
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3))
    before = images.clone()
    result = profile(network, images[:1].requires_grad_(), ETAS, blocks=["input", "0"])
    assert torch.equal(images, before)
    np.testing.assert_array_equal(result.sel(block="input")[0], betti_numbers(before[0], ETAS))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_the_mode_of_the_caller_is_left_as_it_was(small_network, images, mode):
    expected = profile(small_network, images, ETAS)
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        xr.testing.assert_identical(profile(small_network, images, ETAS), expected)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_global_random_states_are_left_as_they_were(weights):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    profile("efficientnet_lite0", "digits", n_images=1, image_size=32, seed=7, weights=weights)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_activations_of_one_batch_at_most_are_alive():
    # Outputs and their copies are known by their width, which nothing else in the process has.
    network = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(6)))
    alive = []

    def count(*_):
        tensors = [o for o in gc.get_objects() if type(o) is torch.Tensor]
        alive.append(sum(t.ndim == 4 and t.shape[-1] == 53 for t in tensors))

    network[0].register_forward_pre_hook(count)
    # One at a time: what one thread has found must not be counted, as its own, by another.
    profile(network, torch.randn(6, 3, 7, 53), ETAS, n_jobs=1)
    # At the start of a batch: all images and the batch itself; a leak would add six or twelve with
    # each of the six batches.
    assert len(alive) == 6
    assert max(alive) == alive[0]


def test_progress_bar_only_when_asked_for(small_network, images, capfd):
    profile(small_network, images)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    profile(small_network, images, progress=True)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Sequential" in captured.err
    assert "5/5" in captured.err


# --- What belongs to the process, or to the thread of the caller


@contextlib.contextmanager
def other_threads_at_work():
    """Some thread draws random numbers and seeds the generator of the process all the time."""
    done, drawn = threading.Event(), []

    def draw():
        while not done.is_set():
            torch.rand(7)
            torch.manual_seed(len(drawn))
            drawn.append(torch.randn(3))

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert drawn


def make_own():
    """A network of one's own, of random weights: once by the caller's seed, once by its own."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    torch.manual_seed(3)
    return network.append(nn.Conv2d(4, 5, 3))


@pytest.mark.parametrize("name", ["mobilenet_v2", "fashion_plain_5", "test_embedding:make_own"])
def test_random_networks_do_not_depend_on_other_threads(name, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    calls = [
        lambda cache, seed=seed: profile(
            name, "digits", n_images=2, image_size=32, weights="random", seed=seed, cache=cache
        )
        for seed in (1, 2, 3, 1)
    ]
    expected = [call(False) for call in calls]
    with torch.random.fork_rng(), other_threads_at_work(), ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda call: call(tmp_path), calls))
    kept = [call(tmp_path) for call in calls]
    for a, b, c in zip(expected, found, kept, strict=True):
        xr.testing.assert_identical(a, b)
        xr.testing.assert_identical(a, c)
    assert (expected[0].values != expected[1].values).any()


def test_networks_by_name_are_made_in_single_precision_or_refused():
    expected = load_model("fashion_plain_5", weights="random", seed=1).head.weight
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            for weights in ("random", "pretrained"):
                with pytest.raises(ValueError, match=r"default dtype is not .*; accepted: "):
                    profile("fashion_plain_5", "digits", weights=weights, n_images=1)
        finally:
            torch.set_default_dtype(torch.float32)
    with torch.inference_mode(), torch.device("meta"):
        found = load_model("fashion_plain_5", weights="random", seed=1).head.weight
    assert torch.equal(found, expected)
    assert not found.is_inference()


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_threads_of_profiles_at_once_are_as_many_as_before(small_network, images, first_to_end):
    """Whichever ends first: the number of each thread that asked, and of threads to come."""
    meet, ended = threading.Barrier(2), threading.Event()
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen = []

    def call(i):
        class Waits(nn.Module):
            def forward(self, x):
                seen.append(torch.get_num_threads())
                if not seen[2:]:
                    meet.wait(60)
                    assert i == first_to_end or ended.wait(60)
                return x

        network = nn.Sequential(Waits(), copy.deepcopy(small_network))
        # Threads that have not used torch before.
        result = profile(network, images[:1], n_jobs=1, blocks=["1.0"])
        if i == first_to_end:
            ended.set()
        return result, torch.get_num_threads()

    try:
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(call, range(2)))
        with ThreadPoolExecutor(1) as pool:
            later = pool.submit(torch.get_num_threads).result()
        assert [count for _, count in results] + [later, torch.get_num_threads()] == [3] * 4
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1]
    xr.testing.assert_equal(results[0][0], results[1][0])


DENORMAL = [
    (torch.float32, 1e-40),
    (torch.float64, 1e-310),
    (torch.float16, 6e-8),
    (torch.bfloat16, 1e-40),
]


@pytest.mark.parametrize(("dtype", "value"), DENORMAL)
def test_denormal_numbers_count_where_a_thread_takes_them_for_zero(dtype, value):
    volume = torch.tensor([0, value, -value, value, 0, -value, 2 * value], dtype=dtype)
    large = torch.full((2, 200, 200), value, dtype=dtype)  # several threads of torch convert it
    etas = [-2 * value, -value, -value / 2, 0.0, value / 2, value, 2 * value]
    calls = [(betti_numbers, volume, eta) for eta in (*etas, etas, volume[1:3])]
    calls += [(betti_numbers, large, 0.0), (betti_curves, volume, etas)]
    calls += [(betti_from_persistence, persistence(volume), etas)]
    calls += [(lambda *a: betti_from_persistence(persistence(a[0]), a[1]), volume, etas)]
    if dtype != torch.bfloat16:
        calls.append((betti_numbers, volume.numpy(), 0.0))
    network, image = nn.Sequential(nn.Identity()), torch.full((1, 3, 4, 5), value).to(dtype)
    calls.append((lambda *a: profile(*a, n_jobs=1), network, image))
    calls.append((lambda *a: profile(*a, null="volume"), network, image))
    expected = [call(*arguments) for call, *arguments in calls]
    assert torch.set_flush_denormal(True)
    try:
        found = [call(*arguments) for call, *arguments in calls]
        assert not sys.float_info.min / 2 > 0  # as it was
    finally:
        torch.set_flush_denormal(False)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


# --- All cores, and more than one machine


def test_the_same_integers_for_any_number_of_jobs(lite0):
    options = {"image_size": 48, "n_images": 9}
    one = profile(lite0, "digits", ETAS, n_jobs=1, **options)
    for jobs in (2, 5, -1):
        xr.testing.assert_identical(profile(lite0, "digits", ETAS, n_jobs=jobs, **options), one)


def test_threads_add_up_to_the_cores(small_network, images):
    running, most, threads, meet = set(), [], [], Meeting(joblib.cpu_count())

    def enters(*_):
        running.add(threading.get_ident())
        threads.append(torch.get_num_threads())
        most.append(len(running))
        meet()

    small_network[0].register_forward_pre_hook(enters)
    small_network[-1].register_forward_hook(lambda *_: running.discard(threading.get_ident()))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        profile(small_network, images.repeat(joblib.cpu_count(), 1, 1, 1))
        assert torch.get_num_threads() == 3
        with pytest.raises(ValueError, match="NaN"):
            profile(small_network, images * torch.nan)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}
    assert max(most) == joblib.cpu_count()


def test_networks_that_keep_things_in_attributes_while_they_run(images):
    meet = Meeting(2)

    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.add, self.kept = nn.Identity(), None

        def forward(self, x):
            self.kept = x
            meet()  # another thread would put its own there
            return self.add(x + self.kept)

    expected = [betti_numbers(2 * image, 0.3) for image in images]
    result = profile(Skip(), images, 0.3, n_jobs=5)
    np.testing.assert_array_equal(result.squeeze(), expected)


def test_a_network_that_cannot_be_copied_is_refused(images):
    network = Net(lambda net, x: net.second(net.first(x)))
    network.lock = threading.Lock()
    with pytest.raises(TypeError, match=r"Net cannot be copied .*lock.*, which a profile needs"):
        profile(network, images)


@pytest.mark.parametrize("kept", [True, False])
def test_a_network_without_values_is_refused(images, kept, tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, device="meta"))
    warns = pytest.warns(UserWarning, match="profiles of Sequential are not kept: .* 0.weight")
    with warns if kept else contextlib.nullcontext(), pytest.raises(ValueError, match="values"):
        profile(network, images, cache=kept and tmp_path)


def test_pruned_networks_can_be_copied(small_network, images):
    # Their weights are not leaves of the graph of autograd, which deepcopy refuses.
    prune.l1_unstructured(small_network[0], "weight", 0.5)
    expected = np.array(
        [
            [betti_numbers(o.reshape(len(o), *(o.shape[1:] or (1, 1))), ETAS) for o in outputs]
            for outputs in (by_hand(small_network.eval(), image) for image in images)
        ]
    )
    np.testing.assert_array_equal(profile(small_network, images, ETAS), expected)


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("dask.distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


class Killed(nn.Module):
    """In one process it writes a file, and waits until the process is killed."""

    def __init__(self, process, begun):
        super().__init__()
        self.process, self.begun = process, begun

    def forward(self, x):
        if os.getpid() == self.process:
            self.begun.touch()
            wait_until(lambda: False)
        return x


@pytest.mark.slow
def test_the_same_integers_in_other_processes(cluster, small_network, images, tmp_path):
    named = {"image_size": 32, "n_images": 6, "null": "volume", "blocks": ["_blocks.0"]}
    calls = {
        "module": lambda **keywords: profile(small_network, images, ETAS, **keywords),
        "name": lambda **keywords: profile("efficientnet_lite0", "digits", **named | keywords),
    }
    for call in calls.values():
        here = call()
        with joblib.parallel_config("dask"):
            xr.testing.assert_identical(call(cache=tmp_path), here)
            xr.testing.assert_identical(call(cache=tmp_path), here)
    with joblib.parallel_config("loky"):
        xr.testing.assert_identical(calls["module"](n_jobs=2), calls["module"]())
    with joblib.parallel_config("dask"), pytest.raises(ValueError, match="NaN or infinite"):
        profile(nn.Sequential(Do(Times(torch.nan))), images)


def test_a_network_by_name_must_have_the_same_weights_on_every_machine(images):
    named = measure.Named(load_model, ("fashion_plain_5",), (), "of different weights")
    with pytest.raises(ValueError, match=r"fashion_plain_5 has different weights on .*; accepted"):
        measure.count_images(named, images, None, range(1), [""], None)


class Times:
    """A function that can be sent to another process."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


@pytest.mark.slow
def test_a_worker_is_killed_on_the_way(cluster, small_network, images, tmp_path):
    workers, begun = list(cluster.run(os.getpid).values()), tmp_path / "begun"
    network, many = small_network.insert(0, Killed(workers[0], begun)), images.repeat(8, 1, 1, 1)
    expected = profile(network, many)

    def kill():
        if wait_until(begun.exists):
            os.kill(workers[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with joblib.parallel_config("dask"):
        result = profile(network, many)
    killer.join()
    assert begun.exists()
    xr.testing.assert_identical(result, expected)
    cluster.wait_for_workers(2)
    assert workers[0] not in cluster.run(os.getpid).values()


MEMORY = """
import resource, sys
from topo_utils import embedding_profile, load_model
model = load_model("resnet152", weights="random")
def peak(n):
    embedding_profile(model, "mnist_5k", thresholds=0.0, image_size=64, n_images=n, device="cpu",
                      progress=False, cache=False)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kB
few = peak(4)
print(peak(24) - few)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux counts it")
def test_memory_does_not_grow_with_the_number_of_images():
    """ResNet-152: four images more or twenty, no more than a batch is held."""
    sizes = []
    model = load_model("resnet152", weights="random")
    for name in model_blocks(model):
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output: sizes.append(output.nbytes)
        )
    with torch.inference_mode():
        model(torch.zeros(1, 3, 64, 64))
    out = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, check=True).stdout
    assert int(out) < 20 * sum(sizes) / 4


# --- Accelerators


def accelerator():
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


needs_accelerator = pytest.mark.skipif(
    accelerator() is None, reason="no CUDA or MPS here: activations computed there are not covered"
)


def test_auto_takes_an_accelerator_where_there_is_one(small_network, images):
    assert profile(small_network, images, device="auto").attrs["device"] == (accelerator() or "cpu")


def test_one_thread_at_a_time_is_on_an_accelerator(small_network, images, monkeypatch):
    # As far as the path goes without one: the lock is held in the network, and not while counting.
    held = []
    small_network[4].register_forward_pre_hook(lambda *_: held.append(turn.locked()))
    turn, counting = threading.Lock(), cubical.betti_numbers
    monkeypatch.setattr(measure, "_ACCELERATOR", turn)
    monkeypatch.setattr(measure, "threading", SimpleNamespace(Lock=lambda: turn))
    monkeypatch.setattr(
        cubical, "betti_numbers", lambda *a: (held.append(not turn.locked()), counting(*a))[1]
    )
    profile(small_network, images, n_jobs=1)
    assert held
    assert all(held)
    assert not turn.locked()


@needs_accelerator
def test_the_same_integers_for_the_same_activations(images):
    there = images.to(accelerator())
    np.testing.assert_array_equal(betti_numbers(there[0], ETAS), betti_numbers(images[0], ETAS))
    network = nn.Sequential(nn.ReLU())  # exact on any device
    there = profile(network, images, ETAS, device=accelerator(), batch_size=2)
    np.testing.assert_array_equal(there, profile(network, images, ETAS))


@needs_accelerator
def test_a_network_on_an_accelerator(lite0, record_property):
    here, there = (
        topological_complexity(profile(lite0, "imagenet_samples", n_images=8, device=device))
        for device in ("cpu", accelerator())
    )
    difference = float((abs(there - here) / here).max())
    record_property("largest relative difference in Omega", difference)
    assert difference < 0.05
    assert next(lite0.parameters()).device.type == "cpu"


# --- What is refused


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_activations_that_are_no_numbers_are_refused_naming_the_block(images, value):
    def forward(net, x):
        x = net.first(x).clone()
        x[:, 1, 2, 3] = value
        return net.second(x)

    with pytest.raises(ValueError, match="NaN or infinite activations in block 'second'"):
        profile(Net(forward), images)
    profile(Net(forward), images, blocks=["first"])  # what is not measured may be anything


@pytest.mark.parametrize(
    ("forward", "error", "message"),
    [
        (lambda net, x: net.first(x), ValueError, "block 'second' did not run"),
        (
            lambda net, x: net.second(net.first(net.first(x))),
            ValueError,
            "block 'first' runs more than once",
        ),
        (
            lambda net, x: net.second((net.first(x), x)),
            TypeError,
            "block 'second' gives a tuple with 2 tensors; accepted: one tensor",
        ),
        (lambda net, x: net.second({"x": net.first(x)}), TypeError, "gives dict, not a tensor"),
        (
            lambda net, x: net.second(net.first(x).flatten(2)),
            ValueError,
            r"block 'second' gives 3 tokens; accepted: a grid with the aspect ratio of the image",
        ),
        (
            lambda net, x: net.second(net.first(x)[:, :0]),
            ValueError,
            r"block 'second' gives shape \(1, 0, 12, 14\)",
        ),
        (
            lambda net, x: net.second(F.pixel_unshuffle(net.first(x), 2).reshape(4, 3, 6, 7)),
            ValueError,
            r"block 'second' gives shape \(4, 3, 6, 7\)",
        ),
        (lambda net, x: net.second(net.first(x) + 1j), TypeError, "block 'second'.*complex64"),
    ],
    ids=["does not run", "runs twice", "tuple", "dict", "3-D", "empty", "windows", "complex"],
)
def test_blocks_that_give_no_volumes_are_refused(images, forward, error, message):
    with pytest.raises(error, match=message) as caught:
        profile(Net(forward), images)
    assert not getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (["0", "nonesuch"], "no such block: nonesuch; accepted: 'input' and names in model.named"),
        ([], r"blocks: \[\]; accepted"),
        (["0", "0"], r"blocks: \['0', '0'\]; accepted.*each once"),
        ([0], "no such block: 0"),
        ("input", "blocks.*'input'; accepted"),
    ],
)
def test_lists_of_blocks_that_are_refused(small_network, images, blocks, message):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        profile(small_network, images, blocks=blocks)
    assert "i, n, p, u, t" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TypeError, "images are torch.uint8; accepted"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.complex64), TypeError, "images are torch.complex64"),
        (np.zeros((1, 3, 8, 8), dtype=int), TypeError, "images are torch.int64"),
        (np.zeros((1, 3, 8, 8), dtype=">i4"), TypeError, "images are torch.int32"),
        (np.zeros((1, 3, 8, 8), dtype=object), TypeError, "images are object; accepted"),
        (np.zeros((1, 3, 8, 8), dtype=complex), TypeError, "images are complex128; accepted"),
        ([1, 2], TypeError, "images are list; accepted"),
        (None, TypeError, "images are NoneType; accepted"),
        (torch.zeros(3, 8, 8), ValueError, r"images have shape \(3, 8, 8\); accepted"),
        (torch.zeros(0, 3, 8, 8), ValueError, r"images have shape \(0, 3, 8, 8\)"),
        (torch.full((1, 3, 8, 8), torch.nan), ValueError, "images contain NaN or infinite"),
        (torch.full((1, 3, 8, 8), torch.inf), ValueError, "images contain NaN or infinite"),
        ("nonesuch", ValueError, "unknown data set 'nonesuch'; embedded: imagenet_samples"),
    ],
)
def test_images_that_are_refused(small_network, images, error, message):
    with pytest.raises(error, match=message):
        profile(small_network, images)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"n_images": 6}, "6 images asked for, but the tensor has 5"),
        ({"batch_norm": "train"}, "unknown batch_norm 'train'; accepted: 'eval' and 'per_image'"),
        ({"batch_size": 0}, "batch_size is 0; accepted: a whole number from 1"),
        ({"batch_size": 2.0}, "batch_size is 2.0; accepted"),
        ({"batch_size": True}, "batch_size is True; accepted"),
        ({"n_images": 0}, "n_images is 0; accepted"),
        ({"n_images": 2.5}, "n_images is 2.5; accepted"),
        ({"n_images": "2"}, "n_images is '2'; accepted"),
        ({"n_images": True}, "n_images is True; accepted"),
    ],
)
def test_options_that_are_refused(small_network, images, keywords, message):
    with pytest.raises(ValueError, match=message):
        profile(small_network, images, **keywords)


def test_whole_numbers_of_numpy_are_whole_numbers(small_network, images):
    result = profile(small_network, images, batch_size=np.int64(2), n_images=np.int64(3))
    assert result.sizes["image"] == 3


@pytest.mark.parametrize(
    "thresholds",
    [np.nan, [0, np.nan], [], [[0.0]], None, [None], "0", "abc", 1j, 10**400],
    ids=lambda value: repr(value)[:9],
)
def test_thresholds_that_are_refused(small_network, images, thresholds):
    with pytest.raises((TypeError, ValueError), match=r"threshold.*; accepted: one"):
        profile(small_network, images, thresholds)


def test_thresholds_that_betti_numbers_takes(small_network, images):
    expected = profile(small_network, images, [0.0, 1.0])
    for same in (torch.tensor([0.0, 1.0], requires_grad=True), iter([0, 1])):
        xr.testing.assert_identical(profile(small_network, images, same), expected)


@pytest.mark.parametrize("model", [None, torch.relu, nn.ReLU], ids=["None", "function", "class"])
def test_what_is_no_network_is_refused(images, model):
    with pytest.raises(TypeError, match=r"model is .*; accepted"):
        profile(model, images)


def test_unknown_names_of_networks_are_refused(images):
    with pytest.raises(ValueError, match="unknown network 'resnet'; embedded: efficientnet_lite0"):
        profile("resnet", images)


def test_images_too_small_for_per_image_statistics_say_so(images):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    profile(network, images)
    with pytest.raises(ValueError, match="more than 1 value per channel") as caught:
        profile(network, images, batch_norm="per_image")
    assert "12 x 14 pixels with batch_norm='per_image'" in caught.value.__notes__[0]


class Given(nn.Module):
    """A network whose one block gives what it is told to, whatever the image."""

    def __init__(self, volume):
        super().__init__()
        self.block = nn.Identity()
        self.volume = volume

    def forward(self, x):
        return self.block(self.volume.expand(len(x), *self.volume.shape))


def test_shuffles_keep_what_they_should(images):
    # Solid channels of one value each: a column of channels at every pixel.
    levels = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    solid = Given(levels[:, None, None].expand(6, 9, 9).clone())
    plain = profile(solid, images).squeeze()
    np.testing.assert_array_equal(plain[0], [3, 0, 0])
    within = profile(solid, images, null="within_channels").squeeze()
    np.testing.assert_array_equal(within, plain)  # each channel has one value only
    ordered = profile(solid, images, null="channel_order").squeeze()
    assert set(np.unique(ordered[:, 0])) <= {1, 2, 3}  # layers, in some order
    assert not ordered[:, 1:].any()
    everything = profile(solid, images, null="volume").squeeze()
    assert (everything.sum("degree") > 20).all()

    # The distribution stays: at its maximum the set is full, below its minimum empty.
    mixed = Given(torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0)))
    ends = [float(mixed.volume.min()) - 1, float(mixed.volume.max())]
    for null in ("volume", "within_channels", "channel_order"):
        shuffled = profile(mixed, images, ends, null=null).squeeze()
        np.testing.assert_array_equal(shuffled[0], [[0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("null", ["volume", "within_channels", "channel_order"])
def test_shuffles_follow_the_seed_and_nothing_else(small_network, images, null):
    first = profile(small_network, images, null=null, blocks=["0", "4"])
    again = profile(small_network, images, null=null, blocks=["4", "0"], batch_size=2)
    np.testing.assert_array_equal(first.sel(block=["4", "0"]), again)
    other = profile(small_network, images, null=null, blocks=["0", "4"], seed=1)
    assert (first != other).any()
    assert first.attrs["null"] == null


def test_an_unknown_shuffle_is_refused(small_network, images):
    with pytest.raises(ValueError, match="unknown null 'rows'; accepted: None, 'volume', "):
        profile(small_network, images, null="rows")


# --- What a result on disk follows from


def test_every_module_that_may_change_an_integer_is_in_the_key(tmp_path, monkeypatch):
    package = tmp_path / "topo_utils"
    shutil.copytree(Path(store.__file__).parent, package, ignore=lambda *_: {"weights"})
    monkeypatch.setattr(store, "__file__", str(package / "store.py"))
    digest, press = store.source_digest.__wrapped__, []
    before = digest()
    for file in package.rglob("*.py"):
        content = file.read_bytes()
        file.write_bytes(content + b"#")
        if digest() == before:
            press.append(file.relative_to(package).parts[0].removesuffix(".py"))
        file.write_bytes(content)
    assert set(press) == {"__main__", "book"}
    (package / "new.py").touch()
    assert digest() != before


def test_what_another_source_measured_is_not_read(small_network, images, tmp_path, monkeypatch):
    for source in ("one", "one", "another"):
        monkeypatch.setattr(embedding, "source_digest", lambda source=source: source)
        profile(small_network, images, cache=tmp_path)
    assert len(list(tmp_path.glob("profiles/*"))) == 2


# --- Networks in wrappers, their copies, and devices


@pytest.mark.parametrize("null", [None, "within_channels", "volume"])
def test_a_network_that_is_part_of_another_is_counted_as_it_is(null):
    torch.manual_seed(0)
    options = {"depths": [1, 1], "num_heads": [1, 2], "window_size": [4, 4]}
    swin = torchvision.models.SwinTransformer([4, 4], 8, **options)
    images = torch.randn(2, 3, 32, 32)
    bare = profile(swin, images, ETAS, blocks=["features.1.0"], null=null)
    part = nn.Sequential(nn.Identity(), nn.Sequential(swin))
    within = profile(part, images, ETAS, blocks=["1.0.features.1.0"], null=null)
    if null is None:
        hand = swin.eval().features[:2](images).detach().permute(0, 3, 1, 2)
        expected = [[betti_numbers(volume, ETAS)] for volume in hand]
        np.testing.assert_array_equal(bare, expected)
        np.testing.assert_array_equal(within, expected)
    elif null == "within_channels":
        # Shuffles go by the name of the block. What stays is what each channel has.
        ends = [float("-inf"), float("inf")]
        for name, network in (("features.1.0", swin), ("1.0.features.1.0", part)):
            result = profile(network, images, ends, blocks=[name], null=null)
            assert result.values[..., 0].tolist() == [[[0, 1]], [[0, 1]]]


def test_wrappers_of_torch_change_nothing(small_network, images):
    expected = profile(small_network, images, ETAS)
    for wrap, word in (
        (nn.DataParallel, "module"),
        (torch.optim.swa_utils.AveragedModel, "module"),
        (lambda network: torch.compile(network, backend=lambda *_: 1 / 0), "_orig_mod"),
    ):
        wrapped = nn.DataParallel(wrap(small_network))
        xr.testing.assert_identical(profile(wrapped, images, ETAS), expected)
        names = [f"module.{word}.0", "module.1", f"{word}.2", "4"]
        named = profile(wrapped, images, ETAS, blocks=names)
        assert named["block"].values.tolist() == names
        np.testing.assert_array_equal(named, expected.sel(block=["0", "1", "2", "4"]))


@pytest.mark.parametrize("batch_norm", ["eval", "per_image"])
def test_functions_that_hold_the_network_are_those_of_the_copy(small_network, images, batch_norm):
    expected = profile(copy.deepcopy(small_network), images, ETAS, batch_norm=batch_norm)
    seen, norm, forward = [], small_network[1], small_network[1].forward

    def patched(x, *, scale=1.0):
        seen.append(norm.training)
        return scale * forward(x)

    small_network[1].forward = patched
    small_network.forward = lambda x: nn.Sequential.forward(small_network, x)
    small_network.train()
    before = state_of(small_network)
    result = profile(small_network, images, ETAS, batch_norm=batch_norm)
    np.testing.assert_array_equal(result, expected)
    assert set(seen) == {batch_norm == "per_image"}
    assert_same_state(small_network, before)


def test_tensors_in_attributes_are_the_copys_own(images):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.state, self.block = {"sum": [torch.zeros(1)]}, nn.Identity()
            self.kept = [nn.Parameter(torch.ones(1)) * 2]  # which autograd follows

        def forward(self, x):
            self.state["sum"][0] += 1
            return self.block(x * self.kept[0])

    network = Counting()
    result = profile(network, images, 0.3, n_jobs=3)
    np.testing.assert_array_equal(result.squeeze(), [betti_numbers(2 * x, 0.3) for x in images])
    assert network.state["sum"][0] == 0


@pytest.mark.parametrize(
    "device", ["cuda", "cuda:7", "mps", "meta", "nonsense", torch.device("cuda"), None, 3.5]
)
def test_devices_that_are_not_there_are_told_at_once(images, monkeypatch, device):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2 * (device == "cuda:7"))
    monkeypatch.setattr("torch.mps.device_count", lambda: 0)
    there = "'auto', 'cpu'" + ", 'cuda', 'cuda:0', 'cuda:1'" * (device == "cuda:7")
    ran = []
    network = Net(lambda net, x: ran.append(x))
    with pytest.raises(ValueError, match=f"there is no device '{device}' here; accepted: {there}"):
        profile(network, images, device=device)
    assert not ran
    # On a cluster it is looked for where the network runs.
    if device in ("cuda", "cuda:7"):
        with joblib.parallel_config("loky"):
            assert embedding._chosen_device(device) == torch.device(device)
    with (
        pytest.raises(ValueError, match="there is no device"),
        block_outputs(network, [], device=device),
    ):
        pass


def test_a_number_of_the_cpu_is_the_cpu(small_network, images):
    expected = profile(small_network, images, ETAS)
    for device in ("cpu:0", torch.device("cpu", 3)):
        xr.testing.assert_identical(profile(small_network, images, ETAS, device=device), expected)
