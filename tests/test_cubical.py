"""The engine against GUDHI, against shapes known by hand, and against its own identities."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHAPES
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numba.core.caching import CacheImpl, FunctionCache, UserProvidedCacheLocator

from topo_utils import betti_curves, betti_from_persistence, betti_numbers, cubical, persistence
from topo_utils.cubical import _compiled, _sweep, _words

#: Few distinct values, so that ties are the rule; infinities among them.
levels = st.sampled_from([-np.inf, -1.5, -1.0, 0.0, 0.25, 1.0, np.inf])
volumes = hnp.arrays(
    st.sampled_from([np.float64, np.float32]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7),
    elements=levels,
)
FINITE = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0]
ALL = [-np.inf, *FINITE, np.finfo(float).max, np.inf]


@settings(max_examples=600, deadline=None)
@given(volumes)
def test_equals_gudhi_on_random_volumes_with_ties(volume):
    expected = betti_from_persistence(persistence(volume), ALL)
    np.testing.assert_array_equal(betti_numbers(volume, ALL), expected)
    np.testing.assert_array_equal(betti_curves(volume, ALL), expected)


@settings(deadline=None)
@given(volumes)
def test_grid_points_as_top_cells_are_those_of_a_grid_twice_as_fine(volume):
    fine = volume.astype(float)
    for axis in range(volume.ndim):  # a face appears with the first of the two cells beside it
        cells = np.moveaxis(fine, axis, 0)
        faces = np.minimum(np.append(cells, cells[-1:], 0), np.append(cells[:1], cells, 0))
        finer = np.empty((2 * len(cells) + 1, *cells.shape[1:]))
        finer[::2], finer[1::2] = faces, cells
        fine = np.moveaxis(finer, 0, axis)
    found = betti_from_persistence(persistence(volume, "T"), ALL)
    np.testing.assert_array_equal(found, betti_numbers(fine, ALL))


@pytest.mark.parametrize(
    "width", [1, 6, 7, 46, 47, 48, 62, 63, 64, 65, 66, 126, 127, 128, 130, 200]
)
@pytest.mark.parametrize("other", [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_equals_gudhi_where_rows_cross_machine_words(width, other, density):
    rng = np.random.default_rng(width)
    volume = (rng.random((*other, width)) > density).astype(np.float32)
    for axes in itertools.permutations(range(3)):
        turned = volume.transpose(axes)
        expected = betti_from_persistence(persistence(turned), 0.0)
        np.testing.assert_array_equal(betti_numbers(turned, 0.0), expected)
        np.testing.assert_array_equal(betti_curves(turned, 0.0), expected)


@pytest.mark.parametrize("shape", [(64, 28, 28), (9, 70, 66), (200, 7, 7), (3, 64, 64)])
def test_equals_gudhi_on_volumes_of_a_networks_size(shape):
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    volume += np.roll(volume, 1, axis=2) + np.roll(volume, 1, axis=1)  # neighbours look alike
    etas = [-2.0, -0.3, 0.0, 0.7, 2.5]
    diagrams = persistence(volume)
    expected = betti_from_persistence(diagrams, etas)
    np.testing.assert_array_equal(betti_numbers(volume, etas), expected)
    etas = np.linspace(-4, 4, 64)
    expected = betti_from_persistence(diagrams, etas)
    np.testing.assert_array_equal(betti_numbers(volume, etas), expected)
    np.testing.assert_array_equal(betti_curves(volume, etas), expected)
    rectified = np.maximum(volume, 0)
    expected = betti_from_persistence(persistence(rectified), etas)
    np.testing.assert_array_equal(betti_curves(rectified, etas), expected)


@given(
    volumes | hnp.arrays(np.float32, st.permutations([1, 2, 70]), elements=levels),
    st.lists(levels | st.floats(-2, 2), max_size=40),
)
@settings(deadline=None)
def test_the_sweep_equals_each_threshold_by_itself(volume, etas):
    expected = np.array([betti_numbers(volume, eta) for eta in etas], dtype=int).reshape(-1, 3)
    np.testing.assert_array_equal(betti_curves(volume, etas), expected)
    np.testing.assert_array_equal(betti_numbers(volume, etas), expected)
    if etas:
        np.testing.assert_array_equal(betti_curves(volume, etas[0]), expected[0])


@given(volumes, st.integers(0, 3))
@settings(deadline=None)
def test_many_thresholds_take_the_sweep_and_few_do_not(volume, fewer):
    count = cubical._SWEEP_FROM - fewer
    etas = np.linspace(-2, 2, count)
    with pytest.MonkeyPatch.context() as patch:
        taken = []
        for module, name in ((_words, "betti_at_each"), (_sweep, "betti_by_sweep")):
            way = getattr(module, name)
            patch.setattr(
                module, name, lambda *given, way=way, name=name: taken.append(name) or way(*given)
            )
        many = betti_numbers(volume, [*etas, *etas[::-1]])  # repeats do not count
    assert taken == ["betti_at_each" if fewer else "betti_by_sweep"]
    np.testing.assert_array_equal(many[:count], many[count:][::-1])
    np.testing.assert_array_equal(many[:count], [betti_numbers(volume, eta) for eta in etas])


def test_a_curve_through_more_thresholds_than_16_bits_number():
    volume = np.random.default_rng(0).permutation(10**5).reshape(10, 100, 100)
    curve = betti_curves(volume, np.arange(-1, 10**5, 1.25))
    diagrams = persistence(volume)
    some = np.r_[0:80001:97, 80000]
    expected = betti_from_persistence(diagrams, np.arange(-1, 10**5, 1.25)[some])
    np.testing.assert_array_equal(curve[some], expected)
    assert len(curve) == 80001 > np.iinfo(np.uint16).max
    np.testing.assert_array_equal(curve[-1], [1, 0, 0])


def test_beyond_two_billion_points_pieces_are_numbered_with_64_bits(monkeypatch):
    assert _words._BEYOND_32_BITS == cubical._SWEEP_POINTS == 2**31
    volume = np.random.default_rng(0).normal(size=(5, 6, 70))
    expected = betti_numbers(volume, [-0.5, 0.0])
    monkeypatch.setattr(_words, "_BEYOND_32_BITS", 64 * 8 * 8 * 2)
    np.testing.assert_array_equal(betti_numbers(volume, [-0.5, 0.0]), expected)
    # The sweep numbers with 32 bits only.
    monkeypatch.setattr(cubical, "_SWEEP_POINTS", 7 * 8 * 72)
    monkeypatch.setattr(_sweep, "betti_by_sweep", None)
    np.testing.assert_array_equal(betti_curves(volume, [-0.5, 0.0]), expected)


def test_threads_do_not_disturb_one_another():
    rng = np.random.default_rng(0)
    shapes = [(8, 16, 16), (64, 7, 7), (3, 40, 50)] * 8
    many = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    with ThreadPoolExecutor(4) as pool:
        for count in (betti_numbers, betti_curves):
            together = list(pool.map(lambda volume, c=count: c(volume, [0.0, 0.5]), many))
            np.testing.assert_array_equal(together, [count(volume, [0.0, 0.5]) for volume in many])


# The highest that a process stood (VmHWM) after the count, less that before it. In a process of its
# own, since this one has stood higher already; not by getrusage, which includes the parent's.
MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
from topo_utils import betti_curves, betti_numbers

count = {"betti_numbers": betti_numbers, "betti_curves": betti_curves}[sys.argv[1]]
shape, dtype = eval(sys.argv[2]), np.dtype(sys.argv[3])
for small in ((2, 3, 64), (64, 3, 2), (3, 64, 2)):  # compiled before it is measured
    count(np.zeros(small, dtype), 0.0)
volume = np.zeros(shape, dtype)
if sys.argv[4] == "chequered":
    volume[::2, ::2, 1::2] = volume[::2, 1::2, ::2] = 1
    volume[1::2, ::2, ::2] = volume[1::2, 1::2, 1::2] = 1
else:
    rng = np.random.default_rng(0)
    for plane in volume:
        plane[...] = 100 * rng.random(plane.shape) > 50
def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

assert kilobytes("VmHWM") - kilobytes("VmRSS") < volume.size / 1024
now = kilobytes("VmRSS")
count(volume, 0.0)
print((kilobytes("VmHWM") - now) * 1024 / volume.size)
"""


@pytest.mark.parametrize("values", ["random", "chequered"])
@pytest.mark.parametrize(
    ("shape", "dtype", "most"),
    [
        ((128, 256, 256), "float32", 3),
        ((256, 8192, 4), "float32", 3 + 4),
        ((4096, 46, 46), "float32", 3),
        ((128, 256, 256), "int8", 3 + 4),
        ((128, 256, 256), "int64", 3 + 8),
    ],
)
def test_memory_beyond_the_volume(shape, dtype, values, most):
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    command = [sys.executable, "-c", MEMORY, "betti_numbers", str(shape), dtype, values]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(out) < most


@pytest.mark.parametrize("name", SHAPES)
def test_known_shapes(name):
    shape, expected = SHAPES[name]
    assert tuple(betti_numbers(~shape, 0)) == expected
    assert tuple(betti_from_persistence(persistence(~shape), 0)) == expected


@given(volumes, st.permutations([0, 1, 2]), st.sampled_from([0.0, -1.0, 1.0]))
@settings(deadline=None)
def test_axes_may_be_permuted_and_flipped(volume, axes, eta):
    volume = volume.reshape((1,) * (3 - volume.ndim) + volume.shape)
    expected = betti_numbers(volume, eta)
    np.testing.assert_array_equal(betti_numbers(volume.transpose(axes), eta), expected)
    np.testing.assert_array_equal(betti_numbers(volume[::-1, :, ::-1], eta), expected)


@given(volumes, st.sampled_from(FINITE))
@settings(deadline=None)
def test_an_increasing_map_of_values_and_threshold_changes_nothing(volume, eta):
    expected = betti_numbers(volume, eta)
    np.testing.assert_array_equal(
        betti_numbers(np.arctan(volume.astype(float)), np.arctan(eta)), expected
    )
    if eta >= 0:  # ReLU is one, as far as thresholds >= 0 can tell
        np.testing.assert_array_equal(betti_numbers(np.maximum(volume, 0), eta), expected)


@given(volumes)
@settings(deadline=None)
def test_euler_characteristic_is_the_alternating_count_of_cells(volume):
    inside = volume <= 0
    cells = 0
    for kind in itertools.product([0, 1], repeat=inside.ndim):
        cell = inside
        for axis, extended in enumerate(kind):
            if extended:
                length = cell.shape[axis]
                first = np.take(cell, range(length - 1), axis)
                cell = first & np.take(cell, range(1, length), axis)
        cells += (-1) ** sum(kind) * int(cell.sum())
    beta0, beta1, beta2 = betti_numbers(volume, 0)
    assert beta0 - beta1 + beta2 == cells


def test_thresholds_in_any_order_with_repeats_and_of_any_kind():
    volume = np.random.default_rng(0).normal(size=(4, 5, 6))
    etas = [0.5, -1.0, 0.5, np.inf, -np.inf, 0]
    result = betti_numbers(volume, etas)
    assert result.shape == (6, 3)
    assert result.dtype == np.int64
    for row, eta in zip(result, etas, strict=True):
        np.testing.assert_array_equal(row, betti_numbers(volume, eta))
    np.testing.assert_array_equal(result[3], [1, 0, 0])
    np.testing.assert_array_equal(result[4], [0, 0, 0])
    for same in (tuple(etas), np.array(etas), torch.tensor(etas, dtype=torch.float64), iter(etas)):
        np.testing.assert_array_equal(betti_numbers(volume, same), result)
    for same in (np.float32(0.5), np.array(0.5), torch.tensor(0.5)):
        np.testing.assert_array_equal(betti_numbers(volume, same), result[0])
    assert betti_numbers(volume, 0).shape == (3,)
    assert betti_numbers(volume, []).shape == (0, 3)


FLOATS = [np.float16, np.float32, np.float64]
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("dtype", [bool, *INTEGERS, *FLOATS, np.longdouble], ids=str)
@pytest.mark.parametrize("order", "<>")
def test_every_dtype_of_numpy_in_every_byte_order(dtype, order):
    dtype = np.dtype(dtype).newbyteorder(order)
    values = np.random.default_rng(0).integers(0, 2, size=(5, 6, 7))
    expected = betti_numbers(values.astype(np.float64), [0, 0.5, 1])
    volume = values.astype(dtype)
    before = volume.copy()
    np.testing.assert_array_equal(betti_numbers(volume, [0, 0.5, 1]), expected)
    np.testing.assert_array_equal(betti_curves(volume, [0, 0.5, 1]), expected)
    diagrams = persistence(volume)
    np.testing.assert_array_equal(betti_from_persistence(diagrams, [0, 0.5, 1]), expected)
    etas = np.array([0, 1]).astype(dtype)
    np.testing.assert_array_equal(betti_numbers(volume, etas), expected[::2])
    np.testing.assert_array_equal(volume, before)


TORCH = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
TORCH += [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", TORCH, ids=str)
def test_every_dtype_of_torch(dtype):
    values = np.random.default_rng(0).integers(0, 2, size=(5, 6, 7))
    expected = betti_numbers(values, [0, 0.5, 1])
    volume = torch.from_numpy(values).to(dtype)
    before = volume.clone()
    np.testing.assert_array_equal(betti_numbers(volume, [0, 0.5, 1]), expected)
    np.testing.assert_array_equal(betti_curves(volume, [0, 0.5, 1]), expected)
    assert torch.equal(volume, before)
    if dtype.is_floating_point:
        np.testing.assert_array_equal(betti_numbers(volume.requires_grad_(), [0, 0.5, 1]), expected)


def test_any_strides_and_read_only_memory():
    base = np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32)
    view = base[::2, ::-3, 1::2]
    expected = betti_numbers(view.copy(), 0.1)
    np.testing.assert_array_equal(betti_numbers(view, 0.1), expected)
    np.testing.assert_array_equal(betti_numbers(np.asfortranarray(view), 0.1), expected)
    frozen = view.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(betti_numbers(frozen, 0.1), expected)
    np.testing.assert_array_equal(
        betti_numbers(torch.from_numpy(base)[::2].transpose(0, 2), 0.1),
        betti_numbers(base[::2], 0.1),
    )
    broadcast = np.broadcast_to(np.float32(1), (3, 4, 5))  # strides of zero
    np.testing.assert_array_equal(betti_numbers(broadcast, 1), [1, 0, 0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_values_are_compared_in_float64(dtype):
    value = dtype(0.1)
    inside = int(float(value) <= 0.1)
    np.testing.assert_array_equal(betti_numbers(np.full((2, 2), value), 0.1), [inside, 0, 0])
    above = np.nextafter(float(value), np.inf)
    np.testing.assert_array_equal(betti_numbers(np.full((2, 2), value), above), [1, 0, 0])
    below = np.nextafter(float(value), -np.inf)
    np.testing.assert_array_equal(betti_numbers(np.full((2, 2), value), below), [0, 0, 0])


@given(
    hnp.arrays(np.float32, 5, elements=st.floats(width=32, allow_nan=False)),
    st.floats(allow_nan=False),
)
@settings(deadline=None)
def test_float32_against_any_float64_threshold(values, eta):
    for value in values:
        assert betti_numbers(values[values == value][:1], eta)[0] == int(float(value) <= eta)


def test_bfloat16_and_large_integers_are_promoted_to_float64():
    value = torch.tensor([0.1], dtype=torch.bfloat16)
    assert float(value) > 0.1
    np.testing.assert_array_equal(betti_numbers(value, 0.1), [0, 0, 0])
    np.testing.assert_array_equal(betti_numbers(np.array([2**53 + 1]), 2.0**53), [1, 0, 0])
    np.testing.assert_array_equal(betti_numbers(np.array([np.float32(3e38)]), 1e300), [1, 0, 0])
    np.testing.assert_array_equal(betti_numbers(np.array([np.float32(np.inf)]), 1e300), [0, 0, 0])


@pytest.mark.parametrize(
    ("volume", "error", "message"),
    [
        (np.array([[0.0, np.nan]]), ValueError, "contains NaN"),
        (torch.tensor([float("nan")], dtype=torch.bfloat16), ValueError, "contains NaN"),
        (np.zeros((2, 2), dtype=complex), TypeError, "complex128"),
        (torch.zeros(2, 2, dtype=torch.complex64), TypeError, "complex64"),
        (np.array(1.0), ValueError, "0 axes"),
        (torch.tensor(1.0), ValueError, "0 axes"),
        (3.0, ValueError, "0 axes"),
        (np.zeros((2, 2, 2, 2)), ValueError, "4 axes"),
        (np.zeros((2, 0, 2)), ValueError, "empty axis"),
        (torch.zeros(0), ValueError, "empty axis"),
        (np.array(["a", "b"]), TypeError, "dtype <U1"),
        (np.array([None, 1]), TypeError, "dtype object"),
        (np.array(["2020-01-01"], dtype="M8[D]"), TypeError, "datetime64"),
        ([[1, 2], [3]], ValueError, "no array"),
        (None, TypeError, "dtype object"),
        (np.ma.masked_array([1.0, 2.0], mask=[True, False]), TypeError, "masked"),
        (torch.zeros(2, 2).to_sparse(), TypeError, "sparse"),
        (torch.zeros(2, 2, device="meta"), TypeError, "meta"),
    ],
)
@pytest.mark.parametrize(
    "function", [lambda v: betti_numbers(v, 0), lambda v: betti_curves(v, []), persistence]
)
def test_volumes_that_are_refused(function, volume, error, message):
    with pytest.raises(error, match=message) as caught:
        function(volume)
    assert "accepted: a numpy array or torch tensor" in str(caught.value)


@pytest.mark.parametrize(
    ("thresholds", "error", "message"),
    [
        (np.nan, ValueError, "NaN"),
        ([0, float("nan")], ValueError, "NaN"),
        (torch.tensor([float("nan")]), ValueError, "NaN"),
        ("0", TypeError, "'0' is no real number"),
        (["0"], TypeError, "'0' is no real number"),
        (None, TypeError, "None is no real number"),
        ([0, None], TypeError, "None is no real number"),
        (1j, TypeError, "1j is no real number"),
        ([[0, 1]], TypeError, "flat sequence"),
        (np.zeros((2, 2)), TypeError, "flat sequence"),
        (object(), TypeError, "is no real number"),
        (10**400, ValueError, "beyond float64"),
    ],
)
def test_thresholds_that_are_refused(thresholds, error, message):
    with pytest.raises(error, match=message) as caught:
        betti_numbers(np.zeros((2, 2)), thresholds)
    assert "accepted: one real number or a flat sequence" in str(caught.value)


def test_persistence_of_both_constructions():
    diagonal = np.array([[0.0, 1.0], [1.0, 0.0]])
    components, *_ = persistence(diagonal, "V")  # two points, joined by an edge path at 1
    np.testing.assert_array_equal(components, [[0, 1], [0, np.inf]])
    components, *_ = persistence(diagonal, "T")  # two squares that share a corner
    np.testing.assert_array_equal(components, [[0, np.inf]])
    with pytest.raises(ValueError, match="unknown construction 'X'; accepted: 'V' and 'T'"):
        persistence(diagonal, "X")


def test_a_bar_counts_from_its_birth_until_before_its_death():
    diagrams = [np.array([[0.0, 1.0]]), np.empty((0, 2)), np.empty((0, 2))]
    np.testing.assert_array_equal(
        betti_from_persistence(diagrams, [-1, 0, 0.5, 1])[:, 0], [0, 1, 1, 0]
    )
    listed = [[[0.0, 1.0]], [], []]
    np.testing.assert_array_equal(betti_from_persistence(listed, np.inf), [0, 0, 0])
    np.testing.assert_array_equal(betti_from_persistence(listed, 0), [1, 0, 0])


# ---------------------------------------------------------------------------------------------
# Compiled code on disk. Each `compiled` stands for a process: it reads its files at the first call.


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A function of a module of its own: where its machine code is kept, how to call it anew."""
    source, folder = tmp_path / "twice_as_much.py", tmp_path / "kept"
    source.write_text("def twice(x):\n    return 2 * x\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, source.stem, raising=False)
    monkeypatch.setattr("numba.config.CACHE_DIR", str(folder))
    twice = import_module(source.stem).twice

    def call(*arguments):
        """The results, and how many of them did not need compiling."""
        _compiled._warn_once.cache_clear()
        _compiled._digest_of.cache_clear()
        compiled = _compiled.compiled(twice)
        found = [compiled(argument) for argument in arguments]
        return found, sum(compiled.stats.cache_hits.values())

    return folder, call


DAMAGES = {
    "empty": lambda content, other: b"",
    "truncated": lambda content, other: content[:-1],
    "half": lambda content, other: content[: len(content) // 2],
    "garbage": lambda content, other: bytes(range(256)),
    "one bit": lambda content, other: content[:99] + bytes([content[99] ^ 1]) + content[100:],
    "another file": lambda content, other: other,
}


@pytest.mark.parametrize("way", [*DAMAGES, "a folder"])
def test_damaged_compiled_code_is_made_again(kept, way):
    folder, call = kept
    assert call(3) == ([6], 0)
    (file,) = folder.rglob("*.nb?")
    assert call(3, 0.5) == ([6, 1.0], 1)
    (other,) = {*folder.rglob("*.nb?")} - {file}
    if way == "a folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(DAMAGES[way](file.read_bytes(), other.read_bytes()))
    told = rf"compiled code in {re.escape(str(file.parent))} is damaged and is made again"
    with pytest.warns(UserWarning, match=told) as warned:
        assert call(3, 0.5) == ([6, 1.0], 1)
    if way == "a folder":  # in the way of what is made again
        assert [str(each.message) for each in warned[1:]] == [_compiled._NOT_KEPT]
    else:
        assert len(warned) == 1
        assert call(3, 0.5) == ([6, 1.0], 2)
    assert sorted(folder.rglob("*.nb?*")) == sorted([file, other])


@pytest.mark.parametrize("change", ["a file beside it", "numba"])
def test_outdated_compiled_code_is_made_again(kept, tmp_path, monkeypatch, change):
    _, call = kept
    call(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if change == "numba":
            monkeypatch.setattr("numba.__version__", "0.0")
        else:  # what the function calls may stand there
            (tmp_path / "helpers.py").write_text("HALF = 0.5\n", encoding="utf-8")
        assert call(3) == ([6], 0)
        assert call(3) == ([6], 1)


@pytest.mark.parametrize("when", ["from the start", "later"])
def test_without_a_place_for_compiled_code_there_is_none_on_disk(kept, monkeypatch, when):
    folder, call = kept
    if when == "later":  # it could be written when the module was imported
        compile_ = FunctionCache.save_overload

        def save(*arguments):
            shutil.rmtree(folder)
            folder.write_text("", encoding="utf-8")
            compile_(*arguments)

        monkeypatch.setattr(FunctionCache, "save_overload", save)
    else:
        monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    with pytest.warns(UserWarning, match="cannot be kept .*; set NUMBA_CACHE_DIR") as told:
        assert call(3, 0.5) == ([6, 1.0], 0)
    assert len(told) == 1


def test_the_engine_runs_over_damaged_compiled_code(tmp_path):
    betti_numbers(np.zeros(3, np.float32), 0.0)
    source = Path(_words._pack._cache.cache_path)
    folder = tmp_path / UserProvidedCacheLocator.get_suitable_cache_subpath(_words.__file__)
    folder.mkdir()
    for file in source.glob("_words.*.nbc"):
        content = file.read_bytes()
        (folder / file.name).write_bytes(content[:-1] if "._pack-" in file.name else content)
    code = "import numpy, topo_utils; print(topo_utils.betti_numbers(numpy.zeros(3, 'f4'), 0))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        check=True,
    )
    assert ran.stdout == "[1 0 0]\n"
    assert ran.stderr.count("Warning") == 1
    assert f"compiled code in {folder} is damaged and is made again" in ran.stderr
