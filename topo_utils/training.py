"""Small classifiers trained quickly on the CPU, their weights kept on disk by content."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from topo_utils import store
from topo_utils.store import cache_folder

__all__ = ["cache_folder", "one_thread", "train_classifier", "trained"]


@contextmanager
def one_thread(seed=None):
    """One thread for torch, which is faster for small networks (up to 30 times on a busy machine);
    with a seed also a random state of its own. Both are as before afterwards.
    """
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def train_classifier(model, inputs, labels, *, epochs, seed=0, batch_size=32, learning_rate=3e-3):
    """Train a network in place: Adam, cross-entropy, a learning rate that falls along a cosine.

    Parameters
    ----------
    model : torch.nn.Module
        On the CPU; it maps inputs to logits (N, classes).
    inputs, labels : torch.Tensor, shapes (N, ...) and (N,)
        What the network takes, and class numbers (int64).
    epochs, batch_size : int
        How often each input is seen, and how many in one step.
    seed : int
        Of the order of inputs and of dropout: the same arguments give the same weights.
    learning_rate : float
        Of the first step.

    Returns
    -------
    torch.nn.Module
        The model, in eval mode.

    Raises
    ------
    ValueError
        No inputs, another number of labels, or a loss that is not finite.
    """
    if len(inputs) != len(labels) or not len(inputs):
        raise ValueError(f"{len(inputs)} inputs and {len(labels)} labels; needed: as many, from 1")
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, foreach=True)
    steps = max(epochs * -(-len(inputs) // batch_size), 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    with one_thread(seed), torch.enable_grad():
        for _ in range(epochs):
            for batch in torch.randperm(len(inputs)).split(batch_size):
                loss = nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
                if not torch.isfinite(loss):
                    raise ValueError("the loss is not finite; a lower learning_rate may help")
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return model.eval()


def trained(build, inputs, labels, *, epochs, seed=0, **settings):
    """The network that `build()` makes, initialised and trained by a seed: once, then from disk.

    All that the weights follow from is in the name of their file: the network as printed, its
    initial weights and what it gives for the inputs before training (the same parts may be wired
    in another way), data, settings, this module and the version of torch. A damaged file is made
    again. The other arguments, and what is returned, are those of `train_classifier`;
    ``epochs=0`` gives the untrained network, of which no file is kept.
    """
    with one_thread(seed), torch.no_grad():
        model = build().eval()
        untrained = model(inputs)
    folder = cache_folder()
    file = None
    if folder and epochs:
        said = repr((str(model), epochs, seed, sorted(settings.items()), torch.__version__))
        code = Path(__file__).read_bytes()
        key = store.digest(said, code, model.state_dict(), untrained, inputs, labels)
        file = folder / "weights" / f"{key}.safetensors"
        if kept := store.read(file):
            model.load_state_dict(kept[0])
            return model
    if epochs:
        train_classifier(model, inputs, labels, epochs=epochs, seed=seed, **settings)
    if file:
        what = f"{type(model).__name__}, {epochs} epochs on {len(inputs)} inputs, seed {seed}"
        store.write(file, model.state_dict(), {"what": what})
    return model
