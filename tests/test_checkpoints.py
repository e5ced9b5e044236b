"""Weights as people have them: what fits a network is found, whatever is around it, or refused."""

import argparse
import collections
import errno
import gzip
import os
import pathlib
import pickle
import re
import subprocess
import tempfile
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn
from torchvision import models as tv

from topo_utils import embedding_profile, load_model, model_blocks
from topo_utils.checkpoints import load_checkpoint


def small(classes=5, depth=2, **more):
    """A stem, a stack of blocks and a head."""
    stem = nn.Conv2d(3, 4, 3)
    block = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)) for _ in range(depth)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)]
    parts = {"stem": stem, "body": nn.Sequential(*block)}
    return nn.Sequential(OrderedDict(parts | more | {"head": nn.Sequential(*head)}))


def trained(seed=1, **options):
    """A network as training leaves it."""
    torch.manual_seed(seed)
    network = small(**options)
    torch.manual_seed(seed)
    network(torch.randn(4, 3, 9, 9))  # in training mode: running statistics
    return network.eval()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(held, network=None, file="a.pt", told=None, size=12):
    """A network with the weights of a file that holds this; what was warned of must match."""
    if isinstance(held, bytes):
        pathlib.Path(file).write_bytes(held)
    elif held is not None:
        torch.save(held, file)
    network = small() if network is None else network
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_checkpoint(network, file, model_blocks(network), size)
    said = " ".join(str(w.message) for w in caught if "checkpoint" in str(w.message)[:10])
    assert (told or "") in said
    assert bool(told) == bool(said), said
    return network


def same(network, reference, but=()):
    """Whether all entries but those under some names are alike."""
    expected = reference.state_dict()
    return all(
        torch.equal(value, expected[name])
        for name, value in network.state_dict().items()
        if not name.startswith(tuple(but)) and not name.endswith("num_batches_tracked")
    )


class Settings:
    """A class of a trainer's, which is not at hand where the weights are read."""

    def __init__(self):
        self.rate = 0.1


class Table(dict):
    """The same, as a dict: so Lightning keeps a module's arguments."""


def before(word):
    return lambda state: OrderedDict((word + name, value) for name, value in state.items())


def swap(old, new):
    return lambda state: {name.replace(old, new): value for name, value in state.items()}


def beside(**more):
    return lambda state: {"state_dict": state, **more}


PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net."]
PREFIXES += ["backbone.", "encoder.", "model.backbone.", "student.module.encoder.", "body."]
CONTAINERS = ["state_dict", "model", "model_state_dict", "ema", "model_ema", "state_dict_ema"]
CONTAINERS += ["net", "params", "network", "weights", "module"]
ACCEPTED = {
    "as it is": lambda state: state,
    "a plain dict": dict,
    "parameters": lambda state: {
        n: nn.Parameter(v, v.is_floating_point()) for n, v in state.items()
    },
    "two containers": lambda state: {"checkpoint": {"model": state}, "epoch": 3},
    "container and prefix": lambda state: {"model": before("module.")(state)},
    "a part compiled": swap("body.", "body._orig_mod."),
    "a part wrapped": lambda state: before("module.")(swap("body.", "body.module.")(state)),
    "sharded": swap("body.0.", "_fsdp_wrapped_module.body.0._fsdp_wrapped_module."),
    "no counters": lambda state: {n: v for n, v in state.items() if "num_batches" not in n},
    "counters of one entry": lambda state: {
        n: v.reshape(1) if not v.ndim else v for n, v in state.items()
    },
    "float64": lambda state: {n: v.double() if v.ndim else v for n, v in state.items()},
    "sparse": lambda state: {n: v.to_sparse() if v.ndim > 1 else v for n, v in state.items()},
    "an optimiser": beside(
        optimizer={"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{}]}
    ),
    "counts of numpy": beside(best=np.float64(0.5), epoch=np.int64(3), order=np.arange(3)),
    "arguments": beside(args=argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("a"))),
    "classes": beside(settings=Settings(), kind=Settings, table=Table(a=1)),
    "defaultdict": beside(log=collections.defaultdict(list, loss=[0.5])),
    "in a dict of its own": lambda state: Table(state_dict=Table(state)),
    "numbers as keys": lambda state: {"model": state, 0: torch.ones(3), None: 1},
}
ACCEPTED |= {f"prefix {word}": before(word) for word in PREFIXES}
ACCEPTED |= {f"under {word}": lambda state, word=word: {word: state} for word in CONTAINERS}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_weights_are_found_whatever_is_around_them(place, kind):
    network = trained()
    held = ACCEPTED[kind](network.state_dict())
    torch.save(held, "old.pt", _use_new_zipfile_serialization=False)
    for model in (loaded(held), loaded(None, file="old.pt")):
        assert same(model, network)
        assert model.weights_name in ("checkpoint a.pt", "checkpoint old.pt")
        assert not any(module.training for module in model.modules())


WORDS = ["module", "_orig_mod", "model", "state_dict", "ema", "stem", "body", "head", "0", "bias"]


@given(
    containers=st.lists(st.sampled_from(WORDS), max_size=3), words=st.lists(st.sampled_from(WORDS))
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_any_words_before_the_names_are_taken_off(containers, words):
    network = trained()
    held = before("".join(f"{word}." for word in words))(network.state_dict())
    for word in containers:
        held = {word: held, "epoch": 3}
    with tempfile.TemporaryDirectory() as folder:
        assert same(loaded(held, file=f"{folder}/a.pt"), network)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
def test_values_of_a_narrower_type_are_taken_exactly(place, dtype):
    state = {name: (3 * value).to(dtype) for name, value in trained().state_dict().items()}
    assert same(loaded(state), small().double().requires_grad_(False), but=state)
    model = loaded(state)
    assert all(torch.equal(value.to(dtype), state[n]) for n, value in model.state_dict().items())


@pytest.mark.parametrize("file", ["a.pt", "a.safetensors", "a.ckpt", "a.pth.tar", "a.bin", "a"])
def test_a_file_is_what_it_holds_not_what_it_is_called(place, file):
    network = trained()
    assert same(loaded(network.state_dict(), file=file), network)
    assert same(loaded(save(network.state_dict()), file=file), network)
    torch.save({"model": network.state_dict()}, file, _use_new_zipfile_serialization=False)
    assert same(loaded(None, file=file), network)


@pytest.mark.parametrize("name", ["module", "model", "backbone", "_orig_mod", "ema"])
def test_a_child_that_is_called_as_a_wrapper_stays(place, name):
    class Wrapped(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.add_module(name, inner)

        def forward(self, images):
            return getattr(self, name)(images)

    network = Wrapped(trained())
    wrapped = nn.DataParallel(network).state_dict()
    for held in (network.state_dict(), wrapped, {"state_dict": wrapped}, {"module": wrapped}):
        assert same(loaded(held, Wrapped(small())), network)


def test_a_part_that_is_called_as_a_wrapper_may_be_wrapped(place):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.module = nn.Conv2d(3, 3, 3), nn.Sequential()
            self.module.add_module("stem", nn.Conv2d(3, 3, 3))

        def forward(self, images):
            return self.module(self.stem(images))

    network = Twice()
    for part in ("module.", "module.stem.", "stem."):
        state = network.state_dict()
        for name in [name for name in state if name.startswith(part)]:
            state[f"{part}_orig_mod.{name.removeprefix(part)}"] = state.pop(name)
        for held in (state, before("module.")(state), {"model": state}):
            assert same(loaded(held, Twice()), network)


def test_wrappers_of_the_network_itself_make_no_difference(place):
    network = trained()
    for around in (nn.DataParallel, torch.compile):
        for held in (network.state_dict(), around(network).state_dict()):
            assert same(loaded(held, around(small())), around(network))
    averaged = torch.optim.swa_utils.AveragedModel(network)
    assert same(loaded(averaged.state_dict(), told="left out of it: n_averaged"), network)


LEFT_OUT = {
    "a head for other classes": (trained(classes=7).state_dict(), ""),
    "no head": ({n: v for n, v in trained().state_dict().items() if "head" not in n}, ""),
    "backbone and another's head": (
        before("backbone.")({n: v for n, v in trained().state_dict().items() if "head" not in n})
        | {"head.weight": torch.ones(3, 4)},
        "left out of it: head.weight; ",
    ),
    "another kind of head": (
        {n: v for n, v in trained().state_dict().items() if "head" not in n}
        | {"head.layers.0.weight": torch.ones(9, 4), "head.2.scale": torch.ones(9)},
        "left out of it: head.layers.0.weight, head.2.scale; ",
    ),
    "a head that is NaN": (
        {n: v * (torch.nan if "head" in n else 1) for n, v in trained().state_dict().items()},
        "",
    ),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_no_block_needs_is_said_and_is_nan(place, kind):
    state, told = LEFT_OUT[kind]
    model = loaded(
        state, told=told + "it has nothing for these, which are NaN now: head.2.weight, head.2.bias"
    )
    assert same(model, trained(), but=["head"])
    assert all(torch.isnan(value).all() for value in model.head[2].parameters())
    assert model.weights_name == "checkpoint a.pt, without head.2"
    with pytest.raises(ValueError, match=r"NaN or infinite activations in block 'head.2'"):
        embedding_profile(
            model, torch.randn(1, 3, 12, 12), thresholds=0, blocks=["stem", "head.2"], cache=False
        )


@pytest.mark.parametrize("name", ["aux.0.weight", "AuxLogits.fc.bias", "pre_head.w", "criterion.w"])
def test_what_only_training_uses_is_left_out(place, name):
    network = trained()
    model = loaded(network.state_dict() | {name: torch.ones(3)}, told=f"left out of it: {name}")
    assert same(model, network)
    assert model.weights_name == "checkpoint a.pt"


def test_the_same_weights_twice_are_one_set(place):
    network = trained()
    held = {"state_dict": network.state_dict(), "best": dict(network.state_dict())}
    assert same(loaded(held, told="left out of it: best.stem.weight"), network)


def test_averaged_weights_are_taken_before_others_and_others_are_not_chosen_among(place):
    one, average = trained(1), trained(2)
    for words in (
        ("model.", "ema."),
        ("state_dict.", "state_dict_ema."),
        ("net.", "ema_model.module."),
    ):
        held = before(words[0])(one.state_dict()) | before(words[1])(average.state_dict())
        model = loaded(held, told=f"of 2 sets of weights {words[1][:-1]} was taken")
        assert same(model, average)
        assert model.weights_name == f"checkpoint a.pt, {words[1][:-1]}"
    for words in (("student.", "teacher."), ("encoder_q.", "encoder_k."), ("ema.a.", "ema.b.")):
        held = before(words[0])(one.state_dict()) | before(words[1])(average.state_dict())
        with pytest.raises(ValueError, match=rf"holds 2 sets .*{words[0][:-1]}.*; accepted"):
            loaded({"state_dict": held})


def test_tied_weights_need_one_name_only(place):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
            self.b.weight = self.a.weight

        def forward(self, images):
            return self.c(self.b(self.a(images)))

    network = Tied()
    state = network.state_dict()
    del state["b.weight"]
    assert same(loaded(state, Tied()), network)


def test_older_names_and_weight_norms_are_read_by_the_library(place):
    def normed(norm):
        network = trained()
        norm(network.stem)
        return network

    old = normed(nn.utils.weight_norm)
    new = normed(nn.utils.parametrizations.weight_norm)
    torch.testing.assert_close(loaded(old.state_dict(), new).stem.weight, old.stem.weight)
    # torchvision: MLPs were numbered otherwise, MNASNets had another stem.
    vit = tv.VisionTransformer(32, 16, 2, 2, 24, 48)
    state = swap(".mlp.0.", ".mlp.linear_1.")(swap(".mlp.3.", ".mlp.linear_2.")(vit.state_dict()))
    assert same(loaded(state, tv.VisionTransformer(32, 16, 2, 2, 24, 48)), vit)
    mnas = tv.mnasnet0_5()
    for save_it in (
        lambda: torch.save(mnas.state_dict(), "a.pt"),
        lambda: save_file(mnas.state_dict(), "a.pt"),
    ):
        save_it()
        assert same(loaded(None, tv.mnasnet0_5()), mnas)
    dense = tv.DenseNet(4, (2, 2), 8, classes := 2)
    old = {}
    for name, value in dense.state_dict().items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            name = name.replace(part, f"{part[:-1]}.{part[-1]}")
        old[name] = value
    assert same(loaded(old, tv.DenseNet(4, (2, 2), 8, classes)), dense)


REFUSED = {
    "a block is missing": (
        {n: v for n, v in trained().state_dict().items() if "body.1" not in n},
        "6 are missing.*matters to block 'body.1'",
    ),
    "a bias is missing": (
        {n: v for n, v in trained().state_dict().items() if n != "stem.bias"},
        "1 are missing from it .stem.bias..*block 'stem'",
    ),
    "statistics are missing": (
        {n: v for n, v in trained().state_dict().items() if "running" not in n},
        "4 are missing",
    ),
    "a deeper network": (trained(depth=3).state_dict(), "are not the network's .body.2.0.weight"),
    "a layer between": (
        trained(middle=nn.Conv2d(4, 4, 1)).state_dict(),
        "2 are not the network's .middle",
    ),
    "positions": (
        trained().state_dict() | {"pos_embed": torch.ones(3)},
        "are not the network's .pos_embed",
    ),
    "another width": (
        small().state_dict() | {"stem.weight": torch.ones(4, 1, 3, 3)},
        "1 have a different shape .stem.weight",
    ),
    "other names": ({"a.weight": torch.ones(3)}, r"none of its 1 entries \(a.weight\) is one of"),
    "complex": ({n: v * 1j if v.ndim else v for n, v in trained().state_dict().items()}, "complex"),
    "quantised": (
        trained().state_dict()
        | {"stem.bias": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)},
        "quantized",
    ),
    "NaN": (
        trained().state_dict() | {"stem.bias": torch.full((4,), torch.nan)},
        "cannot be used: .*1 are not finite .stem.bias",
    ),
    "infinite": (
        trained().state_dict() | {"body.0.1.running_var": torch.full((4,), torch.inf)},
        "not finite",
    ),
    "too large": (
        trained().state_dict() | {"stem.bias": torch.full((4,), 1e300, dtype=torch.double)},
        "not finite",
    ),
    "no values": ({n: v.to("meta") for n, v in trained().state_dict().items()}, "have no values"),
    "numbers as keys": ({0: torch.ones(3), 1: torch.ones(3)}, "holds no weights by name"),
    "no dict": ([torch.ones(3)], "holds no weights by name"),
    "no tensors": ({"state_dict": {"stem.weight": [1.0]}, "epoch": 3}, "holds no weights by name"),
    "a whole network": (trained(), r"holds no weights by name; accepted: .*network.state_dict\(\)"),
    "empty": (b"", r"cannot be read \(the file is empty\)"),
    "text": (b"no weights\n", "it is text, which begins with 'no weights'"),
    "a web page": (b"<!DOCTYPE html>\n<html>", "it is text, which begins with '<!DOCTYPE html>'"),
    "a pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
        "git lfs pull",
    ),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "it begins with b.*HDF"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x062.1.0:\x9e", "it begins with"),
    "compressed": (gzip.compress(b"weights"), "it begins with"),
    "a plain pickle": (pickle.dumps({"stem.bias": torch.ones(4)}), "a pickle of a newer protocol"),
    "cut off": (save(trained().state_dict())[:-9], "cannot be read"),
}


@pytest.mark.parametrize("file", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_named(place, kind, file):
    held, message = REFUSED[kind]
    with pytest.raises(ValueError, match=f"checkpoint {file} .*{message}.*") as caught:
        loaded(held, file=file)
    assert "; accepted: " in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_weights_are_told_apart(place, monkeypatch):
    np.savez("a.npz", stem=np.ones(3))
    torch.jit.save(torch.jit.trace(trained(), torch.randn(1, 3, 9, 9)), "a.pt")
    torch.save(trained().state_dict(), "whole.pt")
    pathlib.Path("cut.pt").write_bytes(pathlib.Path("whole.pt").read_bytes()[:-99])
    os.mkfifo("pipe")
    closed = pathlib.Path("closed.pt")
    closed.write_bytes(b"weights")
    opens = pathlib.Path.open

    def refuse(path, *arguments):
        if path.name == closed.name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opens(path, *arguments)

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    for file, message in (
        ("a.npz", r"cannot be read .it is a zip archive, of stem.npy"),
        ("a.pt", "cannot be read .it is a TorchScript archive"),
        ("cut.pt", "cannot be read"),
        ("pipe", "not a regular file"),
        ("closed.pt", r"cannot be read .Permission denied"),
        (".", "is a folder"),
        ("nonesuch.pt", "there is no such file"),
    ):
        with pytest.raises(ValueError, match=f"{message}.*; accepted: .safetensors"):
            loaded(None, file=file)


class Malicious:
    """A pickle that would run code when it is loaded."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def shout(text):
    print(text)
    return torch.ones(4)


CODE = [(print, ("code ran",)), (os.system, ("echo code ran",)), (eval, ("print('code ran')",))]
CODE += [(subprocess.run, (["echo", "code ran"],))]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("call", CODE, ids=lambda call: call[0].__name__)
def test_code_in_a_file_is_refused_and_never_runs(place, capfd, call, zipped):
    for held in (
        trained().state_dict() | {"stem.bias": Malicious(*call)},
        beside(log=Malicious(*call))({}),
    ):
        torch.save(held, "a.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"a.pt cannot be read .it would run \w+\S*, and code"):
            loaded(None)
    assert "code ran" not in capfd.readouterr().out


def test_functions_of_other_modules_are_dropped_and_never_run(place, capfd):
    network = trained()
    assert same(loaded(beside(log=Malicious(shout, ("code ran",)))(network.state_dict())), network)
    with pytest.raises(ValueError, match=r"missing from it \(stem.bias"):
        loaded(network.state_dict() | {"stem.bias": Malicious(shout, ("code ran",))})
    assert "code ran" not in capfd.readouterr().out


# --- Real networks


@pytest.mark.parametrize("kind", [tv.GoogLeNet, tv.Inception3])
def test_auxiliary_heads_are_left_out(place, kind):
    network = kind(3, aux_logits=True, init_weights=False)
    model = kind(5, aux_logits=False, init_weights=False)
    left_out = "aux1.conv.conv.weight" if kind is tv.GoogLeNet else "AuxLogits.conv0.conv.weight"
    loaded(network.state_dict(), model, told=f"left out of it: {left_out}", size=96)
    assert same(model, network, but=["fc"])
    assert model.weights_name == "checkpoint a.pt, without fc"


def test_what_a_file_cannot_tell_of_googlenet_is_said(place):
    torch.save(tv.GoogLeNet(init_weights=False).state_dict(), "a.pt")
    with (
        pytest.warns(UserWarning, match="googlenet is measured without transform_input"),
        pytest.warns(UserWarning, match="left out of it: aux1"),
    ):
        load_model("googlenet", checkpoint="a.pt")


def test_of_another_depth_the_weights_are_refused(place):
    torch.save(tv.resnet34().state_dict(), "a.pt")
    with pytest.raises(ValueError, match=r"80 are not the network's \(layer1.2.conv1.weight"):
        load_model("resnet18", checkpoint="a.pt")


def test_names_and_positions_are_fitted_as_timm_does(place):
    timm = pytest.importorskip("timm")
    name = "vit_tiny_patch16_224"
    larger = timm.create_model(name, img_size=64, num_classes=3).state_dict()
    torch.save(larger | {"mask_token": torch.zeros(1, 1, 192)}, "a.pt")
    fitted = (
        "left out of it: mask_token, head.weight, head.bias; .*size: pos_embed; .*: head.weight"
    )
    with pytest.warns(UserWarning, match=fitted):
        model = load_model(name, checkpoint="a.pt")
    assert model.weights_name == "checkpoint a.pt, without head"
    assert torch.equal(model.blocks[3].attn.qkv.weight, larger["blocks.3.attn.qkv.weight"])
    assert model.pos_embed.isfinite().all()
    # Names of the authors of ConvNeXt, which have nearly none of timm's.
    kind = timm.models.convnext.ConvNeXt
    sizes = {"depths": (1, 1, 1, 1), "dims": (4, 4, 4, 4), "num_classes": 3}
    network = kind(**sizes)
    theirs = {
        "stem.": "downsample_layers.0.",
        ".conv_dw.": ".dwconv.",
        ".mlp.fc1.": ".pwconv1.",
        ".mlp.fc2.": ".pwconv2.",
        "head.norm.": "norm.",
        "head.fc.": "head.",
    }
    state = {}
    for ours, value in network.state_dict().items():
        ours = re.sub(r"stages\.(\d)\.(blocks|downsample)\.", r"\2.\1.", ours)
        ours = ours.replace("blocks.", "stages.").replace("downsample.", "downsample_layers.")
        for new, old in theirs.items():
            ours = ours.replace(new, old)
        state[ours] = value
    for held in (state, {"model": state}):
        assert same(loaded(held, kind(**sizes), size=64), network)
