"""Exact Betti numbers of the sublevel sets of a volume.

A volume of C x H x W values is read as a function f on the points of a grid. In the
V-construction every grid point is a vertex, and an edge, square or cube is present as soon as
all its vertices are; the sublevel set at eta is the subcomplex of the points with f <= eta.

No matrix is reduced here. For S = {f <= eta} in 3-space:

    beta0 = number of 6-connected components of S
    beta2 = number of 26-connected components of the complement of S, minus the outside
    chi   = vertices - edges + squares - cubes = beta0 - beta1 + beta2

so two counts of components (union-find) and one count of cells give all three numbers; beta1
follows from chi. (A subcomplex of 3-space has no torsion, so the coefficient field does not
matter, and Alexander duality turns cavities into components of the complement.)

Two ways lead to the same integers. `_words` counts one threshold: a row of 64 grid points is one
machine word, cells are counted by `popcount` of words combined with `&`, and the nodes of the
union-find are runs of consecutive points. `_sweep` counts all thresholds at once: it finds what
every point changes when it enters the sublevel set, and adds the changes up to curves. `_compiled`
keeps their machine code on disk.
"""

from __future__ import annotations

import functools
import math
import numbers

import numpy as np

_ACCEPTED = (
    "accepted: a numpy array or torch tensor with 1, 2 or 3 axes, none empty, "
    "of bool, integers or real floating-point numbers, without NaN"
)

#: From so many distinct thresholds on, `betti_numbers` sweeps. Both ways were measured to take
#: equally long at 19 to 41 of them, on volumes of 16 x 16 x 16 to 64 x 112 x 112, with ties or not.
_SWEEP_FROM = 32

#: The sweep numbers points with 32 bits, and leaves larger volumes to the other way.
_SWEEP_POINTS = 2**31

_SMALLEST = float(np.finfo(np.float64).tiny)  # the smallest normal number


def _with_denormals(function):
    """A function that compares and rounds denormal numbers exactly, in whatever thread.

    After `torch.set_flush_denormal(True)` a thread, and those that it starts, take them for zero.
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


@_with_denormals
def betti_numbers(volume, thresholds):
    """Betti numbers of the sublevel sets {volume <= threshold}, V-construction.

    Parameters
    ----------
    volume : numpy.ndarray or torch.Tensor, shape (C, H, W), (H, W) or (N,)
        Real values of any dtype (bool, integers, float16, bfloat16, float32, float64) and any
        strides; infinities are allowed, NaN is not. It is never changed.
    thresholds : float or sequence of float, shape () or (T,)
        Values of eta, in the units of `volume`, in any order; repeats and infinities are allowed,
        NaN is not. Values are compared exactly: the value promoted to float64 against the float64
        threshold, so that ``float32(0.1) <= 0.1`` is false.

    Returns
    -------
    numpy.ndarray of int64, shape (3,) for one threshold, (T, 3) for a sequence
        beta0 (components), beta1 (tunnels) and beta2 (cavities), each >= 0.

    Raises
    ------
    TypeError
        Complex or non-numeric values or thresholds.
    ValueError
        NaN, an empty axis, no axis or more than three axes.

    Notes
    -----
    From 32 distinct thresholds on it does as `betti_curves`. Fewer are counted one by one, which
    takes at most 3 bytes a value beyond the volume, and 4 or 8 more to copy a volume that is not
    float32 or float64, not contiguous, or longest along its second axis. Threads count at the same
    time: the compiled code does not hold the GIL.

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
    return _counted(volume, thresholds, sweep_from=_SWEEP_FROM)


@_with_denormals
def betti_curves(volume, thresholds):
    """The integers of `betti_numbers`, always by one sweep over the values.

    However many thresholds there are, the sweep takes about as long as 20 to 40 of them counted one
    by one, and 15 to 35 bytes a value beyond the volume. It is made for curves through all values.

    Parameters
    ----------
    volume, thresholds
        As for `betti_numbers`.

    Returns
    -------
    numpy.ndarray of int64, shape (3,) for one threshold, (T, 3) for a sequence

    Raises
    ------
    TypeError, ValueError
        As `betti_numbers`.

    References
    ----------
    Edelsbrunner and Harer, Computational Topology (2010), VI.3: the lower star of a vertex and
    what it changes in the homology of the sublevel set.
    """
    return _counted(volume, thresholds, sweep_from=0)


def _counted(volume, thresholds, sweep_from):
    """Betti numbers at all thresholds, by one sweep if there are that many distinct ones."""
    values = _as_real_array(volume)
    values = values.reshape((1,) * (3 - values.ndim) + values.shape)
    etas, scalar = as_thresholds(thresholds)
    distinct = np.array(sorted(set(etas)))
    points = math.prod(length + 2 for length in values.shape)
    values, across = _packing(values)
    # Imported here: a profile that is read from the disk needs no numba.
    if len(distinct) >= sweep_from and points < _SWEEP_POINTS:
        from topo_utils.cubical._sweep import betti_by_sweep as count
    else:
        from topo_utils.cubical._words import betti_at_each as count
    result = count(values, across, _largest_values_up_to(distinct, values.dtype))
    result = result[np.searchsorted(distinct, etas)]
    return result[0] if scalar else result


@_with_denormals
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
        Bars (birth, death) of degree 0, 1 and 2, in ascending order, without bars of no length.
        Death is inf where a class never dies, such as the oldest component, or dies only at
        values of inf.

    Raises
    ------
    TypeError, ValueError
        As `betti_numbers`; ValueError also for an unknown construction.
    """
    from gudhi import CubicalComplex

    keywords = {"V": "vertices", "T": "top_dimensional_cells"}
    if construction not in keywords:
        raise ValueError(f"unknown construction {construction!r}; accepted: 'V' and 'T'")
    values = np.ascontiguousarray(_as_real_array(volume), dtype=np.float64)
    filtration = CubicalComplex(**{keywords[construction]: values})
    # Prime 11 is GUDHI's default; any field gives the same, as 3-space has no torsion.
    filtration.compute_persistence()
    bars = [np.reshape(filtration.persistence_intervals_in_dimension(k), (-1, 2)) for k in range(3)]
    return [each[np.lexsort((each[:, 1], each[:, 0]))] for each in bars]


@_with_denormals
def betti_from_persistence(diagrams, thresholds):
    """Betti numbers read off persistence diagrams: bars with birth <= eta < death.

    Parameters
    ----------
    diagrams : list of three arrays (n, 2)
        As `persistence` returns them.
    thresholds : float or sequence of float
        Values of eta. At inf the volume is whole: of the classes with death inf, one component
        remains.

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
    """A numpy array of an array, nested lists or a torch tensor, on any device, of any dtype.

    Types that numpy does not have, such as bfloat16, become float32, which is exact. Where there is
    no such array, TypeError or ValueError says so, with the `name` of what was given.
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
    # The compiled code reads float32 and float64 in this machine's byte order. The copy is exact
    # except for wider integers and floats, which are rounded to float64.
    narrow = width <= 2 or (kind == "f" and width == 4)
    values = values.astype(np.float32 if narrow else np.float64, copy=False)
    if np.isnan(values.min()):  # the minimum is NaN as soon as one value is
        raise ValueError(f"volume contains NaN; {_ACCEPTED}")
    return values


def _largest_values_up_to(etas, dtype):
    """The largest value of `dtype` that is <= eta: comparing with it is comparing with eta."""
    with np.errstate(over="ignore"):
        rounded = etas.astype(dtype)
        below = np.nextafter(rounded, dtype.type(-np.inf))
        return np.where(rounded.astype(np.float64) > etas, below, rounded)


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


@_with_denormals
def as_thresholds(thresholds):
    """The thresholds as a list of floats, and whether a single one was given.

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
