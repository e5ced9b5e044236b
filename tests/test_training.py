"""Training is reproducible, leaves no trace, and its weights are kept by content."""

import pytest
import torch
from torch import nn

from topo_utils import training
from topo_utils.training import cache_folder, one_thread, train_classifier, trained


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
