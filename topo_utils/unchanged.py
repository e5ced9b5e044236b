"""What is known of a network before it is measured, and whether it still holds afterwards."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, suppress
from itertools import zip_longest
from typing import NamedTuple

import torch

from topo_utils import store
from topo_utils.identity import Unknown, describe


class Known(NamedTuple):
    """All that decides what a network computes, line by line."""

    parts: list  # parameters, buffers and attributes, and torch's settings
    code: list | None  # None where it cannot be told
    why: str = ""  # it cannot be told
    outputs: str = ""  # a digest of what came out for one image


def weights_of(network):
    """A line for each parameter and buffer, with a digest of its values."""
    lines = []
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        with suppress(RuntimeError, ValueError):  # one without plain values, as on "meta"
            lines.append(f"{name}: {store.digest(tensor)}")
    return lines


def known(network, outputs=None):
    """What is known of a network; `outputs` is a function that gives a digest of what comes out.

    It comes first: after it what `forward` imports and keeps is as ever.
    """
    found = outputs() if outputs else ""
    settings = {
        "default dtype": torch.get_default_dtype(),
        "precision of matrix products": torch.get_float32_matmul_precision(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "oneDNN": torch.backends.mkldnn.enabled,
        "cuDNN": [getattr(torch.backends.cudnn, name) for name in ("enabled", "allow_tf32")],
    }
    settings = {f"torch's {name}": value for name, value in settings.items()}
    try:
        return Known(*describe(network, **settings), outputs=found)
    except Unknown as error:
        return Known(error.parts or weights_of(network), None, str(error), found)


@contextmanager
def unchanged(network, before, outputs, written):
    """Make sure that a network stays what it was; else the files that were `written` go.

    What it or its code keeps as it runs, such as outputs that a hook puts aside, may change.
    """
    after = before
    try:
        yield
    finally:
        after = known(network)
        if written and after[:2] != before[:2]:
            after = known(network, outputs)
        changed = after[:2] != before[:2]
        for file in written if changed else ():
            file.unlink(missing_ok=True)
    names = {name for name, _ in (*network.named_parameters(), *network.named_buffers())}
    state, state_now = (
        [line for line in one.parts if line.partition(":")[0] in names or line[:8] == "torch's "]
        for one in (before, after)
    )
    lines = ([*one.parts, *(one.code or [])] for one in (before, after))
    differ = ((a or b).partition(":")[0] for a, b in zip_longest(*lines, fillvalue="") if a != b)
    same_outputs = before.outputs and after.outputs == before.outputs
    if state != state_now or (before.parts != after.parts and not same_outputs):
        raise ValueError(
            f"the network changed while it was measured, first in {next(differ) or 'its class'}; "
            "nothing of it is kept; accepted: one that stays as it is until the profile is done, "
            "such as a copy.deepcopy of a network in training"
        )
    if written and changed:
        warnings.warn(
            f"the profile is not kept: {next(differ) or 'its class'}, on which the network's "
            "outputs may depend, changed while it ran",
            stacklevel=5,
        )
