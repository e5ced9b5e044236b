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
than single points.
"""

from __future__ import annotations

import numbers

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["betti_from_persistence", "betti_numbers", "persistence"]

_ACCEPTED = (
    "accepted: a numpy array or torch tensor with 1, 2 or 3 axes, none empty, "
    "of bool, integers or real floating-point numbers, without NaN"
)


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

    See Also
    --------
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
    values = _as_real_array(volume)
    etas, scalar = as_thresholds(thresholds)
    values = values.reshape((1,) * (3 - values.ndim) + values.shape)
    # The Betti numbers do not depend on the order of the axes, the speed does: rows are packed
    # 64 points to a word, so the longest axis goes last, unless the last one fills words anyway.
    shape = list(values.shape)
    longest = 2 if shape[2] >= 48 else int(np.argmax(shape))
    depth, height, width = (*shape[:longest], *shape[longest + 1 :], shape[longest])

    # One layer of background all around (it is the outside of beta2), and more of it until the
    # first two axes are even and the last fills whole bytes: more outside changes nothing.
    even = (depth + 2 + depth % 2, height + 2 + height % 2)
    mask = np.zeros((*even, -(-(width + 2) // 8) * 8), dtype=bool)
    inside = mask[1 : depth + 1, 1 : height + 1, 1 : width + 1]
    packed = np.zeros((*even, -(-mask.shape[2] // 64) * 8), dtype=np.uint8)

    result = np.empty((len(etas), 3), dtype=np.int64)
    known = {}
    for row, eta in zip(result, etas, strict=True):
        if eta not in known:
            below = values <= _largest_value_up_to(eta, values.dtype)
            inside[...] = np.moveaxis(below, longest, 2)
            packed[:, :, : mask.shape[2] // 8] = np.packbits(mask, axis=2, bitorder="little")
            known[eta] = _betti_of_words(packed.view("<u8"))
        row[:] = known[eta]
    return result[0] if scalar else result


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
        Bars (birth, death) of degree 0, 1 and 2, births ascending; a class that never dies has
        death inf. Bars of no length are left out.

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


def betti_from_persistence(diagrams, thresholds):
    """Betti numbers read off persistence diagrams: bars with birth <= eta < death.

    Parameters
    ----------
    diagrams : list of three arrays (n, 2)
        As `persistence` returns them.
    thresholds : float or sequence of float
        Values of eta.

    Returns
    -------
    numpy.ndarray of int64, shape (3,) for one threshold, (T, 3) for a sequence
    """
    etas, scalar = as_thresholds(thresholds)
    result = np.array(
        [
            [
                np.sum((bars[:, 0] <= eta) & ((eta < bars[:, 1]) | np.isposinf(bars[:, 1])))
                for bars in diagrams
            ]
            for eta in etas
        ],
        dtype=np.int64,
    ).reshape(-1, 3)
    return result[0] if scalar else result


# ---------------------------------------------------------------------------------------------
# Input: what was wrong, and what is accepted.


def _as_real_array(volume):
    """`volume` as a numpy array that compares with float64 thresholds exactly; no NaN in it."""
    if hasattr(volume, "detach") and hasattr(volume, "layout"):  # a torch tensor
        import torch

        if volume.layout != torch.strided or volume.is_quantized or volume.device.type == "meta":
            raise TypeError(
                f"volume is a {volume.layout} tensor of {volume.dtype} on {volume.device}, "
                f"not a dense one with values; {_ACCEPTED}"
            )
        volume = volume.detach().cpu().resolve_conj().resolve_neg()
        if volume.is_floating_point() and volume.dtype not in (torch.float64, torch.float16):
            volume = volume.float()  # exact for bfloat16, which numpy does not have
        volume = volume.numpy()
    if isinstance(volume, np.ma.MaskedArray):
        raise TypeError(f"volume is a masked array: fill it first; {_ACCEPTED}")
    try:
        values = np.asarray(volume)
    except ValueError as error:
        raise ValueError(f"volume is no array ({error}); {_ACCEPTED}") from None
    if values.dtype.kind not in "buif":
        raise TypeError(f"volume has dtype {values.dtype}; {_ACCEPTED}")
    if values.ndim not in (1, 2, 3):
        raise ValueError(f"volume has {values.ndim} axes (shape {values.shape}); {_ACCEPTED}")
    if 0 in values.shape:
        raise ValueError(f"volume has an empty axis (shape {values.shape}); {_ACCEPTED}")
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    elif not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if np.isnan(values.min()):  # the minimum is NaN as soon as one value is
        raise ValueError(f"volume contains NaN; {_ACCEPTED}")
    return values


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


def _largest_value_up_to(eta, dtype):
    """The largest value of `dtype` that is <= eta: comparing with it is comparing with eta."""
    with np.errstate(over="ignore"):
        rounded = dtype.type(eta)
    if float(rounded) > eta:
        rounded = np.nextafter(rounded, dtype.type(-np.inf))
    return rounded


# ---------------------------------------------------------------------------------------------
# The engine: rows of 64 points a word, compiled, without the GIL.


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
def _shifted(word, before):
    """Every bit of a row moved up by one; the word `before` hands over its last."""
    return (word << np.uint64(1)) | (before >> np.uint64(63))


@njit(nogil=True, cache=True)
def _number(starts, base):
    """Number the pieces of all rows, given where in its row each starts; how many there are.

    Pieces of a row follow one another, so the piece at bit i of word w has the number
    base[w] + popcount(starts[w] up to i) - 1, also where it began in an earlier word.
    """
    pieces = 0
    for z in range(starts.shape[0]):
        for y in range(starts.shape[1]):
            for w in range(starts.shape[2]):
                base[z, y, w] = pieces
                pieces += _popcount(starts[z, y, w])
    return pieces


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def _union_where(points, redundant, parent, starts_a, base_a, starts_b, base_b):
    """Join the pieces of two rows that meet at the given points of a word; how many were joined.

    Between two starts the pair of pieces is the same, so one union does for all points there, and
    none if one of these points is among the `redundant`: the pair is joined elsewhere.
    """
    joined = 0
    starts = starts_a | starts_b
    while points != 0:
        upto = _up_to_lowest_bit(points)
        later = starts & ~upto
        segment = ~later & (later - np.uint64(1))  # all bits below the next start
        if points & segment & redundant == 0:
            a = base_a + _popcount(starts_a & upto) - 1
            b = base_b + _popcount(starts_b & upto) - 1
            joined += _union(parent, a, b)
        points &= ~segment
    return joined


@njit(nogil=True, cache=True)
def _components_6(rows):
    """Number of 6-connected components of the points that are set.

    Two rows, one on the other, make a strip. Two components of a strip never share an x (there
    they would touch), so that they follow one another like the runs of a single row, and what is
    joined within a strip takes no union. The second axis must be even.
    """
    depth, height, words = rows.shape[0], rows.shape[1] // 2, rows.shape[2]
    starts = np.empty((depth, height, words), np.uint64)
    for z in range(depth):
        for y in range(height):
            before_a = before_b = np.uint64(0)
            for w in range(words):
                a, b = rows[z, 2 * y, w], rows[z, 2 * y + 1, w]
                goes_on = (a & _shifted(a, before_a)) | (b & _shifted(b, before_b))
                starts[z, y, w] = (a | b) & ~goes_on
                before_a, before_b = a, b
    base = np.empty(starts.shape, np.int32)
    pieces = _number(starts, base)
    parent = np.arange(pieces).astype(np.int32)
    joined = 0
    for z in range(1, depth):  # the first plane and the first and last rows are background
        for y in range(height):
            for w in range(words):
                a, b = rows[z, 2 * y, w], rows[z, 2 * y + 1, w]
                if a | b == 0:
                    continue
                behind_a, behind_b = rows[z - 1, 2 * y, w], rows[z - 1, 2 * y + 1, w]
                around = np.uint64(0)
                if y > 0:
                    across = a & rows[z, 2 * y - 1, w]
                    joined += _union_where(
                        across,
                        around,
                        parent,
                        starts[z, y, w],
                        base[z, y, w],
                        starts[z, y - 1, w],
                        base[z, y - 1, w],
                    )
                    # Where a unit square is in the set, its other three sides join these two.
                    around = across & behind_a & rows[z - 1, 2 * y - 1, w]
                joined += _union_where(
                    (a & behind_a) | (b & behind_b),
                    around,
                    parent,
                    starts[z, y, w],
                    base[z, y, w],
                    starts[z - 1, y, w],
                    base[z - 1, y, w],
                )
    return pieces - joined


@njit(inline="always")
def _facing(rows, z, y, dz, dy, w):
    """Points that are *not* set in those rows of bundle (z, y) that look towards (dz, dy).

    Two rows across a face, one across an edge, all four for (0, 0).
    """
    z0, z1 = 2 * z + (dz > 0), 2 * z + (dz >= 0)
    y0, y1 = 2 * y + (dy > 0), 2 * y + (dy >= 0)
    return ~(rows[z0, y0, w] & rows[z0, y1, w] & rows[z1, y0, w] & rows[z1, y1, w])


@njit(nogil=True, cache=True)
def _components_26(rows):
    """Number of 26-connected components of the points that are *not* set.

    Two by two rows make one bundle: all points of a bundle at x and x + 1 are neighbours, so a
    bundle is connected like a single row, the union of its four, and there are a quarter as many.
    Both first axes must be even.
    """
    depth, height, words = rows.shape[0] // 2, rows.shape[1] // 2, rows.shape[2]
    starts = np.empty((depth, height, words), np.uint64)
    for z in range(depth):
        for y in range(height):
            before = np.uint64(0)
            for w in range(words):
                bundle = _facing(rows, z, y, 0, 0, w)
                starts[z, y, w] = bundle & ~_shifted(bundle, before)
                before = bundle
    base = np.empty(starts.shape, np.int32)
    pieces = _number(starts, base)
    parent = np.arange(pieces).astype(np.int32)
    joined = 0
    for z in range(depth):
        for y in range(height):
            for dz, dy in ((0, -1), (-1, 0), (-1, -1), (-1, 1)):  # the neighbours seen before
                zn, yn = z + dz, y + dy
                if zn < 0 or yn < 0 or yn >= height:
                    continue
                before_a = before_b = np.uint64(0)
                for w in range(words):
                    a, b = _facing(rows, z, y, dz, dy, w), _facing(rows, zn, yn, -dz, -dy, w)
                    left_a, left_b = _shifted(a, before_a), _shifted(b, before_b)
                    before_a, before_b = a, b
                    start_a, start_b = starts[z, y, w], starts[zn, yn, w]
                    base_a, base_b = base[z, y, w], base[zn, yn, w]
                    joined += _union_where(
                        a & b, np.uint64(0), parent, start_a, base_a, start_b, base_b
                    )
                    # Neighbours one step along the row, where no straight pair joins the same.
                    points = a & left_b & ~b & ~left_a
                    while points != 0:
                        upto = _up_to_lowest_bit(points)
                        i = base_a + _popcount(start_a & upto) - 1
                        j = base_b + _popcount(start_b & (upto >> np.uint64(1))) - 1
                        joined += _union(parent, i, j)
                        points &= ~upto
                    points = b & left_a & ~a & ~left_b
                    while points != 0:
                        upto = _up_to_lowest_bit(points)
                        i = base_a + _popcount(start_a & (upto >> np.uint64(1))) - 1
                        j = base_b + _popcount(start_b & upto) - 1
                        joined += _union(parent, i, j)
                        points &= ~upto
    return pieces - joined


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def _betti_of_words(rows):
    """(beta0, beta1, beta2) of the set bits of `rows` (uint64, padded by background)."""
    beta0 = _components_6(rows)
    beta2 = _components_26(rows) - 1
    beta1 = beta0 + beta2 - _euler_characteristic(rows)
    return beta0, beta1, beta2
