"""Small classifiers trained quickly on the CPU, their weights kept on disk by content."""

from __future__ import annotations

import functools
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from topo_utils import store
from topo_utils.blocks import batch_norms
from topo_utils.identity import Unknown, describe
from topo_utils.store import cache_folder

_SETTING = threading.Lock()
_THREAD = threading.local()


def set_threads(number):
    """Set torch's number of threads for this thread alone; returns what it was.

    `torch.set_num_threads` also sets the number with which all threads begin in which torch has not
    worked yet. So such a thread calls it once more, with the number that it began with itself.
    """
    with _SETTING, ThreadPoolExecutor(1) as new:
        before, first = torch.get_num_threads(), new.submit(torch.get_num_threads).result()
        torch.set_num_threads(number)
        new.submit(torch.set_num_threads, first).result()
    return before


class _DefaultGenerator:
    """What `torch.manual_seed` and the like seed and read: inside `own_random` its generator."""

    def __getattr__(self, name):
        return getattr(getattr(_THREAD, "generator", None) or torch.default_generator, name)


class own_random(TorchDispatchMode):
    """Random numbers of torch on the CPU come from a generator of this thread's own.

    They are those that the default generator would give with this seed. That one belongs to the
    process: between two draws other threads draw from it, or seed it.
    """

    def __init__(self, seed):
        super().__init__()
        self.generator, self.outer = torch.Generator().manual_seed(seed), []

    def __enter__(self):
        # Its functions find the generator under this name.
        torch.random.default_generator = _DEFAULT
        self.outer.append(getattr(_THREAD, "generator", None))
        _THREAD.generator = self.generator
        return super().__enter__()

    def __exit__(self, *error):
        _THREAD.generator = self.outer.pop()
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        tensors = [value for value in given.values() if isinstance(value, torch.Tensor)]
        device = given.get("device") or (tensors[0].device if tensors else "cpu")
        generator = given.get("generator") or torch.default_generator
        own = generator._cdata == torch.default_generator._cdata and _with_generator(func)
        if own and torch.device(device).type == "cpu":
            return own(**given | {"generator": self.generator})
        return func(*args, **kwargs)


_DEFAULT = _DefaultGenerator()


@functools.cache
def _with_generator(operator):
    """The operator's overload that takes a generator, too; None if there is none."""

    def arguments(overload):
        return {(argument.name, str(argument.type)) for argument in overload._schema.arguments}

    wanted = arguments(operator) | {("generator", "Optional[Generator]")}
    packet = operator.overloadpacket
    overloads = (getattr(packet, name) for name in packet.overloads())
    return next((overload for overload in overloads if arguments(overload) == wanted), None)


@contextmanager
def one_thread(seed=None):
    """One thread for torch, and with a seed random numbers of one's own; as before afterwards.

    Small networks are faster on one thread, on a busy machine up to 30 times.
    """
    threads = set_threads(1)
    try:
        with nullcontext() if seed is None else own_random(seed):
            yield
    finally:
        set_threads(threads)


def fully_connected(n_inputs, n_classes, depth, width, activation=nn.ReLU):
    """A network of `depth` hidden layers, each with its activation function, and a linear last."""
    sizes = pairwise([n_inputs] + [width] * depth)
    hidden = [nn.Sequential(nn.Linear(a, b), activation()) for a, b in sizes]
    return nn.Sequential(*hidden, nn.Linear(width, n_classes))


def train_classifier(model, inputs, labels, *, epochs, seed=0, batch_size=32, learning_rate=3e-3):
    """Train a network on the CPU in place, and return it in eval mode.

    Adam, cross-entropy, and a learning rate that falls from its first value along a cosine. Inputs
    (N, ...) are mapped to logits (N, classes), labels (N,) are int64. The seed is that of the order
    of inputs and of dropout: the same arguments give the same weights. ValueError with no inputs,
    another number of labels, or a loss that is not finite.
    """
    if len(inputs) != len(labels) or not len(inputs):
        raise ValueError(f"{len(inputs)} inputs and {len(labels)} labels; needed: as many, from 1")
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, foreach=True)
    steps = max(epochs * -(-len(inputs) // batch_size), 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    random = own_random(seed)
    with one_thread(), torch.inference_mode(False):
        for _ in range(epochs):
            for batch in torch.randperm(len(inputs), generator=random.generator).split(batch_size):
                with random:  # here alone: it takes a little time at every operation
                    outputs = model(inputs[batch])
                loss = nn.functional.cross_entropy(outputs, labels[batch])
                if not torch.isfinite(loss):
                    raise ValueError("the loss is not finite; a lower learning_rate may help")
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return model.eval()


def trained(build, inputs, labels, *, epochs, seed=0, **settings):
    """The network that `build()` makes, initialised and trained by a seed: once, then from disk.

    All that the weights follow from is in the name of their file: the network with the code that
    it runs (see `topo_utils.identity`), its initial weights and what it gives for the inputs before
    training, data, settings, this package's source and the version of torch. A damaged file is made
    again. ``epochs=0`` gives the untrained network, of which no file is kept, nor is one of a
    network of unknown code. The rest is as for `train_classifier`; data that change meanwhile are
    refused.
    """
    with one_thread(seed), torch.inference_mode(False), torch.no_grad():
        model = build().eval()
        untrained = model(inputs)
    data, file = store.digest(inputs, labels), None
    if epochs and (folder := cache_folder()):
        said = repr((epochs, seed, sorted(settings.items()), torch.__version__))
        try:
            parts, code = describe(model)
        except Unknown as error:
            warnings.warn(f"the trained network is not kept: {error}", stacklevel=2)
        else:
            key = store.digest(said, store.source_digest(), *parts, *code, untrained, data)
            file = folder / "weights" / f"{key}.safetensors"
            if kept := store.read(file):
                model.load_state_dict(kept[0])
                return model
    if epochs:
        train_classifier(model, inputs, labels, epochs=epochs, seed=seed, **settings)
    if store.digest(inputs, labels) != data:
        raise ValueError(
            "inputs or labels changed while the network was trained; accepted: data that stay as "
            "they are until it is done"
        )
    if file:
        what = f"{type(model).__name__}, {epochs} epochs on {len(inputs)} inputs, seed {seed}"
        store.write(file, model.state_dict(), {"what": what})
    return model


def calibrate_batch_norm(model, images):
    """Set a network's batch-norm statistics to those of the given images, in place.

    A network with random weights knows nothing of the scale of its activations. All other layers
    stay in eval mode (`torch.optim.swa_utils.update_bn` puts dropout into training mode as well).

    Parameters
    ----------
    model : torch.nn.Module
        On the device of the images.
    images : torch.Tensor, shape (N, 3, H, W), N >= 2
        Normalised; they pass in one batch.

    Returns
    -------
    torch.nn.Module
        The model, in eval mode.

    Raises
    ------
    ValueError
        Fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"{len(images)} image; statistics of a batch need at least 2")
    norms = batch_norms(model.eval())
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches, here over one
        norm.train()
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
