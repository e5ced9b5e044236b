"""What blocks put out, read as volumes: maps, vectors, tokens, channels last."""

import re
import threading
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune
from torchvision import models as tv
from torchvision.models.feature_extraction import create_feature_extractor

from topo_utils import (
    block_outputs,
    block_shapes,
    embedding_profile,
    input_size,
    load_model,
    model_blocks,
)
from topo_utils.blocks import module_path, unwrapped
from topo_utils.volumes import as_volumes

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def read(network, images=IMAGES, **options):
    """Every block's volumes, as a profile reads them."""
    volumes, hooks = {}, []
    for name in model_blocks(network, **options):

        def take(module, inputs, output, name=name):
            volumes[name] = as_volumes(network, name, output, tuple(images.shape[-2:]))

        hooks.append(network.get_submodule(name).register_forward_hook(take))
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()
    return volumes


class Around(nn.Module):
    """A network of the user's own that has another one two levels down."""

    def __init__(self, network):
        super().__init__()
        self.parts = nn.ModuleDict({"body": network})

    def forward(self, images):
        return self.parts["body"](images)


# What wraps a network, and what comes before the names of its blocks then.
WRAPPERS = {
    "bare": (lambda network: network, ""),
    "DataParallel": (nn.DataParallel, "module."),
    "AveragedModel": (torch.optim.swa_utils.AveragedModel, "module."),
    "compiled": (torch.compile, "_orig_mod."),
    "Sequential": (nn.Sequential, "0."),
    "of the user's own": (Around, "parts.body."),
    "twice": (lambda network: nn.DataParallel(Around(network)), "module.parts.body."),
}


def read_everywhere(network, images):
    """Volumes by name of all modules, which must be the same wherever the network is."""
    wrapped = [(wrap(network), prefix) for wrap, prefix in WRAPPERS.values()]
    size, volumes = tuple(images.shape[-2:]), {}

    def take(module, inputs, output, name):
        found = []
        for outer, prefix in wrapped:
            try:
                found.append(as_volumes(outer, prefix + name, output, size, len(images)))
            except (TypeError, ValueError) as error:
                found.append(str(error).partition("' ")[2])
        if isinstance(found[0], str):
            assert len(set(found)) == 1
        else:
            assert all(torch.equal(found[0], volume) for volume in found)
            volumes[name] = found[0].clone()

    for name, module in network.named_modules():
        if name:
            module.register_forward_hook(partial(take, name=name))
    with torch.inference_mode():
        network(images)
    return volumes


# --- Against timm's own reading of its networks


VIT = {"img_size": 32, "patch_size": 8, "depth": 2}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", VIT),
        ("vit_tiny_patch16_224", VIT | {"reg_tokens": 4}),
        ("vit_tiny_patch16_224", VIT | {"class_token": False, "global_pool": "avg"}),
        ("eva02_tiny_patch14_224", {"img_size": 28, "depth": 2}),
        ("deit_tiny_distilled_patch16_224", {"img_size": 32, "depth": 2}),
        ("cait_xxs24_224", {"img_size": 32, "depth": 2, "embed_dim": 48}),
        ("xcit_nano_12_p8_224", {"img_size": 32, "depth": 2, "embed_dim": 32}),
        ("twins_svt_small", {"img_size": 64}),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 56, "embed_dim": 24, "depths": (2, 1), "num_heads": (1, 2)},
        ),
        (
            "swinv2_tiny_window8_256",
            {"img_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2)},
        ),
        (
            "samvit_base_patch16_224",
            {"img_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 3, "window_size": 2},
        ),
        ("mambaout_femto", {"depths": (1, 1, 1, 1)}),
        ("sequencer2d_s", {"img_size": 56, "layers": (1, 1, 1, 1)}),
        ("davit_tiny", {"depths": (1, 1, 1, 1), "embed_dims": (24, 48, 96, 192)}),
        ("edgenext_xx_small", {"depths": (1, 1, 1, 1)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_outputs_are_read_as_timm_does_it_wherever_the_network_is(name, options):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(name, **options).eval()
    size = options.get("img_size", 64)
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        features = network.forward_intermediates(images, intermediates_only=True)
    volumes = read_everywhere(network, images)
    # timm gives all blocks of a vision transformer, the last blocks of the stages of others.
    assert len(features) >= 2
    for feature in features:
        assert any(torch.equal(feature, volume) for volume in volumes.values())


@pytest.mark.parametrize(
    ("name", "shape", "size", "last"),
    [
        # As many channels as rows and columns: the layers say which is which.
        ("conv", (12, 12, 12), (48, 48), False),
        ("features.1.0.block.0", (12, 12, 12), (48, 48), False),
        ("features.1.0.block.3", (12, 12, 12), (48, 48), True),
        ("features.1.0", (12, 12, 12), (48, 48), False),
        # Sides that are no multiples, so that maps are not quite of the aspect of the image.
        ("features.1.0", (12, 58, 38), (230, 150), False),
        ("features.1.0.block.3", (58, 38, 12), (230, 150), True),
        ("features.1.0.block.3", (57, 38, 12), (230, 150), True),
    ],
)
def test_layers_tell_where_shapes_do_not(name, shape, size, last):
    settings = [tv.convnext.CNBlockConfig(12, None, 2)]
    network = tv.ConvNeXt(settings)
    network.conv = nn.Conv2d(3, 12, 4)
    output = torch.randn(1, *shape)
    expected = output.permute(0, 3, 1, 2) if last else output
    for wrap, prefix in WRAPPERS.values():
        assert torch.equal(as_volumes(wrap(network), prefix + name, output, size), expected)


# --- What is no volume, wherever it is


def small_swin(**options):
    options = {"depths": [1, 1], "num_heads": [1, 2], "window_size": [4, 4]} | options
    torch.manual_seed(0)
    return tv.SwinTransformer(patch_size=[4, 4], embed_dim=8, num_classes=5, **options).eval()


class Hiera(nn.Module):
    """Of the name of a network that keeps its tokens in an order of its own."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Identity())
        self.patches = nn.Conv2d(3, 5, 4, 4)

    def forward(self, images):
        return self.blocks(self.patches(images).flatten(2).transpose(1, 2))


class OfTheUsersOwn(Hiera):
    """By another name, and of the same order."""


class Hierarchical(nn.Module):
    """By a name that only begins like it."""


@pytest.mark.parametrize("kind", [Hiera, OfTheUsersOwn])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_order_of_its_own_is_refused_wherever_the_network_is(kind, wrapper):
    wrap, prefix = WRAPPERS[wrapper]
    network = wrap(kind())
    name = f"{prefix}blocks"
    with pytest.raises(ValueError, match="blocks' gives tokens in an order of its own, not row by"):
        embedding_profile(network, IMAGES, thresholds=0.0, blocks=[name], progress=False)
    shapes, left_out = block_shapes(network, 32, [name])
    assert not shapes
    assert left_out[name].startswith("gives tokens in an order of its own")


def test_a_name_that_begins_like_hiera_is_another():
    assert as_volumes(Hierarchical(), "x", torch.zeros(1, 16, 6), (8, 8)).shape == (1, 6, 4, 4)


def test_parametrised_networks_are_those_that_they_were():
    hiera, swin = Hiera(), small_swin()
    for network in (hiera, swin):
        network.extra = nn.Parameter(torch.zeros(2))
        nn.utils.parametrize.register_parametrization(network, "extra", nn.Identity())
    with pytest.raises(ValueError, match="order of its own"):
        as_volumes(hiera, "blocks.0", torch.zeros(1, 16, 6), (8, 8))
    output = torch.randn(1, 8, 8, 8)
    assert torch.equal(
        as_volumes(swin, "features.1.0", output, (32, 32)), output.permute(0, 3, 1, 2)
    )


class Heads(nn.Module):
    """Attention with its weights in a module of their own."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.qkv, self.attn_drop = 2, nn.Linear(6, 18), nn.Dropout()
        self.proj = nn.Linear(6, 6)

    def forward(self, tokens):
        n_images, n_tokens, _ = tokens.shape
        q, k, v = self.qkv(tokens).reshape(n_images, n_tokens, 3, 2, 3).permute(2, 0, 3, 1, 4)
        weights = self.attn_drop((q @ k.transpose(-2, -1)).softmax(-1))
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class Windows(nn.Module):
    """Attention within windows, two by two, in the place of images."""

    def __init__(self):
        super().__init__()
        self.maps, self.attention, self.rows = nn.Conv2d(3, 6, 4, 4), Heads(), nn.Conv1d(6, 4, 1)

    def forward(self, images):
        maps = self.maps(images)
        self.attention(nn.functional.unfold(maps, 4, stride=4).reshape(-1, 6, 16).transpose(1, 2))
        return self.rows(maps.flatten(2))


def test_windows_heads_and_rows_of_positions_are_refused():
    names = ["attention.proj", "attention.qkv", "attention.attn_drop", "rows", "maps"]
    shapes, left_out = block_shapes(Windows(), 32, names)
    assert shapes == {"maps": (6, 8, 8)}
    assert left_out["attention.proj"].startswith("gives shape (4, 16, 6); accepted: the images fi")
    # With one window there are as many as images, and its tokens are in order.
    shapes, left_out = block_shapes(Windows(), 16, names)
    assert shapes["attention.proj"] == (6, 4, 4)
    assert left_out["attention.attn_drop"].startswith("gives shape (1, 2, 16, 16), an axis of whic")
    assert left_out["rows"].startswith(
        "gives shape (1, 4, 16), channels before positions; accepted"
    )


MIXER = {"img_size": 32, "patch_size": 8, "num_blocks": 1, "embed_dim": 36}


@pytest.mark.parametrize(
    ("kind", "options", "block", "reason"),
    [
        ("MlpMixer", MIXER, "mlp_tokens", "order"),
        ("MlpMixer", MIXER | {"block_layer": "ResBlock", "mlp_ratio": 4}, "linear_tokens", "order"),
        (
            "Nest",
            {"img_size": 64, "embed_dims": (8, 8, 8), "depths": (1, 1, 2), "num_heads": (1, 1, 1)},
            "0.transformer_encoder",
            "order",
        ),
        ("VisionTransformer", VIT | {"depth": 1, "qk_norm": True}, "q_norm", "heads"),
        ("Cait", VIT | {"depth": 1}, "proj_l", "heads"),
    ],
)
def test_what_looks_like_a_volume_in_timm_and_is_none(kind, options, block, reason):
    models = pytest.importorskip("timm.models")
    options = {k: getattr(models.mlp_mixer, v) if k[-1] == "r" else v for k, v in options.items()}
    network = getattr(models, kind)(**options)
    block = next(n for n, _ in network.named_modules() if n.endswith(block))
    size = options["img_size"]
    shapes, left_out = block_shapes(network, size, [block])
    assert not shapes
    assert reason in left_out[block]
    inside = f"parts.body.{block}"
    assert block_shapes(Around(network), size, [inside]) == ({}, {inside: left_out[block]})


# --- Properties


class Tokens(nn.Module):
    """A convolution whose maps pass a second module as tokens behind a prefix."""

    def __init__(self, n_prefix, told):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.maps = nn.Conv2d(3, 5, 4, 4)
        self.maps.weight.data = torch.randn(self.maps.weight.shape, generator=generator)
        self.tokens = nn.Identity()
        self.n_prefix = n_prefix
        if told:
            self.num_prefix_tokens = n_prefix

    def forward(self, images):
        tokens = self.maps(images).flatten(2).transpose(1, 2)
        prefix = tokens.new_full((len(tokens), self.n_prefix, tokens.shape[2]), -9.0)
        return self.tokens(torch.cat([prefix, tokens], dim=1))


@given(
    st.integers(0, 6), st.booleans(), st.sampled_from([(16, 16), (8, 24), (32, 12), (4, 4), (4, 8)])
)
def test_a_prefix_and_the_order_of_tokens_do_not_change_the_volume(n_prefix, told, size):
    network = Tokens(n_prefix, told or n_prefix > 1)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    volumes = read(network, images, pattern="maps|tokens")
    assert torch.equal(volumes["maps"], volumes["tokens"])


def test_tokens_are_counted_as_the_maps_that_they_are():
    profile = embedding_profile(
        Tokens(1, False), IMAGES, thresholds=[-0.5, 0.5], blocks=["maps", "tokens"], progress=False
    )
    assert np.array_equal(profile.sel(block="maps"), profile.sel(block="tokens"))
    assert (profile.sum("degree") > 0).all()


class Last(nn.Module):
    """Channels last, and a network that says so, or does not."""

    def __init__(self, told=True):
        super().__init__()
        self.maps = nn.Conv2d(3, 8, 4, 4)
        self.last = nn.Identity()
        if told:
            self.output_fmt = "NHWC"

    def forward(self, images):
        self.maps(images)
        return self.last(self.maps(images).permute(0, 2, 3, 1))


def test_channels_last_is_taken_from_what_a_network_says():
    told, silent = Last(), Last(told=False)
    silent.load_state_dict(told.state_dict())
    volume = read(told, IMAGES[:, :, :, :16], pattern="last")["last"]
    assert volume.shape == (2, 8, 8, 4)
    # Nothing is guessed of a network of the user's own.
    as_it_is = read(silent, IMAGES[:, :, :, :16], pattern="last")["last"]
    assert torch.equal(as_it_is, volume.permute(0, 2, 3, 1))


@pytest.mark.parametrize("name", ["swin_t", "swin_v2_t"])
def test_channels_last_of_torchvision(name):
    network = load_model(name, weights="random")
    shapes = {name: tuple(v.shape[1:]) for name, v in read(network, IMAGES[:1]).items()}
    assert shapes["features.1.0"] == (96, 8, 8)
    assert shapes["features.7.1"] == (768, 1, 1)
    # As many channels as rows: the class says which is which.
    output = torch.arange(96**3).reshape(1, 96, 96, 96)
    assert torch.equal(as_volumes(network, "x", output, (384, 384)), output.permute(0, 3, 1, 2))


def test_a_tuple_with_one_tensor_is_that_tensor():
    network, output = nn.Identity(), torch.randn(1, 2, 3, 3)
    for wrapped in ((output, [3, 3]), [None, output], (output,)):
        assert as_volumes(network, "x", wrapped, (3, 3)) is output


@pytest.mark.parametrize(
    ("network", "output", "message"),
    [
        (nn.Identity(), torch.zeros(1, 3, 6), r"'x' gives 3 tokens; accepted.*one or no class"),
        (Tokens(5, True), torch.zeros(1, 10, 6), r"gives 10 tokens.*with 5 tokens before it"),
        (Tokens(1, True), torch.zeros(1, 1, 6), r"gives 1 tokens"),  # the class token alone
        (tv.resnet18(), torch.zeros(1, 2, 3, 4), r"\(1, 2, 3, 4\), in which no two neighbours"),
        (nn.Identity(), torch.zeros(5), r"gives shape \(5,\); accepted: \(N, C, H, W\)"),
    ],
)
def test_what_is_no_volume_is_said(network, output, message):
    with pytest.raises(ValueError, match=message):
        as_volumes(network, "x", output, (8, 8))


# --- Which blocks of a network can be measured


class Untidy(nn.Module):
    """Registered in another order than it runs; a layer that runs twice, one that does not."""

    def __init__(self):
        super().__init__()
        self.second = nn.Conv2d(4, 6, 3, padding=1)
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.activation = nn.ReLU(inplace=True)
        self.unused = nn.Dropout()
        self.head = nn.Linear(6, 2)

    def forward(self, images):
        maps = self.activation(self.second(self.activation(self.first(images))))
        return self.head(maps.mean((2, 3)))


def test_blocks_in_the_order_in_which_they_run():
    network = Untidy().train()
    shapes, left_out = block_shapes(network, 16)
    assert list(shapes.items()) == [("first", (4, 8, 8)), ("second", (6, 8, 8))]
    assert left_out == {
        "activation": "runs 2 times in a forward pass",
        "unused": "does not run",
        "head": "gives a vector, not a volume",
    }
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    # What is asked for by name is measured, vectors too.
    assert block_shapes(network, 16, ["head"]) == ({"head": (2, 1, 1)}, {})
    # So are the vectors of a network that has nothing else.
    perceptron = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, 2))
    assert block_shapes(perceptron, 4)[0] == {"0": (48, 1, 1), "1": (5, 1, 1), "2": (2, 1, 1)}
    profile = embedding_profile(
        network, IMAGES, thresholds=0.0, blocks=list(shapes), progress=False
    )
    assert profile.sizes["block"] == 2


def test_shapes_are_those_of_what_is_counted():
    network = load_model("efficientnet_lite0", weights="random")
    shapes, left_out = block_shapes(network, 64)
    assert list(shapes) == model_blocks(network)
    assert not left_out
    volumes = read(network, torch.randn(1, 3, 64, 64))
    assert shapes == {name: tuple(volume.shape[1:]) for name, volume in volumes.items()}


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (nn.Conv2d(1, 4, 3), 8, r"Sequential does not take an image of 3 x 8 x 8: .*1 channel"),
        (nn.Linear(3, 4), 8, r"Sequential does not take an image of 3 x 8 x 8"),
    ],
)
def test_a_network_that_takes_no_such_images_is_told(network, size, message):
    with pytest.raises(ValueError, match=message):
        block_shapes(nn.Sequential(network), size)


def test_names_of_no_module_are_told():
    with pytest.raises(ValueError, match="no such block: nonesuch; accepted: names in"):
        block_shapes(Untidy(), 16, ["first", "nonesuch"])


# --- Blocks by a regular expression


def test_blocks_by_a_regular_expression():
    names = model_blocks("resnet18", r"layer\d\.\d")
    assert names == [f"layer{i}.{j}" for i in range(1, 5) for j in range(2)]
    assert model_blocks("resnet18", "conv1") == ["conv1"]  # the whole name, not layer1.0.conv1
    with pytest.raises(
        ValueError, match=r"no module's whole name matches 'block.*'; needed: .*conv1"
    ):
        model_blocks("resnet18", "block.*")
    with pytest.raises(ValueError, match=r"'\(' is no regular expression \(.*\); accepted"):
        model_blocks("resnet18", "(")


# --- What a network was made for


def test_images_have_the_size_that_a_network_was_made_for():
    assert input_size(load_model("fashion_plain_5")) == 28
    assert input_size(load_model("resnet18", weights="random")) == 224
    assert input_size(nn.Identity()) == 224
    assert input_size(tv.VisionTransformer(64, 16, 1, 1, 8, 8)) == 64
    pytest.importorskip("timm")
    assert input_size(load_model("timm:efficientnet_b3", weights="random")) == 288


def test_images_reach_a_network_of_timm_as_it_was_trained():
    timm = pytest.importorskip("timm")
    loaded = load_model("vit_tiny_patch16_224", weights="random", seed=3)
    plain = timm.create_model("vit_tiny_patch16_224").eval()
    plain.load_state_dict(loaded.state_dict())
    pixels = torch.rand(1, 3, 224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (pixels - mean[:, None, None]) / std[:, None, None]
    with torch.inference_mode():
        torch.testing.assert_close(loaded(normalised), plain((pixels - 0.5) / 0.5))
    # ImageNet's own mean and deviation: nothing is done.
    assert not load_model("timm:resnet18", weights="random")._forward_pre_hooks


# --- Several networks in one, and parts of the user's own


class Several(nn.Module):
    """A network of the user's own on others, each of which has a layout of its own."""

    def __init__(self, **backbones):
        super().__init__()
        self.backbones = nn.ModuleDict(backbones)

    def forward(self, images):
        return [backbone(images) for backbone in self.backbones.values()]


class SwinWithAHead(tv.SwinTransformer):
    """A class of the user's own, which puts the channels first after torchvision's part."""

    def __init__(self):
        super().__init__([4, 4], 8, [1, 1], [1, 2], [4, 4])
        self.first = nn.Sequential(nn.Identity())

    def forward(self, images):
        return self.first(self.features(images).permute(0, 3, 1, 2))


def test_each_block_is_read_by_what_is_nearest_to_it():
    models = pytest.importorskip("timm.models")
    vit = partial(models.VisionTransformer, 32, 4, depth=1, embed_dim=12, num_heads=2)
    backbones = {"swin": small_swin(), "vit": vit(), "registers": vit(reg_tokens=4)}
    network = Several(**backbones, cnn=tv.resnet18(), own=Tokens(1, False))
    names = {
        "backbones.swin.features.0": (8, 8, 8),
        "backbones.swin.features.1.0": (8, 8, 8),
        "backbones.swin.features.2": (16, 4, 4),
        "backbones.vit.blocks.0": (12, 8, 8),
        "backbones.registers.blocks.0": (12, 8, 8),
        "backbones.cnn.layer1.0": (64, 8, 8),
        "backbones.own.tokens": (5, 8, 8),
    }
    assert block_shapes(network, 32, list(names)) == (names, {})
    volumes = read(SwinWithAHead().eval(), pattern="features|first")
    assert volumes["first"].shape == (2, 16, 4, 4)
    assert torch.equal(volumes["features"], volumes["first"])


def test_what_comes_before_the_prefix_is_told_from_it():
    models = pytest.importorskip("timm.models")
    options = {"img_size": 24, "patch_size": 8, "depth": 1, "embed_dim": 12, "num_heads": 2}
    network = Around(models.VisionTransformer(**options, reg_tokens=4))
    prefix = "parts.body."
    # Nine tokens are a grid of 3 x 3, and one of 2 x 2 behind a class token and four registers.
    shapes, _ = block_shapes(network, 24, [f"{prefix}patch_embed", f"{prefix}blocks.0"])
    assert shapes == {f"{prefix}patch_embed": (12, 3, 3), f"{prefix}blocks.0": (12, 3, 3)}


def test_features_taken_out_of_a_network_are_read_like_it():
    timm = pytest.importorskip("timm")
    options = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    networks = {
        "layers_0.blocks.0": timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=32, features_only=True, **options
        ),
        "features.1.0.norm1": create_feature_extractor(small_swin(), ["features.1.0.norm1"]),
    }
    for name, network in networks.items():
        names = [n for n, _ in network.named_modules() if n.endswith(name)]
        for inside in (network, Around(network)):
            prefix = "parts.body." * (inside is not network)
            expected = {f"{prefix}{n}": (8, 8, 8) for n in names}
            assert block_shapes(inside.eval(), 32, list(expected)) == (expected, {})


# --- One way to copy a network, and to see what its blocks give


def plain():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(288, 5))


def with_first(change):
    network = plain()
    network[0] = change(network[0])
    return network


def compiled(network):
    """As torch.compile gives it; compiling fails."""
    return torch.compile(network, backend=lambda *_: 1 / 0)


def compiled_in_place(network):
    network.compile(backend=lambda *_: 1 / 0)
    return network


def changed(**attributes):
    network = plain()
    for name, value in attributes.items():
        setattr(network, name, value)
    return network


class Gives(nn.Module):
    """A convolution, and whatever a function makes of its maps."""

    def __init__(self, function):
        super().__init__()
        self.maps, self.last, self.function = nn.Conv2d(3, 4, 3), nn.Identity(), function

    def forward(self, images):
        return self.last(self.function(self.maps(images)))


def with_hook():
    network = plain()
    network[0].register_forward_hook(lambda module, inputs, output: output[:, :, 1:, 2:])
    network[1].register_forward_pre_hook(lambda module, inputs: (inputs[0].double().float(),))
    network[5] = nn.Linear(220, 5)
    return network


def tied():
    network = plain()
    network.again = network[3]
    network.forward = lambda images: network.again(network[:3](images))
    return network


def after_a_step_of_training():
    network = Gives(lambda maps: maps)
    network.kept = {"maps": [network.maps(IMAGES)]}
    return network


def mixed():
    network = Gives(lambda maps: maps.double())
    network.last = nn.Conv2d(4, 3, 3).double()
    return network


def with_its_own_forward():
    network = plain()
    before = network.forward
    network.forward = lambda images: {"logits": before(images)}
    return network


ACCEPTED = {
    "plain": plain,
    "weight norm": lambda: with_first(nn.utils.parametrizations.weight_norm),
    "spectral norm": lambda: with_first(nn.utils.parametrizations.spectral_norm),
    "old weight norm": lambda: with_first(nn.utils.weight_norm),
    "old spectral norm": lambda: with_first(nn.utils.spectral_norm),
    "pruned": lambda: with_first(lambda m: prune.l1_unstructured(m, "weight", 0.5)),
    "DataParallel": lambda: nn.DataParallel(plain()),
    "AveragedModel": lambda: torch.optim.swa_utils.AveragedModel(plain()),
    "compiled": lambda: compiled(plain()),
    "compiled, in DataParallel": lambda: nn.DataParallel(compiled(plain())),
    "compiled in place": lambda: compiled_in_place(plain()),
    "compiled child": lambda: with_first(compiled),
    "child in DataParallel": lambda: with_first(nn.DataParallel),
    "traced by fx": lambda: torch.fx.symbolic_trace(plain()),
    "feature extractor": lambda: create_feature_extractor(plain(), ["3"]),
    "half": lambda: plain().half(),
    "bfloat16": lambda: plain().bfloat16(),
    "double": lambda: plain().double(),
    "mixed": mixed,
    "in training": lambda: nn.Sequential(nn.Dropout(), *plain()).train(),
    "user's hooks": with_hook,
    "tied": tied,
    "kept activations": after_a_step_of_training,
    "own forward": with_its_own_forward,
    "tensor in an attribute": lambda: changed(scale=torch.ones(2), scales=[torch.ones(2)]),
    "integers": lambda: Gives(lambda maps: (9 * maps).int()),
    "one in a tuple": lambda: Gives(lambda maps: (maps, [0])),
    "dict": lambda: Gives(lambda maps: {"maps": maps}),
    "sparse": lambda: Gives(lambda maps: maps.to_sparse()),
    "for MKL-DNN": lambda: Gives(lambda maps: maps.to_mkldnn()),
    "float8": lambda: Gives(lambda maps: maps.to(torch.float8_e4m3fn)),
    "complex": lambda: Gives(lambda maps: maps + 1j),
    "nested": lambda: Gives(lambda maps: torch.nested.nested_tensor([maps[0]])),
    "without values": lambda: Gives(lambda maps: maps.to("meta")),
    "quantised": lambda: Gives(lambda maps: torch.quantize_per_tensor(maps, 0.1, 0, torch.qint8)),
}


@pytest.mark.filterwarnings("ignore:.*(weight_norm|nested tensors|quantize)")
@pytest.mark.parametrize("network", ACCEPTED)
def test_block_shapes_are_those_that_a_profile_measures(network, monkeypatch):
    network = ACCEPTED[network]()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    training = [module.training for module in network.modules()]
    names = [name for name, _ in unwrapped(network).named_modules() if name]
    shapes, left_out = block_shapes(network, 16, names)
    assert shapes
    measured = []

    def count(volume, thresholds):
        measured.append(tuple(volume.shape))
        return np.zeros((1, 3), dtype=int)

    monkeypatch.setattr("topo_utils.cubical.betti_numbers", count)
    options = {"thresholds": 0.0, "progress": False, "cache": False, "n_jobs": 1, "device": "cpu"}
    images = IMAGES[:1, :, :16, :16]
    embedding_profile(network, images, blocks=list(shapes), **options)
    assert measured == list(shapes.values())
    for name, reason in left_out.items():
        if re.match("does not run|runs", reason):
            reason = "did not run|runs more than once"
        else:
            reason = re.escape(reason)
        with pytest.raises((TypeError, ValueError), match=f"block '{name}' {reason}"):
            embedding_profile(network, images, blocks=[name], **options)
    assert [module.training for module in network.modules()] == training
    assert before.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


REFUSED = {
    "scripted": (lambda: torch.jit.script(plain()), "TorchScript.*; accepted: the torch.nn.Module"),
    "traced": (lambda: torch.jit.trace(plain().eval(), IMAGES[:1, :, :16, :16]), "TorchScript"),
    "scripted child": (
        lambda: with_first(torch.jit.script),
        "block '0' is TorchScript.*; accepted",
    ),
    "scripted, in DataParallel": (lambda: nn.DataParallel(torch.jit.script(plain())), "TorchScr"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(2, 3)), "Sequential has parameters without valu"),
    "meta": (lambda: plain().to("meta"), "Sequential has parameters without values.*; accepted"),
    "lock": (lambda: changed(lock=threading.Lock()), "Sequential cannot be copied .*lock"),
    "sharded": (
        type("FSDPModule", (nn.Identity,), {}),
        r"spread over processes \(FSDP\); accepted",
    ),
}


@pytest.mark.filterwarnings("ignore:.*(torch.jit|Lazy modules|not a leaf)")
@pytest.mark.parametrize("network", REFUSED)
def test_networks_that_cannot_be_measured_are_refused_everywhere_alike(network):
    make, message = REFUSED[network]
    network = make()
    with pytest.raises((TypeError, ValueError), match=message) as first:
        block_shapes(network, 16)
    with pytest.raises((TypeError, ValueError), match=message) as second:
        embedding_profile(network, IMAGES, thresholds=0.0, progress=False, cache=False)
    assert str(first.value) == str(second.value)


@pytest.mark.filterwarnings("ignore:.*(torch.jit|not a leaf)")
def test_batch_norm_of_torchscript_cannot_be_that_of_an_image():
    network = with_first(lambda m: torch.jit.script(nn.Sequential(m, nn.BatchNorm2d(4))))
    options = {"thresholds": 0.0, "progress": False, "blocks": ["2"]}
    assert embedding_profile(network, IMAGES[:, :, :16, :16], **options).sizes["block"] == 1
    with pytest.raises(ValueError, match=r"TorchScript in it.*; accepted: batch_norm='eval'"):
        embedding_profile(network, IMAGES[:, :, :16, :16], batch_norm="per_image", **options)


def test_outputs_of_blocks_are_copies_and_hooks_are_removed_whatever_happens():
    network, images, seen = plain().eval(), IMAGES[:, :, :16, :16], []
    with torch.inference_mode():
        expected = network[0](images), network[:2](images).clone(), network[:4](images)
    with block_outputs(network, ["3", "1", "nonesuch", "0"]) as run:
        outputs = run(images)
        again = run(images.double())
    assert list(outputs) == list(again) == ["0", "1", "3"]  # in the order in which they ran
    for found in (outputs, again):  # the ReLU that comes next works in place
        assert all(map(torch.equal, found.values(), expected))
    assert run(images) == {}
    with block_outputs(network, ["1"], lambda name, output: seen.append(output.min())) as run:
        assert run(images) == {}
    assert seen == [expected[1].min()]
    with block_outputs(nn.Sequential(nn.ReLU(inplace=True)), ["0"]) as relu:
        before = images.clone()
        assert torch.equal(relu(images)["0"], images.relu())
    assert torch.equal(images, before)
    with pytest.raises(RuntimeError), block_outputs(network, ["0"]) as run:
        run(images[:, :1])
    assert run(images) == {}
    assert not any(module._forward_hooks for module in network.modules())


def test_what_is_made_of_an_output_goes_on_in_its_place():
    with block_outputs(plain(), ["0", "5"], lambda name, output: output * torch.nan) as run:
        assert run(IMAGES[:, :, :16, :16]) == {}
    seen = {}

    def take(name, output):
        seen[name] = output
        return output * 0 if name == "0" else None

    with block_outputs(nn.Sequential(nn.Identity(), nn.Identity()), ["0", "1"], take) as run:
        run(IMAGES)
    assert torch.equal(seen["0"], IMAGES)
    assert not seen["1"].any()


@pytest.mark.parametrize("give", [list, tuple, dict, "tensor"])
def test_copies_of_what_is_no_single_tensor(give):
    def gives(maps):
        kept.append(maps.clone())
        both = {"a": maps, "b": maps[:, 1:, ::2]}
        return maps if give == "tensor" else both if give is dict else give(both.values())

    class Overwrites(nn.Module):
        def forward(self, output):
            parts = output.values() if isinstance(output, dict) else output
            for part in [parts] if isinstance(parts, torch.Tensor) else parts:
                part.zero_()

    kept = []
    network = nn.Sequential(Gives(gives), Overwrites())
    with block_outputs(network, ["0"]) as run:
        found = run(IMAGES)["0"]
    assert type(found) is (torch.Tensor if give == "tensor" else give)
    parts = found.values() if isinstance(found, dict) else found
    first, *rest = [parts] if isinstance(parts, torch.Tensor) else parts
    assert torch.equal(first, kept[0])
    assert all(torch.equal(part, kept[0][:, 1:, ::2]) for part in rest)


@pytest.mark.parametrize("name", ["0", "module.0", "_orig_mod.0", "module._orig_mod.0"])
def test_names_with_and_without_the_words_of_wrappers(name):
    for network in (plain(), nn.DataParallel(plain()), nn.DataParallel(compiled(plain()))):
        assert block_shapes(network, 16, [name]) == ({name: (4, 14, 14)}, {})
    # What is really called so comes first.
    own = nn.Module()
    own.module = nn.Conv2d(3, 4, 3)
    own.forward = own.module.forward
    assert module_path(own, "module") == [own, own.module]
    assert not module_path(own, "module.nonesuch")
    wrapped = nn.DataParallel(plain())
    assert model_blocks(wrapped) == [str(i) for i in range(6)]
    assert model_blocks(wrapped, "[02]") == ["0", "2"]
    assert model_blocks(wrapped, "module.[02]") == ["module.0", "module.2"]


class Normalised(nn.DataParallel):
    """A wrapper that changes its input."""

    def forward(self, images):
        return super().forward(images[:, :, ::2])


def test_what_changes_its_input_is_no_wrapper():
    hooks = nn.DataParallel(plain())
    hooks.register_forward_pre_hook(lambda module, inputs: (inputs[0][:, :, ::2],))
    patched = nn.DataParallel(plain())
    patched.forward = lambda images: patched.module(images[:, :, ::2])
    for network in (Normalised(plain()), hooks, patched):
        assert unwrapped(network) is network
        network.module[5] = nn.Identity()
        assert block_shapes(network, 16, ["module.0"])[0] == {"module.0": (4, 6, 14)}


# --- Why a network does not take images


@pytest.mark.parametrize(
    ("network", "cause"),
    [
        (nn.Conv2d(3, 4, 17), "too small"),
        (nn.MaxPool2d(17), "too small"),
        (nn.ReflectionPad2d(16), "too small"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), "size of its own"),
        (nn.LayerNorm([3, 4, 4]), "size of its own"),
        (tv.VisionTransformer(32, 16, 1, 1, 8, 8), "size of its own"),
        (nn.Conv2d(1, 4, 3), "three channels"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3).double()), "several types"),
        (Gives(lambda maps: {}["nonesuch"]), ""),
        (Gives(lambda maps: [].pop()), ""),
        (Gives(lambda maps: int("no size that fits")), ""),
        (Gives(lambda maps: maps.nonesuch), ""),
    ],
)
def test_the_likely_cause_is_said_where_it_is_known(network, cause):
    network = nn.Sequential(network)
    with pytest.raises(
        ValueError, match="Sequential does not take an image of 3 x 16 x 16"
    ) as told:
        block_shapes(network, 16, ["0"])
    assert str(told.value).endswith(
        "; accepted: a network that takes one normalised RGB image in eval mode"
    )
    with pytest.raises(Exception) as caught:  # noqa: PT011
        embedding_profile(
            network, IMAGES[:, :, :16, :16], thresholds=0.0, blocks=["0"], progress=False
        )
    note = "".join(getattr(caught.value, "__notes__", ""))
    for text in (str(told.value), note):
        words = [
            w for w in ("too small", "size of its own", "three channels", "several ty") if w in text
        ]
        assert words == ([cause[:10]] if cause.startswith("several") else [cause] * bool(cause))
