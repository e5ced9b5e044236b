"""Topological complexity, and how it changes with depth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from topo_utils.cubical import as_array

__all__ = [
    "Decay",
    "Invariance",
    "bootstrap_mean",
    "decay",
    "depth_decay_verdict",
    "invariance",
    "invariance_verdict",
    "profile_distance",
    "profile_distances",
    "relative_depth",
    "theta_score",
    "topological_complexity",
]

_POINTS = 32  # of relative depth, at which curves of networks with other numbers of blocks meet

#: Why a verdict of `invariance` is inconclusive.
NOTHING_TO_COMPARE = (
    "What should differ does not, beyond its noise, or what should agree does not change with "
    "depth at all: there is nothing to compare."
)

# What rounding leaves of a difference of logarithms that is 0. (One count more, in the mean of
# thousands of images with a million each, is a thousand times as much.)
_NOISE = 1e-12


def topological_complexity(profile):
    """Omega = beta0 + beta1 + beta2 (Suresh et al., arXiv 2311.04592).

    Parameters
    ----------
    profile : xarray.DataArray with a dimension "degree", or array-like with it as the last axis
        Betti numbers, as `topo_utils.embedding_profile` or `betti_numbers` return them.

    Returns
    -------
    xarray.DataArray named "omega", or numpy.ndarray
        The same without that dimension; integers stay integers. The paper's curve is its mean
        over images.

    Raises
    ------
    ValueError
        No dimension "degree", or not three degrees.
    """
    if isinstance(profile, xr.DataArray):
        if profile.sizes.get("degree") != 3:
            raise ValueError(f"profile has dimensions {dict(profile.sizes)}; needed: degree = 3")
        return profile.sum("degree", keep_attrs=True).rename("omega")
    values = as_array(profile, "profile", "needed: (..., 3), one per degree")
    if values.ndim == 0 or values.shape[-1] != 3:
        raise ValueError(f"profile has shape {values.shape}; needed: (..., 3), one per degree")
    return values.sum(axis=-1)


def relative_depth(n_blocks):
    """Depth of each block: first block 0, last block 1; shape (n_blocks,).

    Raises
    ------
    ValueError
        Fewer than two blocks.
    """
    if n_blocks < 2:
        raise ValueError(f"{n_blocks} block has no relative depth; at least two are needed")
    return np.linspace(0.0, 1.0, n_blocks)


class Decay(NamedTuple):
    """How a complexity curve falls; `decay` makes it.

    Attributes
    ----------
    slope : float
        Of log(1 + mean Omega) on relative depth: exp(slope) is the factor from first to last
        block along the fitted line; negative when complexity falls.
    low, high : float
        Percentile interval of the slope, by a bootstrap over images.
    minimum_depth : float
        Relative depth, 0 to 1, of the lowest point of the mean curve (the first of them).
    minimum : float
        Mean Omega there, in counts.
    first, last : float
        Mean Omega at the first and at the last block.
    """

    slope: float
    low: float
    high: float
    minimum_depth: float
    minimum: float
    first: float
    last: float

    @property
    def falls(self):
        """Whether the interval lies below 0, by more than rounding."""
        return self.high < -_NOISE

    @property
    def rises(self):
        """Whether the interval lies above 0, by more than rounding."""
        return self.low > _NOISE

    @property
    def is_flat(self):
        """Whether there is no slope in any resample, as where nothing is counted."""
        return max(map(abs, self[:3])) <= _NOISE


def decay(omega, *, relative_to=None, n_bootstrap=2000, confidence=0.95, seed=0):
    """Rate of decay of topological complexity along the depth of a network.

    The slope of log(1 + mean Omega over images) on relative depth, by least squares, with a
    percentile bootstrap over images; beside it the minimum, since many curves are not monotone.

    Parameters
    ----------
    omega : xarray.DataArray, dims image and block, or array-like, shape (N, L)
        Omega of N >= 2 images at L >= 2 blocks, for one threshold.
    relative_to : like `omega`, optional
        Omega of the same images in a network to compare with (its untrained twin, say). The slope
        is then that of log(1 + mean Omega) minus its counterpart's, and both share the resamples,
        so that the interval is that of the paired difference of two decays.
    n_bootstrap : int
        Number of resamples.
    confidence : float
        Of the interval, between 0 and 1.
    seed : int
        Of the resamples.

    Returns
    -------
    Decay
        A slope within rounding of 0 is 0.

    Raises
    ------
    ValueError
        Another shape, fewer than two images or blocks, values that are no counts, other images in
        `relative_to`, or a confidence or number of resamples out of range.
    """
    _check_bootstrap(n_bootstrap, confidence)
    labelled = isinstance(omega, xr.DataArray) and isinstance(relative_to, xr.DataArray)
    if labelled and not omega["image"].equals(relative_to["image"]):
        raise ValueError("omega and relative_to are of different images")
    omega = _image_by_block(omega)
    reference = np.zeros_like(omega) if relative_to is None else _image_by_block(relative_to)
    if reference.shape != omega.shape:
        raise ValueError(f"omega has shape {omega.shape}, relative_to {reference.shape}")
    n_images, n_blocks = omega.shape
    depth = relative_depth(n_blocks)
    if n_images < 2:
        raise ValueError(f"an interval over images needs at least 2 of them, not {n_images}")

    centred = depth - depth.mean()
    weights = centred / (centred @ centred)  # slope of y is weights @ y

    def slope(images):
        mean, reference_mean = omega[images].mean(axis=0), reference[images].mean(axis=0)
        found = (np.log1p(mean) - np.log1p(reference_mean)) @ weights
        return found if abs(found) > _NOISE else 0.0

    draws = np.random.default_rng(seed).integers(n_images, size=(n_bootstrap, n_images))
    tail = 50 * (1 - confidence)
    low, high = np.percentile([slope(draw) for draw in draws], [tail, 100 - tail])
    mean = omega.mean(axis=0)
    lowest = int(mean.argmin())
    return Decay(
        slope=float(slope(slice(None))),
        low=float(low),
        high=float(high),
        minimum_depth=float(depth[lowest]),
        minimum=float(mean[lowest]),
        first=float(mean[0]),
        last=float(mean[-1]),
    )


def depth_decay_verdict(pretrained, untrained):
    """Does complexity fall with depth, because of learning, to its lowest value?

    The rule is fixed: "not reproduced" when the decay of some pretrained network has an interval
    above 0, "inconclusive" when one contains 0; else complexity falls, and this is "reproduced"
    when no untrained twin falls as well, each has something to count, and every curve ends within
    5 % of its minimum, otherwise "reproduced with limits".

    Parameters
    ----------
    pretrained, untrained : dict of str to Decay
        By name of the network, the same names in both.

    Returns
    -------
    verdict, reason : str
    """
    if not pretrained or pretrained.keys() != untrained.keys():
        raise ValueError(
            f"pretrained {list(pretrained)}, untrained {list(untrained)}; needed: the same "
            "networks in both, at least one"
        )
    rising = [name for name, found in pretrained.items() if found.rises]
    flat = [name for name, found in pretrained.items() if found.is_flat]
    unclear = [name for name, found in pretrained.items() if not (found.rises or found.falls)]
    if rising:
        return "not reproduced", f"complexity rises with depth in {', '.join(rising)}."
    if flat:
        return "inconclusive", (
            f"the decay is exactly 0 in {', '.join(flat)}, as where the threshold lies beyond all "
            "values and there is nothing to count."
        )
    if unclear:
        return "inconclusive", f"the interval of the decay contains 0 in {', '.join(unclear)}."
    also = [name for name, found in untrained.items() if found.falls]
    blank = [name for name, found in untrained.items() if found.is_flat]
    above = [name for name, found in pretrained.items() if found.last > 1.05 * found.minimum]
    reason = f"complexity falls with depth in {len(pretrained)} of {len(pretrained)} networks"
    limits = []
    if also:
        limits.append(f"it also falls in {len(also)} of {len(untrained)} without any training")
    if blank:
        limits.append(f"the decay is exactly 0 in {len(blank)} of {len(untrained)} untrained ones")
    if above:
        limits.append(f"{', '.join(above)} end above their minimum")
    if not limits:
        return "reproduced", f"{reason}, in none without training, and each ends at its minimum."
    return "reproduced with limits", f"{reason}, but {', and '.join(limits)}."


def profile_distance(omega_a, omega_b):
    """How much two complexity curves differ in shape; no unit, at least 0.

    The root mean square, over 32 points of relative depth, of the difference of the two mean curves
    log(1 + mean Omega), each minus its own mean over depth: a factor that all blocks share makes no
    difference. A distance of 0.1 is a ratio of the curves that varies by about 10 % along depth.

    Parameters
    ----------
    omega_a, omega_b : xarray.DataArray, dims image and block, or array-like, shape (N, L)
        Omega by image and block, for one threshold; the numbers of images and of blocks may differ.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `decay`, but one image is enough.
    """
    a, b = (_shapes(_image_by_block(omega).mean(axis=0)) for omega in (omega_a, omega_b))
    return float(_distance(np.mean((a - b) ** 2)))


def profile_distances(curves, pairs, *, n_bootstrap=1000, confidence=0.95, seed=0):
    """Distances between pairs of curves, with bootstrap intervals over images.

    `profile_distance` of two noisy means is too large, and of resampled ones again; both are
    corrected by the split-half floor, the distance that halves of the same images have from one
    another, brought to the size of the whole. Curves of the same images share the resamples, so
    that they are compared image by image.

    Parameters
    ----------
    curves, n_bootstrap, confidence, seed
        As for `invariance`.
    pairs : sequence of (str, str)
        Names of curves.

    Returns
    -------
    pandas.DataFrame
        One row for each pair: a, b, distance (the floor subtracted) with low and high, and floor.

    Raises
    ------
    ValueError
        As `decay`; no pairs; a name that is not among the curves.
    """
    return _distances(curves, pairs, n_bootstrap, confidence, seed)[0]


class Invariance(NamedTuple):
    """What `invariance` finds.

    Attributes
    ----------
    ratio, low, high : float
        Median distance under the change that should not matter, divided by the median distance of
        what should differ; and its bootstrap interval. All ratios are NaN where what should differ
        does not, beyond its noise, so that there is nothing to divide by, or where neither curve of
        a change itself changes with depth, as where nothing is counted.
    verdict : str
        By `invariance_verdict`.
    pairs : pandas.DataFrame
        One row for each pair: a, b, kind ("change" or "comparison"), distance (the floor
        subtracted) with low and high, floor, and the ratio to the median comparison with ratio_low
        and ratio_high.
    """

    ratio: float
    low: float
    high: float
    verdict: str
    pairs: pd.DataFrame


def invariance_verdict(low, high):
    """The one rule for every claim of invariance, from the interval of the ratio.

    "reproduced" when the upper end is below 0.25, "not reproduced" when the lower end is above 0.5,
    "reproduced with limits" between; "inconclusive" when both are NaN, since there is no ratio.

    Raises
    ------
    ValueError
        One end that is NaN, or low above high.
    """
    if np.isnan(low) and np.isnan(high):
        return "inconclusive"
    if not low <= high:
        raise ValueError(f"interval is [{low}, {high}]; needed: two numbers in order")
    if high < 0.25:
        return "reproduced"
    return "not reproduced" if low > 0.5 else "reproduced with limits"


def invariance(curves, changes, comparisons, *, n_bootstrap=1000, confidence=0.95, seed=0):
    """Is a curve the same under a change, measured by how much it differs where it should?

    The distances of `profile_distances` under the changes are divided by the median distance over
    the comparison pairs; the interval is a bootstrap over images.

    Parameters
    ----------
    curves : dict of str to curve
        By name: Omega as `decay` takes it, a DataArray or an array (N, L), N >= 2. Two DataArrays
        are of the same images if their attribute "dataset" and their coordinate "image" agree (a
        tensor's images are its attribute "dataset" = "tensor"; give it another with
        ``omega.attrs["dataset"] = ...`` where tensors are of different images); arrays are of
        images of their own. Or, where images are not at hand, a pair (mean, standard error), both
        of shape (L,): its resamples are normal, independent over blocks.
    changes, comparisons : sequence of (str, str)
        Pairs of names: what should be the same, and what should differ.
    n_bootstrap : int
        Number of resamples.
    confidence : float
        Of the intervals, between 0 and 1.
    seed : int
        Of the resamples and of the split halves.

    Returns
    -------
    Invariance

    Raises
    ------
    ValueError
        As `decay`; no pairs; a name that is not among the curves.
    """
    if not len(changes) or not len(comparisons):
        raise ValueError("changes and comparisons need at least one pair of names each")
    kinds = np.repeat(["change", "comparison"], [len(changes), len(comparisons)])
    pairs, draws, flat = _distances(curves, [*changes, *comparisons], n_bootstrap, confidence, seed)
    pairs.insert(2, "kind", kinds)
    tail = 50 * (1 - confidence)
    median = pairs.groupby("kind")["distance"].median()
    typical = np.median(draws[kinds == "comparison"], axis=0)
    # Where it is 0 a ratio has no bound, and so has the interval if its tail has not room for them.
    # And two curves that do not change with depth, as where nothing is counted, say nothing.
    nothing = median["comparison"] == 0 or np.percentile(typical, tail, method="lower") == 0
    if nothing or any({a, b} <= flat for a, b in changes):
        typical = np.full_like(typical, np.nan)
    ratios = np.divide(draws, typical, out=np.full_like(draws, np.inf), where=typical != 0)
    of_change = np.median(ratios[kinds == "change"], axis=0)
    low, high = np.percentile(of_change, [tail, 100 - tail])
    defined = np.nan if np.isnan(high) else median["comparison"]
    pairs["ratio"] = pairs["distance"] / defined
    pairs["ratio_low"], pairs["ratio_high"] = np.percentile(ratios, [tail, 100 - tail], axis=1)
    ratio = float(median["change"] / defined)
    return Invariance(ratio, float(low), float(high), invariance_verdict(low, high), pairs)


def _distances(curves, pairs, n_bootstrap, confidence, seed):
    """The table of `profile_distances`, resampled distances (pairs, B), names of flat curves."""
    _check_bootstrap(n_bootstrap, confidence)
    if not len(pairs):
        raise ValueError("there are no pairs; needed: at least one pair of names")
    used = {name for pair in pairs for name in pair}
    if used - curves.keys():
        unknown = ", ".join(sorted(used - curves.keys()))
        raise ValueError(f"no curve {unknown}; curves: {', '.join(curves)}")

    whole, resampled, halves = {}, {}, {}
    for name in sorted(used):
        curve = curves[name]
        if isinstance(curve, tuple):
            mean, error = (_as_floats(part, "curve", "needed: (mean, error)") for part in curve)
            rng = np.random.default_rng([seed, *name.encode()])
            draws = mean + error * rng.normal(size=(n_bootstrap, len(mean)))
            resampled[name] = _shapes(np.maximum(draws, 0))
            # A half has twice the variance of the whole.
            draws = mean + np.sqrt(2) * error * rng.normal(size=(2, n_bootstrap, len(mean)))
            halves[name] = _shapes(np.maximum(draws, 0))
            whole[name] = _shapes(mean)
            continue
        omega = _image_by_block(curve)
        if len(omega) < 2:
            raise ValueError(f"curve {name} has 1 image; an interval over images needs at least 2")
        sample = name
        if isinstance(curve, xr.DataArray):
            sample = f"{curve.attrs.get('dataset', name)} {curve.get_index('image').tolist()}"
        rng = np.random.default_rng([seed, *sample.encode()])  # the same for the same images
        draws = rng.integers(len(omega), size=(n_bootstrap, len(omega)))
        resampled[name] = _shapes(_means(omega, draws))
        order = rng.permuted(np.tile(np.arange(len(omega)), (n_bootstrap, 1)), axis=1)
        middle = len(omega) // 2
        parts = order[:, :middle], order[:, middle : 2 * middle]
        halves[name] = np.stack([_shapes(_means(omega, part)) for part in parts])
        whole[name] = _shapes(omega.mean(axis=0))

    tail = 50 * (1 - confidence)
    rows, draws = [], []
    for a, b in pairs:
        # The difference of halves has four times the variance of the difference of wholes.
        split = (halves[a] - halves[b])[0] - (halves[a] - halves[b])[1]
        floor = np.mean(split**2) / 4
        squared = np.mean((whole[a] - whole[b]) ** 2) - floor
        again = np.mean((resampled[a] - resampled[b]) ** 2, axis=1) - 2 * floor
        again = _distance(again, floor)
        low, high = np.percentile(again, [tail, 100 - tail])
        rows.append((a, b, _distance(squared, floor), low, high, np.sqrt(floor)))
        draws.append(again)
    table = pd.DataFrame(rows, columns=["a", "b", "distance", "low", "high", "floor"])
    flat = {name for name, curve in whole.items() if np.abs(curve).max() <= _NOISE}
    return table, np.array(draws), flat


def theta_score(omega, *, penalty=1e-3, positions=None):
    """The transferability score theta of a network; the lower, the better, its authors say.

    With y = Omega / ||Omega||_2 over the blocks and x = 1, ..., L, a cubic polynomial is fitted by
    ridge regression, the intercept unpenalised:

        minimise  sum (y - c0 - c1 x - c2 x^2 - c3 x^3)^2 + penalty (c1^2 + c2^2 + c3^2),
        theta = c1 + c2 / 2 + c3 / 2

    Parameters
    ----------
    omega : xarray.DataArray, dims (image and) block, or array-like, shape (N, L) or (L,)
        Omega by block for one threshold; averaged over images first. L >= 5: a cubic has four
        coefficients.
    penalty : float
        Of the ridge regression, at least 0; the authors use 1e-3.
    positions : array-like, shape (L,), optional
        Other values for x, to see what theta owes to this choice of the depth axis.

    Returns
    -------
    float
        No unit; it changes with the scale of the depth axis.

    Raises
    ------
    ValueError
        Fewer than five blocks, NaN, infinite or negative values, a curve that is 0 everywhere, a
        negative penalty, positions that are not L different numbers.

    References
    ----------
    Suresh et al., arXiv 2311.04592, the score for transfer learning; the coefficients and the
    penalty as in the code that the authors published.
    """
    from sklearn.linear_model import Ridge

    curve = _image_by_block(omega, one_image=True).mean(axis=0)
    if len(curve) < 5:
        raise ValueError(f"omega has {len(curve)} blocks; theta fits a cubic, so at least 5")
    if not curve.any():
        raise ValueError("omega is 0 at every block; a curve without any cell has no theta")
    x = np.arange(1.0, len(curve) + 1)
    if positions is not None:
        x = _as_floats(positions, "positions", "needed: (L,)")
    if x.shape != curve.shape or not np.isfinite(x).all() or len(np.unique(x)) < len(x):
        raise ValueError(f"positions are {positions!r}; needed: {len(curve)} different numbers")
    if not 0 <= penalty < np.inf:
        raise ValueError(f"penalty is {penalty!r}; accepted: a finite number from 0")
    if np.ptp(curve) <= _NOISE * curve.max():
        return 0.0  # and not what rounding makes of it, by which networks would be ranked
    fit = Ridge(alpha=penalty, solver="svd").fit(
        np.stack([x, x**2, x**3], axis=1), curve / np.linalg.norm(curve)
    )
    return float(fit.coef_ @ [1.0, 0.5, 0.5])


def bootstrap_mean(values, *, n_bootstrap=2000, confidence=0.95, seed=0):
    """Mean of a few numbers, with a percentile bootstrap interval.

    Two methods measured on the same seeds or splits are compared by their differences: resampling
    these keeps the pairs together.

    Parameters
    ----------
    values : array-like, shape (N,)
        One number a seed, split or image; N >= 2. With few of them the interval is too narrow, and
        it is never wider than the numbers themselves.
    n_bootstrap : int
        Number of resamples.
    confidence : float
        Of the interval, between 0 and 1.
    seed : int
        Of the resamples.

    Returns
    -------
    mean, low, high : float

    Raises
    ------
    ValueError
        Fewer than two values, or one that is not finite.
    """
    _check_bootstrap(n_bootstrap, confidence)
    values = _as_floats(values, "values", "needed: (N,)")
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values are {values.tolist()}; needed: at least 2 finite numbers")
    draws = np.random.default_rng(seed).integers(len(values), size=(n_bootstrap, len(values)))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(values[draws].mean(axis=1), [tail, 100 - tail])
    return float(values.mean()), float(low), float(high)


def _means(omega, draws):
    """Mean Omega (B, L) over the images that each of B draws names, shape (B, n)."""
    weights = np.zeros((len(draws), len(omega)))
    np.add.at(weights, (np.arange(len(draws))[:, None], draws), 1 / draws.shape[1])
    return weights @ omega  # omega[draws] would take memory for every drawn image


def _shapes(means):
    """Mean curves (..., L) as log(1 + mean), on common points of depth, minus their own means."""
    means = np.asarray(means, dtype=np.float64)
    depth, points = relative_depth(means.shape[-1]), np.linspace(0, 1, _POINTS)
    logs = np.log1p(means).reshape(-1, len(depth))
    curves = np.stack([np.interp(points, depth, curve) for curve in logs])
    curves -= curves.mean(axis=1, keepdims=True)
    return curves.reshape(*means.shape[:-1], _POINTS)


def _distance(squared, floor=0.0):
    """The root of a mean square from which its floor was subtracted; 0 within rounding of 0."""
    return np.sqrt(np.where(squared > _NOISE * (floor + _NOISE), squared, 0))


def _check_bootstrap(n_bootstrap, confidence):
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; accepted: between 0 and 1")
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap is {n_bootstrap!r}; accepted: a whole number from 1")


def _as_floats(values, name, needed):
    return as_array(values, name, needed).astype(np.float64)


def _image_by_block(omega, one_image=False):
    """Omega as a float array (images, blocks), checked; with `one_image`, also of (blocks,)."""
    if isinstance(omega, xr.DataArray):
        if one_image and omega.dims == ("block",):
            omega = omega.expand_dims("image")
        if set(omega.dims) != {"image", "block"}:
            raise ValueError(
                f"omega has dimensions {omega.dims}; needed: image and block (choose one threshold "
                "with .sel, and sum over degrees with topological_complexity)"
            )
        omega = omega.transpose("image", "block").values
    omega = _as_floats(omega, "omega", "needed: (images, blocks)")
    if one_image and omega.ndim == 1:
        omega = omega[None]
    if omega.ndim != 2:
        raise ValueError(f"omega has shape {omega.shape}; needed: (images, blocks)")
    if not np.isfinite(omega).all() or (omega < 0).any():
        raise ValueError("omega contains NaN, infinite or negative values; counts are accepted")
    return omega
