"""Exact Betti numbers of the sublevel sets of a volume.

A volume of C x H x W values is read as a function f on the points of a grid. In the
V-construction every grid point is a vertex, and an edge, square or cube is present as soon as
all its vertices are; the sublevel set at eta is the subcomplex of the points with f <= eta.

No matrix is reduced here. For S = {f <= eta} in 3-space:

    beta0 = number of 6-connected components of S
    beta2 = number of 26-connected components of the complement of S, minus the outside
    chi   = vertices - edges + squares - cubes = beta0 - beta1 + beta2

so two counts of components (union-find) and one count of cells give all three numbers; beta1 is
what is left of chi. (A subcomplex of 3-space has no torsion, so the coefficient field does not
matter, and Alexander duality turns cavities into components of the complement.)

What makes it fast: a row of 64 grid points is one machine word. Cells are counted by `popcount`
of words combined with `&`, and the nodes of the union-find are runs of consecutive points rather
than single points. For many thresholds, one sweep over the values finds what every point changes
when it enters the sublevel set, and the changes add up to all curves at once.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
import numbers
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.extending import intrinsic

__all__ = ["betti_curves", "betti_from_persistence", "betti_numbers", "persistence"]

_ACCEPTED = (
    "accepted: a numpy array or torch tensor with 1, 2 or 3 axes, none empty, "
    "of bool, integers or real floating-point numbers, without NaN"
)


_SMALLEST = float(np.finfo(np.float64).tiny)  # of the normal numbers


def _exact(function):
    """A function for which denormal numbers are what they are, in whatever thread.

    After `torch.set_flush_denormal(True)` a thread, and those that it starts, take them for zero,
    in comparing and in rounding.
    """

    @functools.wraps(function)
    def exact(*arguments, **keywords):
        if _SMALLEST / 2 > 0:
            return function(*arguments, **keywords)
        import torch

        torch.set_flush_denormal(False)  # for this thread
        try:
            return function(*arguments, **keywords)
        finally:
            torch.set_flush_denormal(True)

    return exact


@_exact
def betti_numbers(volume, thresholds):
    """Betti numbers of the sublevel sets {volume <= threshold}, V-construction.

    Parameters
    ----------
    volume : numpy.ndarray or torch.Tensor, shape (C, H, W), (H, W) or (N,)
        Real values of any dtype (bool, integers, float16, bfloat16, float32, float64) and any
        strides; plus and minus infinity are allowed, NaN is not. It is never changed.
    thresholds : float or sequence of float, shape () or (T,)
        Values of eta, in the units of `volume`, in any order, repeats allowed; infinities are
        allowed, NaN is not. Values are compared exactly: the value promoted to float64 against
        the float64 threshold, so that ``float32(0.1) <= 0.1`` is false.

    Returns
    -------
    numpy.ndarray of int64, shape (3,) for one threshold, (T, 3) for a sequence
        beta0 (components), beta1 (tunnels) and beta2 (cavities), each >= 0.

    Raises
    ------
    TypeError
        Complex or non-numeric values or thresholds.
    ValueError
        NaN, an empty axis, no axis or more than three of them.

    Notes
    -----
    Fewer than 32 distinct thresholds are counted one after the other, more of them by one sweep
    (see `betti_curves`). That takes at most 3 bytes a value beyond the volume, and 4 or 8 more for
    a copy of a volume that is not float32 or float64, not contiguous, or longest along its second
    axis. Threads count at the same time: the compiled code does not hold the GIL.

    See Also
    --------
    betti_curves : all thresholds by one sweep.
    persistence : the same through GUDHI's persistent homology, hundreds of times slower.

    References
    ----------
    Suresh et al., arXiv 2311.04592: the complex and its Betti numbers, of which
    Omega = beta0 + beta1 + beta2 is the sum.

    Examples
    --------
    >>> import numpy as np
    >>> hollow = np.zeros((3, 3, 3))
    >>> hollow[1, 1, 1] = 1.0  # a closed shell around one point
    >>> betti_numbers(hollow, [0.0, 1.0])
    array([[1, 0, 1],
           [1, 0, 0]])
    """
    return _count(volume, thresholds, sweep_from=_SWEEP_FROM)


@_exact
def betti_curves(volume, thresholds):
    """Betti numbers of all sublevel sets at once: `betti_numbers`, by one sweep over the values.

    The time hardly depends on the number of thresholds: about that of 20 to 40 of them counted
    one after the other. `betti_numbers` therefore goes the same way by itself from 32 distinct
    thresholds on; a curve through all values of a volume is the natural use.

    Parameters
    ----------
    volume : numpy.ndarray or torch.Tensor, shape (C, H, W), (H, W) or (N,)
        As for `betti_numbers`.
    thresholds : float or sequence of float, shape () or (T,)
        As for `betti_numbers`.

    Returns
    -------
    numpy.ndarray of int64, shape (3,) for one threshold, (T, 3) for a sequence
        The same numbers as `betti_numbers`.

    Raises
    ------
    TypeError, ValueError
        As `betti_numbers`.

    Notes
    -----
    It takes 15 to 35 bytes a value beyond the volume, counting one threshold at most 3 (and the
    copy that `betti_numbers` tells of).

    References
    ----------
    Edelsbrunner and Harer, Computational Topology (2010), VI.3: the lower star of a vertex and
    what it changes in the homology of the sublevel set.

    Examples
    --------
    >>> import numpy as np
    >>> betti_curves(np.array([0.0, 2.0, 1.0]), [-1.0, 0.0, 1.0, 2.0])[:, 0]
    array([0, 1, 2, 1])
    """
    return _count(volume, thresholds, sweep_from=0)


@_exact
def persistence(volume, construction="V"):
    """Persistence diagrams of the sublevel filtration of a volume, by GUDHI.

    Parameters
    ----------
    volume : numpy.ndarray or torch.Tensor, shape (C, H, W), (H, W) or (N,)
        As for `betti_numbers`.
    construction : {"V", "T"}
        "V": grid points are the vertices, a cell appears with its last vertex (6-connected
        sublevel sets; what the paper and this book use). "T": grid points are the top-dimensional
        cells, a face appears with the first cell that has it (26-connected sublevel sets).

    Returns
    -------
    list of three numpy.ndarray, shapes (n0, 2), (n1, 2), (n2, 2)
        Bars (birth, death) of degree 0, 1 and 2, births ascending. A class has death inf if it
        never dies, as the oldest component, or if only values of inf end it. Bars of no length
        are left out.

    Raises
    ------
    TypeError, ValueError
        As for `betti_numbers`, or for an unknown construction.
    """
    from gudhi import CubicalComplex

    keywords = {"V": "vertices", "T": "top_dimensional_cells"}
    if construction not in keywords:
        raise ValueError(f"unknown construction {construction!r}; accepted: 'V' and 'T'")
    values = np.ascontiguousarray(_as_real_array(volume), dtype=np.float64)
    complex_ = CubicalComplex(**{keywords[construction]: values})
    # Prime 11 is GUDHI's default; any field gives the same, there is no torsion in 3-space.
    complex_.compute_persistence()
    diagrams = []
    for degree in range(3):
        bars = np.asarray(complex_.persistence_intervals_in_dimension(degree), dtype=np.float64)
        bars = bars.reshape(-1, 2)
        diagrams.append(bars[np.lexsort((bars[:, 1], bars[:, 0]))])
    return diagrams


@_exact
def betti_from_persistence(diagrams, thresholds):
    """Betti numbers read off persistence diagrams: bars with birth <= eta < death.

    Parameters
    ----------
    diagrams : list of three arrays (n, 2)
        As `persistence` returns them.
    thresholds : float or sequence of float
        Values of eta. At inf the volume is whole, one piece without holes: of the classes with
        death inf one component is left.

    Returns
    -------
    numpy.ndarray of int64, shape (3,) for one threshold, (T, 3) for a sequence
    """
    etas, scalar = as_thresholds(thresholds)
    births_deaths = [np.reshape(bars, (-1, 2)).T for bars in diagrams]
    result = np.array(
        [[np.sum((b <= eta) & (eta < d)) for b, d in births_deaths] for eta in etas], np.int64
    ).reshape(-1, 3)
    result[np.isposinf(etas), 0] = np.isposinf(births_deaths[0][1]).any()
    return result[0] if scalar else result


# ---------------------------------------------------------------------------------------------
# Input: what was wrong, and what is accepted.


def as_array(values, name, accepted):
    """A numpy array of an array, nested lists or a torch tensor, wherever and of whatever dtype.

    The types that numpy does not have, such as bfloat16, become float32, which is exact. Raises
    TypeError or ValueError where there is no such array, by the name of what was given.
    """
    if hasattr(values, "detach") and hasattr(values, "layout"):  # a torch tensor
        import torch

        if values.layout != torch.strided or values.is_quantized or values.device.type == "meta":
            raise TypeError(
                f"{name}: a {values.layout} tensor of {values.dtype} on {values.device}, "
                f"not a dense one with values; {accepted}"
            )
        values = values.detach().cpu().resolve_conj().resolve_neg()
        if values.is_floating_point() and values.dtype not in (torch.float64, torch.float16):
            values = values.float()
        return values.numpy()
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name}: a masked array, to be filled first; {accepted}")
    if isinstance(values, list | tuple) and any(hasattr(value, "detach") for value in values):
        values = [as_array(value, name, accepted) for value in values]
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name}: no array ({error}); {accepted}") from None


def _as_real_array(volume):
    """`volume` as a numpy array that compares with float64 thresholds exactly; no NaN in it."""
    values = as_array(volume, "volume", _ACCEPTED)
    kind, width = values.dtype.kind, values.dtype.itemsize
    if kind not in "buif":
        raise TypeError(f"volume has dtype {values.dtype}; {_ACCEPTED}")
    if values.ndim not in (1, 2, 3):
        raise ValueError(f"volume has {values.ndim} axes (shape {values.shape}); {_ACCEPTED}")
    if 0 in values.shape:
        raise ValueError(f"volume has an empty axis (shape {values.shape}); {_ACCEPTED}")
    # What the compiled code reads, in this machine's byte order; exact, but for wider integers and
    # floats, which are promoted or rounded to float64.
    narrow = width <= 2 or (kind == "f" and width == 4)
    values = values.astype(np.float32 if narrow else np.float64, copy=False)
    if np.isnan(values.min()):  # the minimum is NaN as soon as one value is
        raise ValueError(f"volume contains NaN; {_ACCEPTED}")
    return values


@_exact
def as_thresholds(thresholds):
    """The thresholds as a list of floats, and whether it was a single one.

    Raises TypeError or ValueError as `betti_numbers` does.
    """
    if hasattr(thresholds, "detach"):
        thresholds = thresholds.detach().cpu().tolist()
    elif isinstance(thresholds, np.ndarray | np.generic):
        thresholds = thresholds.tolist()
    scalar = isinstance(thresholds, numbers.Number | str | bytes) or thresholds is None
    try:
        listed = [thresholds] if scalar else list(thresholds)
    except TypeError:
        listed, scalar = [thresholds], True
    accepted = "accepted: one real number or a flat sequence of them, infinities included, no NaN"
    etas = []
    for value in listed:
        if hasattr(value, "item") and np.ndim(value) == 0:
            value = value.item()  # numpy and torch scalars
        if not isinstance(value, numbers.Real):
            raise TypeError(f"threshold {value!r} is no real number; {accepted}")
        try:
            etas.append(float(value))
        except OverflowError:
            raise ValueError(f"threshold {value!r} is beyond float64; {accepted}") from None
        if np.isnan(etas[-1]):
            raise ValueError(f"a threshold is NaN; {accepted}")
    return etas, scalar


def _largest_values_up_to(etas, dtype):
    """The largest value of `dtype` that is <= eta: comparing with it is comparing with eta."""
    with np.errstate(over="ignore"):
        rounded = etas.astype(dtype)
        return np.where(
            rounded.astype(np.float64) > etas, np.nextafter(rounded, dtype.type(-np.inf)), rounded
        )


# ---------------------------------------------------------------------------------------------
# Compiled code is kept on disk as numba does it, with two differences: what is damaged is made
# again, and where nothing can be kept every process compiles for itself.


class _CheckedFiles(IndexDataCacheFile):
    """numba's two kinds of files for a function, each with a SHA-256 at its end."""

    def load(self, key):
        known, found = super().load(key) or (None, None)
        return found if known == repr(key) else None

    def save(self, key, data):
        # With the key: two processes at once may have given one file to two signatures.
        super().save(key, (repr(key), data))

    @contextmanager
    def _open_for_write(self, filepath):
        with super()._open_for_write(filepath) as file:
            content = io.BytesIO()
            yield content
            file.write(content.getvalue() + self._checksum(filepath, content.getvalue()))

    def _load_index(self):
        return super()._load_index() if self._is_sound(self._index_path) else {}

    def _load_data(self, name):
        return super()._load_data(name) if self._is_sound(self._data_path(name)) else None

    def _is_sound(self, path):
        try:
            content = Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return False  # it has not been made yet
        except OSError:
            content = b""
        if self._checksum(path, content[:-32]) == content[-32:]:
            return True
        _warn_once(f"compiled code in {self._cache_path} is damaged and is made again")
        return False

    @staticmethod
    def _checksum(path, content):
        # With the name: a sound file of something else is no good under it.
        return hashlib.sha256(Path(path).name.encode() + content).digest()


class _CheckedCache(FunctionCache):
    def __init__(self, function):
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        # A name of their own: files that numba wrote have no checksum.
        name = f"{self._impl.filename_base}.checked"
        self._cache_file = _CheckedFiles(self._cache_path, name, stamp)

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:
            _warn_once(_NOT_KEPT)


@functools.cache
def _warn_once(message):
    warnings.warn(message, stacklevel=2)


_NOT_KEPT = (
    "compiled code cannot be kept on disk, so that every process compiles for some seconds; set "
    "NUMBA_CACHE_DIR to a folder that can be written"
)


def _compiled(function):
    """The function as machine code, which does not hold the GIL."""
    compiled = njit(nogil=True)(function)
    try:
        compiled._cache = _CheckedCache(function)
    except RuntimeError:  # numba found no folder that can be written
        _warn_once(_NOT_KEPT)
    return compiled


# ---------------------------------------------------------------------------------------------
# The engine: rows of 64 points a word, compiled, without the GIL.


def _count(volume, thresholds, sweep_from):
    """Betti numbers at all thresholds, by one sweep if there are that many distinct ones."""
    values = _as_real_array(volume)
    values = values.reshape((1,) * (3 - values.ndim) + values.shape)
    etas, scalar = as_thresholds(thresholds)
    distinct = np.array(sorted(set(etas)))
    count = _sweep_thresholds if len(distinct) >= sweep_from else _each_threshold
    result = count(values, distinct)[np.searchsorted(distinct, etas)]
    return result[0] if scalar else result


def _each_threshold(values, etas):
    """Betti numbers at each of the thresholds (float64, ascending), one after the other."""
    values, across = _packing(values)
    depth, height, width = (*values.shape[1:], len(values)) if across else values.shape
    # Two layers or three of background before and behind, above and below: the outside of beta2,
    # and even numbers of rows.
    rows = np.zeros((depth + 2 + depth % 2, height + 2 + height % 2, -(-width // 64)), np.uint64)
    starts = np.empty((rows.shape[0], rows.shape[1] // 2, rows.shape[2]), np.uint64)
    base = np.empty(starts.shape, _index_type(64 * rows.size))
    result = np.empty((len(etas), 3), dtype=np.int64)
    for row, cut in zip(result, _largest_values_up_to(etas, values.dtype), strict=True):
        (_pack_across if across else _pack)(values, cut, rows)
        row[:] = _betti_of_words(rows, starts, base)
    return result


def _packing(values):
    """`values` (C, H, W) in memory order, and whether its first axis makes the rows of points.

    The Betti numbers do not depend on the order of the axes; the speed does. Rows fill words of 64
    points, so the longest axis makes them, unless the last one, which memory prefers, nearly fills
    words as well.
    """
    if values.shape[2] >= min(48, max(values.shape)):
        return np.ascontiguousarray(values), False
    if values.shape[1] > values.shape[0]:
        values = values.transpose(1, 0, 2)
    return np.ascontiguousarray(values), True


def _index_type(points):
    """The smaller type that numbers that many points, and so any pieces of them."""
    return np.int32 if points < 2**31 else np.int64


@intrinsic
def _popcount(typing_context, word):
    """Number of set bits of a 64-bit word, as the processor counts them."""

    def code(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), code


@intrinsic
def _up_to_lowest_bit(typing_context, word):
    """All bits up to and including the lowest set one (blsmsk); all bits for zero."""

    def code(context, builder, signature, arguments):
        less_one = builder.sub(arguments[0], ir.Constant(ir.IntType(64), 1))
        return builder.xor(arguments[0], less_one)

    return types.uint64(types.uint64), code


@njit(inline="always")
def _lowest(word):
    """The lowest set bit alone."""
    return word & (~word + np.uint64(1))


@njit(inline="always")
def _shifted(word, before):
    """Every bit of a row moved up by one; the word `before` hands over its last."""
    return (word << np.uint64(1)) | (before >> np.uint64(63))


@_compiled
def _pack(values, cut, rows):
    """Set the points of `rows` whose value is <= cut; rows run along the last axis."""
    for z in range(values.shape[0]):
        for y in range(values.shape[1]):
            for w in range(rows.shape[2]):
                part = values[z, y, 64 * w : 64 * w + 64]
                word = np.uint64(0)
                for i in range(len(part)):
                    word |= np.uint64(part[i] <= cut) << np.uint64(i)
                rows[z + 1, y + 1, w] = word


@_compiled
def _pack_across(values, cut, rows):
    """Set the points of `rows` whose value is <= cut; rows run along the first axis."""
    flat = values.reshape(len(values), -1)  # long loops over what lies side by side in memory
    words = np.empty(flat.shape[1], np.uint64)
    for w in range(rows.shape[2]):
        words[:] = 0
        for i in range(min(64, len(flat) - 64 * w)):
            for j in range(len(words)):
                words[j] |= np.uint64(flat[64 * w + i, j] <= cut) << np.uint64(i)
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                rows[y + 1, x + 1, w] = words[y * values.shape[2] + x]


@_compiled
def _union(parent, a, b):
    """Join the sets of a and b; 1 if they were two, 0 if they were one."""
    # Rem's algorithm: both paths are walked at once, always from the larger parent, and each step
    # hangs the node it leaves under the other path.
    while parent[a] != parent[b]:
        if parent[a] < parent[b]:
            a, b = b, a
        above = parent[a]
        parent[a] = parent[b]
        if a == above:
            return 1
        a = above
    return 0


@njit(inline="always")
def _ends(starts):
    """The last points of the segments of a word; the segments begin at `starts` and at bit 0."""
    return (starts >> np.uint64(1)) | np.uint64(1 << 63)


@njit(inline="always")
def _any_in(flags, ends):
    """The ends of those segments that contain a flag.

    With all points but the ends added, any flag makes a carry, which stops at its segment's end.
    """
    return (((flags & ~ends) + ~ends) | flags) & ends


@njit(inline="always")
def _lowest_in(flags, starts, ends):
    """The lowest flag of each segment: the carry of its start runs up to there."""
    return ((~flags & ~ends) + (starts | np.uint64(1))) & flags


@njit(inline="always")
def _piece(starts, base, upto):
    """Number of the piece at the highest of the bits `upto`.

    Pieces of a row follow one another, and `base` of them began in earlier words or rows, so
    this is right also for a piece that began in an earlier word.
    """
    return base + _popcount(starts & upto) - 1


@_compiled
def _union_at(points, parent, starts_a, base_a, starts_b, base_b):
    """Join the pieces of two rows at each of the given points; how many components that costs."""
    joined = 0
    while points != 0:
        upto = _up_to_lowest_bit(points)
        a, b = _piece(starts_a, base_a, upto), _piece(starts_b, base_b, upto)
        joined += _union(parent, a, b)
        points &= ~upto
    return joined


@_compiled
def _hang_at(points, parent, starts_a, base_a, starts_b, base_b):
    """The same where each piece a is still alone: as many as there are points, and no search."""
    while points != 0:
        upto = _up_to_lowest_bit(points)
        parent[_piece(starts_a, base_a, upto)] = parent[_piece(starts_b, base_b, upto)]
        points &= ~upto


@_compiled
def _alone(pieces, index):
    """That many sets of one piece each, numbered with the type of the array `index`."""
    parent = np.empty(pieces, index.dtype)
    for piece in range(pieces):
        parent[piece] = piece
    return parent


@_compiled
def _components_6(rows, starts, base):
    """Number of 6-connected components of the points that are set.

    Two rows, one on the other, make a strip. Two components of a strip never share an x (there
    they would touch), so that they follow one another like the runs of a single row, and what is
    joined within a strip takes no union. The second axis must be even. `starts` and `base` are
    overwritten, with the first points of a strip's pieces and the number of pieces before a word.
    """
    depth, height, words = starts.shape
    pieces = 0
    for z in range(depth):
        for y in range(height):
            before_a = before_b = np.uint64(0)
            for w in range(words):
                a, b = rows[z, 2 * y, w], rows[z, 2 * y + 1, w]
                goes_on = (a & _shifted(a, before_a)) | (b & _shifted(b, before_b))
                starts[z, y, w] = (a | b) & ~goes_on
                base[z, y, w] = pieces
                pieces += _popcount(starts[z, y, w])
                before_a, before_b = a, b
    parent = _alone(pieces, base)
    joined = 0
    for z in range(1, depth):  # the first plane and the first and last rows are background
        for y in range(height):
            for w in range(words):
                a, b = rows[z, 2 * y, w], rows[z, 2 * y + 1, w]
                if a | b == 0:
                    continue
                start, first = starts[z, y, w], base[z, y, w]
                start_z, first_z = starts[z - 1, y, w], base[z - 1, y, w]
                behind_a, behind_b = rows[z - 1, 2 * y, w], rows[z - 1, 2 * y + 1, w]
                # Between two starts the pair of pieces is the same: one union does for a segment.
                ends = _ends(start | start_z)
                along_z = _any_in((a & behind_a) | (b & behind_b), ends)
                along_y = start_y = np.uint64(0)
                first_y = first
                if y > 0:
                    start_y, first_y = starts[z, y - 1, w], base[z, y - 1, w]
                    across = a & rows[z, 2 * y - 1, w]
                    along_y = _any_in(across, _ends(start | start_y))
                    # Where a unit square is in the set, its other three sides join these two.
                    along_z &= ~_any_in(across & behind_a & rows[z - 1, 2 * y - 1, w], ends)
                # The first union of a piece that began in this word finds it alone.
                began = ~(_lowest(start) - np.uint64(1))
                hung = _lowest_in(along_y | along_z, start, _ends(start)) & began
                joined += _popcount(hung)
                hung_y = hung & along_y
                hung_z = hung & ~along_y
                _hang_at(hung_y, parent, start, first, start_y, first_y)
                _hang_at(hung_z, parent, start, first, start_z, first_z)
                along_y &= ~hung_y
                along_z &= ~hung_z
                joined += _union_at(along_y, parent, start, first, start_y, first_y)
                joined += _union_at(along_z, parent, start, first, start_z, first_z)
    return pieces - joined


@njit(inline="always")
def _facing(rows, z, y, dz, dy, w):
    """Points that are *not* set in those rows of bundle (z, y) that look towards (dz, dy).

    Two rows across a face, one across an edge, all four for (0, 0).
    """
    z0, z1 = 2 * z + (dz > 0), 2 * z + (dz >= 0)
    y0, y1 = 2 * y + (dy > 0), 2 * y + (dy >= 0)
    return ~(rows[z0, y0, w] & rows[z0, y1, w] & rows[z1, y0, w] & rows[z1, y1, w])


@njit(inline="always")
def _touching(rows, z, y, dz, dy, w):
    """Where bundle (z, y) touches its neighbour towards (dz, dy) at the same x."""
    return _facing(rows, z, y, dz, dy, w) & _facing(rows, z + dz, y + dy, -dz, -dy, w)


@njit(inline="always")
def _joined_elsewhere(rows, z, y, dz, dy, w):
    """Where other pairs, each joined before this one, connect (z, y) to (z + dz, y + dy)."""
    if dz == 0:
        return np.uint64(0)
    if dy == 1:
        return _touching(rows, z, y, -1, 0, w) & _touching(rows, z - 1, y + 1, 0, -1, w)
    if y == 0:
        return np.uint64(0)
    above = _touching(rows, z, y, 0, -1, w)
    above_behind = above & _touching(rows, z, y - 1, -1, 0, w)
    across = _touching(rows, z - 1, y, 0, -1, w)
    if dy == 0:
        return (above & _touching(rows, z, y - 1, -1, 1, w)) | (above_behind & across)
    return above_behind | (_touching(rows, z, y, -1, 0, w) & across)


@_compiled
def _components_26(rows, starts, base):
    """Number of 26-connected components of the points that are *not* set, and the outside.

    Two by two rows make one bundle: all points of a bundle at x and x + 1 are neighbours, so a
    bundle is connected like a single row, the union of its four, and there are a quarter as many.
    Both first axes must be even. `starts` and `base` are overwritten.
    """
    depth, height, words = rows.shape[0] // 2, rows.shape[1] // 2, rows.shape[2]
    one = np.uint64(1)
    pieces = 0
    for z in range(depth):
        for y in range(height):
            before = np.uint64(0)
            for w in range(words):
                bundle = _facing(rows, z, y, 0, 0, w)
                starts[z, y, w] = bundle & ~_shifted(bundle, before)
                base[z, y, w] = pieces
                pieces += _popcount(starts[z, y, w])
                before = bundle
    parent = _alone(pieces, base)
    joined = 0
    for z in range(depth):
        for y in range(height):
            # Both ends of a row look outside, where piece 0 is.
            if _facing(rows, z, y, 0, 0, 0) & one != 0:
                joined += _union(parent, base[z, y, 0], 0)
            if _facing(rows, z, y, 0, 0, words - 1) >> np.uint64(63) != 0:
                last = _piece(starts[z, y, words - 1], base[z, y, words - 1], ~np.uint64(0))
                joined += _union(parent, last, 0)
            for dz, dy in ((0, -1), (-1, 0), (-1, -1), (-1, 1)):  # the neighbours seen before
                zn, yn = z + dz, y + dy
                if zn < 0 or yn < 0 or yn >= height:
                    continue
                before_a = before_b = all_before_a = all_before_b = np.uint64(0)
                for w in range(words):
                    # Bundle a and its neighbour b, what they turn to each other and all of them.
                    a, b = _facing(rows, z, y, dz, dy, w), _facing(rows, zn, yn, -dz, -dy, w)
                    all_a, all_b = _facing(rows, z, y, 0, 0, w), _facing(rows, zn, yn, 0, 0, w)
                    left_a, all_left_a = _shifted(a, before_a), _shifted(all_a, all_before_a)
                    left_b, all_left_b = _shifted(b, before_b), _shifted(all_b, all_before_b)
                    before_a, before_b, all_before_a, all_before_b = a, b, all_a, all_b
                    # A pair of pieces meets at x, or by a step from x - 1 to x. Where both of them
                    # go on to x, or came from x - 1, a step joins the same as a meeting there.
                    step_a, step_b = a & left_b, b & left_a
                    meeting = (a & b) | (step_a & all_b) | (step_b & all_a)
                    step_a &= ~all_b
                    step_b &= ~all_a
                    meeting |= ((step_a & all_left_a) | (step_b & all_left_b)) >> one
                    step_a &= ~all_left_a | one  # bit 0 came from the word before
                    step_b &= ~all_left_b | one

                    start_a, base_a = starts[z, y, w], base[z, y, w]
                    start_b, base_b = starts[zn, yn, w], base[zn, yn, w]
                    ends = _ends(start_a | start_b)
                    meeting = _any_in(meeting, ends)
                    meeting &= ~_any_in(_joined_elsewhere(rows, z, y, dz, dy, w), ends)
                    joined += _union_at(meeting, parent, start_a, base_a, start_b, base_b)
                    while step_a != 0:
                        upto = _up_to_lowest_bit(step_a)
                        i = _piece(start_a, base_a, upto)
                        joined += _union(parent, i, _piece(start_b, base_b, upto >> one))
                        step_a &= ~upto
                    while step_b != 0:
                        upto = _up_to_lowest_bit(step_b)
                        i = _piece(start_a, base_a, upto >> one)
                        joined += _union(parent, i, _piece(start_b, base_b, upto))
                        step_b &= ~upto
    return pieces - joined


@_compiled
def _euler_characteristic(rows):
    """Vertices - edges + squares - cubes of the points that are set."""
    chi = 0
    for z in range(1, rows.shape[0]):
        for y in range(1, rows.shape[1]):
            x_before = y_before = z_before = yz_before = np.uint64(0)
            for w in range(rows.shape[2]):
                # Cells without extent along the row: a vertex, two edges and a square; each set
                # bit next to another of its kind is such a cell times an interval.
                vertex = rows[z, y, w]
                edge_y = vertex & rows[z, y - 1, w]
                edge_z = vertex & rows[z - 1, y, w]
                square = edge_y & edge_z & rows[z - 1, y - 1, w]
                chi += _popcount(vertex) - _popcount(vertex & _shifted(vertex, x_before))
                chi -= _popcount(edge_y) - _popcount(edge_y & _shifted(edge_y, y_before))
                chi -= _popcount(edge_z) - _popcount(edge_z & _shifted(edge_z, z_before))
                chi += _popcount(square) - _popcount(square & _shifted(square, yz_before))
                x_before, y_before, z_before, yz_before = vertex, edge_y, edge_z, square
    return chi


@_compiled
def _betti_of_words(rows, starts, base):
    """(beta0, beta1, beta2) of the set bits of `rows` (uint64, padded by background)."""
    beta0 = _components_6(rows, starts, base)
    beta2 = _components_26(rows, starts, base) - 1
    beta1 = beta0 + beta2 - _euler_characteristic(rows)
    return beta0, beta1, beta2


# ---------------------------------------------------------------------------------------------
# The sweep: all thresholds at once. The points are put in a total order, by the first threshold
# that takes them in and, where that is the same, by their place. Each point's neighbours that come
# before it (its lower star) tell what it changes: the cells it brings, whether it founds a
# component or joins some, and the same for the complement from the other end.

#: Distinct thresholds from which on `betti_numbers` sweeps. Measured: both ways take equally long
#: at 19 to 41 thresholds, on volumes of 16 x 16 x 16 to 64 x 112 x 112, with and without ties.
_SWEEP_FROM = 32

#: A point's 3 x 3 x 3 neighbourhood is a word: bit 16 (dz + 1) + 4 (dy + 1) + (dx + 1). The bits
#: left free keep a step out of the cube from coming in on its other side.
_STEPS = [(z, y, x) for z in range(3) for y in range(3) for x in range(3) if (z, y, x) != (1, 1, 1)]


def _word(steps):
    return np.uint64(sum(1 << (16 * z + 4 * y + x) for z, y, x in steps))


_AROUND = _word(_STEPS)
_FACES_X = _word([(1, 1, 0), (1, 1, 2)])
_FACES_Y = _word([(1, 0, 1), (1, 2, 1)])
_FACES_Z = _word([(0, 1, 1), (2, 1, 1)])
_FACES = _FACES_X | _FACES_Y | _FACES_Z
_X, _Y, _Z = np.uint64(1), np.uint64(4), np.uint64(16)


def _sweep_thresholds(values, etas):
    """Betti numbers at all thresholds (float64, ascending, distinct) by one sweep."""
    most = np.iinfo(np.uint16).max - 1
    if len(etas) > most:
        parts = np.array_split(etas, -(-len(etas) // most))
        return np.concatenate([_sweep_thresholds(values, part) for part in parts])
    if _index_type(math.prod(length + 2 for length in values.shape)) is not np.int32:
        return _each_threshold(values, etas)  # places are numbered with 32 bits below
    values, across = _packing(values)
    values = np.ascontiguousarray(np.moveaxis(values, 0, 2)) if across else values
    # Bisection over the thresholds finds the first one that takes a value in: its level.
    level = np.full([length + 2 for length in values.shape], len(etas) + 1, dtype=np.uint16)
    cuts = np.full(2 ** len(etas).bit_length() - 1, np.inf, values.dtype)
    cuts[: len(etas)] = _largest_values_up_to(etas, values.dtype)
    _set_levels(values, cuts, level)
    # The steps to the neighbours in memory, by bit; no bit (64) is the point itself.
    places = np.zeros(65, np.int32)
    for z, y, x in _STEPS:
        places[16 * z + 4 * y + x] = ((z - 1) * level.shape[1] + y - 1) * level.shape[2] + x - 1
    first, last = np.empty(level.size, np.int32), np.zeros(level.size, np.int32)
    chi, components, cavities = np.zeros((3, len(etas) + 1), np.int64)
    _changes(level, places, first, last, chi, components, cavities)
    beta0 = np.cumsum(components)[:-1]
    beta2 = np.cumsum(cavities[::-1])[-2::-1]  # the complement of {level <= k} is {level > k}
    return np.stack([beta0, beta0 + beta2 - np.cumsum(chi)[:-1], beta2], axis=1)


@_compiled
def _set_levels(values, cuts, level):
    """The number of cuts below each value (2**n - 1 of them, ascending), by bisection."""
    found = np.empty(values.shape[2], np.uint32)
    for z in range(values.shape[0]):
        for y in range(values.shape[1]):
            found[:] = 0
            step = np.uint32((len(cuts) + 1) // 2)
            while step > 0:
                for x in range(len(found)):
                    above = cuts[found[x] + step - np.uint32(1)] < values[z, y, x]
                    found[x] += step * np.uint32(above)
                step >>= np.uint32(1)
            level[z + 1, y + 1, 1:-1] = found


@njit(inline="always")
def _stepped(word, axis):
    """All neighbours along one axis."""
    return (word << axis) | (word >> axis)


@njit(inline="always")
def _reached(word, within, wide):
    """Points of `within` that few steps reach from `word`, along axes or (wide) to any neighbour.

    No loop until nothing changes, so that it runs on several points at once: what is not reached
    though it could be only costs an edge more.
    """
    for _ in range(4):  # from one face to the one opposite
        if wide:
            word |= _stepped(word, _X)
            word |= _stepped(word, _Y)
            word |= _stepped(word, _Z)
        else:
            word |= _stepped(word, _X) | _stepped(word, _Y) | _stepped(word, _Z)
        word &= within
    return word


@njit(inline="always")
def _euler_change(lower):
    """What a point adds to the Euler characteristic, given its neighbours that came before.

    It brings the vertex itself and the edges, squares and cubes all of whose other vertices are
    there already.
    """
    x, y, z = lower & _FACES_X, lower & _FACES_Y, lower & _FACES_Z
    xy = lower & _stepped(x, _Y) & _stepped(y, _X)  # the far corners of squares
    xz = lower & _stepped(x, _Z) & _stepped(z, _X)
    yz = lower & _stepped(y, _Z) & _stepped(z, _Y)
    cubes = lower & _stepped(xy, _Z) & _stepped(xz, _Y) & _stepped(yz, _X)
    return 1 - _popcount(x | y | z) + _popcount(xy | xz | yz) - _popcount(cubes)


@_compiled
def _lower_neighbours(level, z, y, lower):
    """For each point of a row the word of its neighbours that come before it."""
    here = level[z, y]
    lower[:] = 0
    for dz in range(-1, 2):
        for dy in range(-1, 2):
            row = level[z + dz, y + dy]
            shift = np.uint64(16 * (dz + 1) + 4 * (dy + 1))
            # Points of the same level come in the order of their places.
            earlier = (dz, dy) < (0, 0)
            for x in range(1, len(here) - 1):
                own = here[x]
                word = np.uint64(row[x - 1] < own + ((dz, dy) <= (0, 0)))
                word |= np.uint64(row[x] < own + earlier) << np.uint64(1)
                word |= np.uint64(row[x + 1] < own + earlier) << np.uint64(2)
                lower[x] |= word << shift


@_compiled
def _longer(edges):
    """The same table with room for as many again."""
    longer = np.empty((2 * len(edges), 3), edges.dtype)
    for edge in range(len(edges)):
        for i in range(3):
            longer[edge, i] = edges[edge, i]
    return longer


@_compiled
def _hang_row(within, wide, levels, row, places, forest, trees, change, edges, count):
    """Hang the points of a row into the forest, each under one of its neighbours in `within`.

    Where these fall into several components among themselves, the point joins them: an edge to
    each further one goes into the table, with the point's level. Returns the numbers of trees and
    edges so far, and the table.
    """
    # One loop does one thing, so that the compiler makes it work on several points at once.
    seeds = _AROUND if wide else _FACES
    others = np.empty(len(within), np.uint64)
    for x in range(1, len(within) - 1):
        lowest = _lowest(within[x] & seeds)
        others[x] = within[x] & seeds & ~_reached(lowest, within[x], wide)
    for x in range(1, len(within) - 1):
        lowest = _lowest(within[x] & seeds)
        forest[row + x] = row + x + places[_popcount(lowest - np.uint64(1))]
    several, joining = np.empty(len(within), np.int64), 0
    for x in range(1, len(within) - 1):
        several[joining] = x
        joining += others[x] != 0
        if within[x] & seeds == 0:
            change[levels[x]] += 1
            forest[row + x] = ~trees
            trees += 1
    for i in range(joining):
        x = several[i]
        rest = others[x]
        while rest != 0:
            lowest = _lowest(rest)
            if count == len(edges):
                edges = _longer(edges)
            edges[count, 0] = row + x
            edges[count, 1] = row + x + places[_popcount(lowest - np.uint64(1))]
            edges[count, 2] = levels[x]
            count += 1
            rest &= ~lowest
            if rest != 0:  # what reaches them takes longer than all of the above
                rest &= ~_reached(lowest, within[x], wide)
    return trees, edges, count


@_compiled
def _root(forest, place):
    """Number of the tree that a place hangs in; its root has ~number in the place of a parent."""
    while forest[place] >= 0:
        above = forest[place]
        if forest[above] >= 0:
            forest[place] = forest[above]
        place = above
    return ~forest[place]


@_compiled
def _join_trees(forest, trees, edges, backwards, change):
    """Subtract from `change`, at each level, the trees that its edges join to others."""
    begins = np.zeros(len(change) + 1, np.int64)
    for edge in range(len(edges)):
        edges[edge, 0] = _root(forest, edges[edge, 0])
        edges[edge, 1] = _root(forest, edges[edge, 1])
        begins[edges[edge, 2] + 1] += edges[edge, 0] != edges[edge, 1]
    begins = np.cumsum(begins)
    ordered = np.empty((begins[-1], 3), edges.dtype)  # by level
    for edge in range(len(edges)):
        if edges[edge, 0] != edges[edge, 1]:
            ordered[begins[edges[edge, 2]]] = edges[edge]
            begins[edges[edge, 2]] += 1
    if backwards:
        ordered = ordered[::-1]
    parent = _alone(trees, forest)
    for edge in range(len(ordered)):
        change[ordered[edge, 2]] -= _union(parent, ordered[edge, 0], ordered[edge, 1])


@_compiled
def _changes(level, places, first, last, chi, components, cavities):
    """What each level adds to the Euler characteristic and to the numbers of components.

    `level` has a layer of a level higher than all others around it. `first` and `last` become the
    forests in which each point hangs under a neighbour before it and after it; `last` comes as
    zeros: all around hangs under place 0, the outside. The other three come as zeros. `components`
    are those of the sets {level <= k}; `cavities`, from the highest level downwards, those of
    {level >= k} but for the outside.
    """
    height, width = level.shape[1:]
    trees, edges, edge_count = 0, np.empty((1024, 3), first.dtype), 0
    outer_trees, walls, wall_count = 1, np.empty((1024, 3), first.dtype), 0
    last[0] = ~0
    lower, upper = np.zeros(width, np.uint64), np.zeros(width, np.uint64)
    for z in range(1, level.shape[0] - 1):
        for y in range(1, height - 1):
            levels, row = level[z, y], (z * height + y) * width
            _lower_neighbours(level, z, y, lower)
            for x in range(1, width - 1):
                upper[x] = _AROUND & ~lower[x]
            for x in range(1, width - 1):
                chi[levels[x]] += _euler_change(lower[x])
            trees, edges, edge_count = _hang_row(
                lower, False, levels, row, places, first, trees, components, edges, edge_count
            )
            outer_trees, walls, wall_count = _hang_row(
                upper, True, levels, row, places, last, outer_trees, cavities, walls, wall_count
            )
    _join_trees(first, trees, edges[:edge_count], False, components)
    _join_trees(last, outer_trees, walls[:wall_count], True, cavities)
