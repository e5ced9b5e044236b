"""Training is reproducible, leaves no trace, and its weights are kept by content."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from topo_utils import training
from topo_utils.training import (
    cache_folder,
    fully_connected,
    one_thread,
    own_random,
    train_classifier,
    trained,
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TOPO_UTILS_CACHE", str(tmp_path / "cache"))
    return lambda: sorted((tmp_path / "cache").rglob("*.*"))


@pytest.fixture
def count_training(monkeypatch):
    runs = []

    def counted(*args, **settings):
        runs.append(settings)
        return train_classifier(*args, **settings)

    monkeypatch.setattr(training, "train_classifier", counted)
    return runs


def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 2, generator=generator)
    return inputs, (inputs[:, 0] > 0).long()


def build():
    return nn.Sequential(
        nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2)
    )


class Wired(nn.Module):
    """The same parts, wired in two ways, and printed alike."""

    def __init__(self, skip):
        super().__init__()
        self.first, self.last, self.skip = nn.Linear(2, 2), nn.Linear(2, 2), skip

    def forward(self, x):
        return self.last(self.first(x) + (x if self.skip else 0))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_it_learns_and_leaves_no_trace():
    inputs, labels = data()
    torch.manual_seed(5)
    model = build()
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train_classifier(model, inputs, labels, epochs=60, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not model.training
    assert (model(inputs).argmax(1) == labels).float().mean() > 0.9


def test_the_seed_decides(cache, monkeypatch, tmp_path):
    first = trained(build, *data(), epochs=2, seed=1)
    monkeypatch.setenv("TOPO_UTILS_CACHE", str(tmp_path / "other"))
    torch.manual_seed(99)
    assert same(first, trained(build, *data(), epochs=2, seed=1))
    assert not same(first, trained(build, *data(), epochs=2, seed=2))


def test_weights_are_read_again(cache, count_training):
    first = trained(build, *data(), epochs=2)
    again = trained(build, *data(), epochs=2)
    assert len(count_training) == len(cache()) == 1
    assert same(first, again)
    # Buffers are kept too.
    assert torch.equal(first[1].running_mean, again[1].running_mean)
    assert not again.training


def test_whatever_weights_follow_from_is_in_the_key(cache):
    inputs, labels = data()
    trained(build, inputs, labels, epochs=2)
    trained(build, inputs, labels, epochs=3)
    trained(build, inputs, labels, epochs=2, seed=1)
    trained(build, inputs, labels, epochs=2, batch_size=10)
    trained(build, inputs + 1e-6, labels, epochs=2)
    trained(build, inputs, 1 - labels, epochs=2)
    trained(lambda: Wired(False), inputs, labels, epochs=2)
    trained(lambda: Wired(True), inputs, labels, epochs=2)
    assert len(cache()) == 8


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_a_damaged_file_is_made_again(cache, count_training, damage):
    first = trained(build, *data(), epochs=2)
    (file,) = cache()
    content = file.read_bytes()
    if damage == "other":  # a sound file of another network
        trained(lambda: Wired(False), *data(), epochs=2)
        other = next(f for f in cache() if f != file)
        file.write_bytes(other.read_bytes())
        other.unlink()
    else:
        flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]
        file.write_bytes({"empty": b"", "cut": content[:-9], "flipped": flipped}[damage])
    count_training.clear()
    assert same(first, trained(build, *data(), epochs=2))
    assert len(count_training) == 1
    assert cache() == [file]
    assert file.read_bytes() == content


def test_untrained_networks_are_not_kept(cache, count_training):
    assert not same(trained(build, *data(), epochs=0), trained(build, *data(), epochs=1))
    assert len(count_training) == len(cache()) == 1
    with torch.no_grad():  # trains all the same
        assert not same(trained(build, *data(), epochs=0), trained(build, *data(), epochs=2))


def test_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TOPO_UTILS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("TOPO_UTILS_CACHE")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert cache_folder() == tmp_path / "_build" / "cache"


def test_threads_are_put_back_after_an_error():
    threads = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    with pytest.raises(KeyError), one_thread(0):
        raise KeyError
    assert torch.get_num_threads() == threads


def test_bad_input_is_named():
    inputs, labels = data()
    with pytest.raises(ValueError, match="60 inputs and 59 labels"):
        train_classifier(build(), inputs, labels[1:], epochs=1)
    with pytest.raises(ValueError, match="0 inputs"):
        train_classifier(build(), inputs[:0], labels[:0], epochs=1)
    with pytest.raises(ValueError, match="loss is not finite"):
        train_classifier(build(), inputs * float("inf"), labels, epochs=1)


def test_training_does_not_depend_on_other_threads(cache, count_training, monkeypatch):
    """Two trained at once, while a third thread draws from the process's generator and seeds it."""
    calls = [lambda seed=seed: trained(build, *data(), epochs=2, seed=seed) for seed in (1, 2)]
    with monkeypatch.context() as patch:
        patch.setattr(training, "cache_folder", lambda: None)
        expected = [call() for call in calls]
    done = threading.Event()

    def draw():
        while not done.is_set():
            torch.manual_seed(len(torch.rand(5)))

    with torch.random.fork_rng(), ThreadPoolExecutor(3) as pool:
        pool.submit(draw)
        try:
            found = list(pool.map(lambda call: call(), calls * 2))
        finally:
            done.set()
    assert all(map(same, expected * 2, found))
    assert len(cache()) == 2


def test_data_that_change_while_a_network_is_trained_are_refused(cache):
    inputs, labels = data()

    class Changes(nn.Linear):
        def forward(self, x):
            if self.training:
                labels.fill_(0)
            return super().forward(x)

    with pytest.raises(ValueError, match=r"inputs or labels changed .*; accepted: data that stay"):
        trained(lambda: Changes(2, 2), inputs, labels, epochs=1)
    assert not cache()


def test_code_is_in_the_key_and_what_cannot_be_told_is_not_kept(cache):
    def net(function):
        network = nn.Sequential(nn.Linear(2, 2))
        network.register_forward_hook(lambda module, inputs, output: function(output))
        return lambda: network

    large = torch.full((60, 2), 7.0), data()[1]  # as if they were not among the inputs
    for function in (nn.functional.relu, nn.functional.relu6, lambda x: x.clamp(max=50)):
        trained(net(function), *(t[:4] for t in data()), epochs=1)
    assert len(cache()) == 3
    numbers = (i for i in range(3))
    with pytest.warns(UserWarning, match="the trained network is not kept: .*numbers"):
        trained(net(lambda x: x + (numbers is None)), *large, epochs=1)
    assert len(cache()) == 3


def draws():
    """Every way in which networks draw random numbers."""
    x, functional = torch.ones(7, 6), nn.functional
    for name in ("uniform_", "normal_", "exponential_", "cauchy_", "log_normal_", "random_"):
        yield getattr(torch.empty(40), name)()
    for name in ("rand_like", "randn_like", "poisson", "normal", "bernoulli"):
        yield getattr(torch, name)(x / 2)
    yield from (torch.rand(3), torch.randn(20), torch.randperm(9), torch.randint(10, (4,)))
    yield from (torch.randint_like(x, 9), torch.randint(3, 9, (4,)), torch.multinomial(x, 2))
    yield torch.rand(3, generator=torch.default_generator)
    yield torch.randn(3, out=torch.empty(3))
    for name in ("dropout", "alpha_dropout", "feature_alpha_dropout", "gumbel_softmax"):
        yield getattr(functional, name)(x)
    yield from (functional.dropout2d(x[None, None]), functional.rrelu(-x, training=True))
    for name in ("trunc_normal_", "orthogonal_", "kaiming_normal_", "xavier_uniform_"):
        yield getattr(nn.init, name)(torch.empty(6, 6))
    yield nn.LSTM(6, 4, 2, dropout=0.5)(x[None])[0]
    yield nn.MultiheadAttention(6, 2, dropout=0.4)(x, x, x)[0]
    yield torch.distributions.Gamma(x, x).sample()
    torch.manual_seed(4)
    state = torch.get_rng_state()
    yield from (state, torch.rand(4), torch.tensor(torch.initial_seed()))
    with torch.random.fork_rng():
        yield torch.rand(2)
    yield torch.rand(2)
    torch.set_rng_state(state)
    yield torch.rand(2)


def test_own_random_numbers_are_those_of_the_default_generator():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = list(draws())
        torch.manual_seed(5)
        before = torch.get_rng_state()
        with own_random(3):
            found = list(draws())
            with own_random(1):
                torch.rand(1)
            found.append(torch.rand(2))
        assert torch.equal(torch.get_rng_state(), before)
        torch.set_rng_state(expected[-6])
        torch.rand(2)
        expected.append(torch.rand(2))
    assert len(expected) >= 40
    assert all(map(torch.equal, expected, found))


def test_a_fully_connected_network_has_its_layers():
    network = fully_connected(5, 3, depth=2, width=7, activation=nn.Tanh)
    assert [tuple(weight.shape) for weight in network.parameters() if weight.ndim == 2] == [
        (7, 5),
        (7, 7),
        (3, 7),
    ]
    assert len(network) == 3
    assert isinstance(network[1][1], nn.Tanh)
    assert network(torch.zeros(4, 5)).shape == (4, 3)
