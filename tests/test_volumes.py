"""What blocks put out, read as volumes: maps, vectors, tokens, channels last."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision import models as tv

from topo_utils import block_shapes, embedding_profile, input_size, load_model, model_blocks
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


# --- Against timm's own reading of its networks


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8}),
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "reg_tokens": 4}),
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "class_token": False}),
        ("eva02_tiny_patch14_224", {"img_size": 28}),
        ("swin_tiny_patch4_window7_224", {"img_size": 56}),
        ("deit_tiny_distilled_patch16_224", {"img_size": 32}),
        ("twins_svt_small", {"img_size": 64}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_tokens_are_put_back_as_timm_does_it(name, options):
    timm = pytest.importorskip("timm")
    # Without a prefix there is nothing to pool but the average.
    pool = {"global_pool": "avg"} if "class_token" in options else {}
    torch.manual_seed(0)
    network = timm.create_model(name, **options, **pool).eval()
    images = torch.randn(2, 3, options["img_size"], options["img_size"])
    volumes = read(network, images)
    with torch.inference_mode():
        features = network.forward_intermediates(images, intermediates_only=True)
    # timm gives all blocks of a vision transformer, the last blocks of the stages of others.
    assert len(features) >= 4
    for feature in features:
        assert any(torch.equal(feature, volume) for volume in volumes.values())


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


class Hiera(nn.Module):
    """Of the name of a network that keeps its tokens in an order of its own."""


@pytest.mark.parametrize(
    ("network", "output", "message"),
    [
        (nn.Identity(), torch.zeros(1, 3, 6), r"'x' gives 3 tokens; accepted.*one or no class"),
        (Tokens(5, True), torch.zeros(1, 10, 6), r"gives 10 tokens.*with 5 tokens before it"),
        (Tokens(1, True), torch.zeros(1, 1, 6), r"gives 1 tokens"),  # the class token alone
        (Hiera(), torch.zeros(1, 16, 6), "tokens in an order of its own"),
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
