"""How far apart two complexity curves are, and what may be called invariant."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from topo_utils.complexity import NOISE, image_by_block, means_of, relative_depth
from topo_utils.cubical import as_array
from topo_utils.intervals import Estimate, check_bootstrap, resamples

_POINTS = 32  # of relative depth, at which curves of networks of any number of blocks meet

#: Why a verdict of `invariance` is inconclusive.
NOTHING_TO_COMPARE = (
    "What should differ does not, beyond its noise, or what should agree does not change with "
    "depth at all: there is nothing to compare."
)


def profile_distance(omega_a, omega_b):
    """How much two complexity curves differ in shape; a number from 0, without unit.

    The root mean square, over 32 points of relative depth, of the difference of the two mean curves
    log(1 + mean Omega), each minus its own mean over depth: a factor that all blocks share makes no
    difference. A distance of 0.1 is a ratio of the curves that varies by about 10 % along depth.
    Curves are as for `decay`, but one image is enough, and the numbers of images and of blocks may
    differ.
    """
    a, b = (_shapes(image_by_block(omega).mean(axis=0)) for omega in (omega_a, omega_b))
    return float(_distance(np.mean((a - b) ** 2)))


def profile_distances(curves, pairs, *, n_bootstrap=1000, confidence=0.95, seed=0):
    """Distances between pairs of curves, with bootstrap intervals over images.

    `profile_distance` of two noisy means is too large, and of resampled ones again; both are
    corrected by the split-half floor, the distance that halves of the same images have from one
    another, brought to the size of the whole. Curves of the same images share the resamples, so
    that they are compared image by image. Parameters and errors are those of `invariance`.

    Returns
    -------
    pandas.DataFrame
        One row for each pair: a, b, distance (the floor subtracted) with low and high, and floor.
    """
    return _distances(curves, pairs, n_bootstrap, confidence, seed)[0]


@dataclass(frozen=True, kw_only=True)
class Invariance(Estimate):
    """What `invariance` finds; its verdict is that of `invariance_verdict`.

    Attributes
    ----------
    value, ratio, low, high : float
        Median distance under the change that should not matter, divided by the median distance of
        what should differ; and its bootstrap interval. All ratios are NaN where what should differ
        does not, beyond its noise, so that there is nothing to divide by, or where neither curve of
        a change itself changes with depth, as where nothing is counted.
    pairs : pandas.DataFrame
        The table of `profile_distances` with a column kind ("change" or "comparison"), and the
        ratio of each pair to the median comparison with ratio_low and ratio_high.
    ratios : dict of (str, str) to Estimate
        That ratio, by the names of a pair.
    """

    pairs: pd.DataFrame = field(compare=False, repr=False)

    @property
    def ratio(self):
        return self.value

    @property
    def ratios(self):
        """The ratio of each pair as an `Estimate`, by (a, b)."""
        columns = self.pairs[["a", "b", "ratio", "ratio_low", "ratio_high"]]
        return {(a, b): Estimate(*ratio) for a, b, *ratio in columns.itertuples(index=False)}

    @property
    def verdict(self):
        return invariance_verdict(self.low, self.high)


def invariance_verdict(low, high):
    """The one rule for every claim of invariance, from the interval of the ratio.

    "reproduced" when the upper end is below 0.25, "not reproduced" when the lower end is above 0.5,
    "reproduced with limits" between; "inconclusive" when both are NaN, since there is no ratio.
    Refused (ValueError) are an interval with one end that is NaN, and one with low above high.
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
    n_bootstrap, confidence, seed
        As for `bootstrap`; the seed is also that of the split halves.

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
    pairs, draws, flat = _distances(curves, [*changes, *comparisons], n_bootstrap, confidence, seed)
    kinds = np.repeat(["change", "comparison"], [len(changes), len(comparisons)])
    pairs.insert(2, "kind", kinds)
    median = pairs.groupby("kind")["distance"].median()
    typical = np.median(draws[:, kinds == "comparison"], axis=1)
    # Where it is 0 a ratio has no bound, nor has the interval if its tail has no room for them.
    # And two curves that do not change with depth, as where nothing is counted, say nothing.
    tail = 50 * (1 - confidence)
    nothing = median["comparison"] == 0 or np.percentile(typical, tail, method="lower") == 0
    if nothing or any({a, b} <= flat for a, b in changes):
        typical = np.full_like(typical, np.nan)
    by = typical[:, None]
    ratios = np.divide(draws, by, out=np.full_like(draws, np.inf), where=by != 0)
    of_change = np.median(ratios[:, kinds == "change"], axis=1)
    _, low, high = Estimate.from_draws(np.nan, of_change, confidence)
    unit = np.nan if np.isnan(high) else median["comparison"]
    each = Estimate.from_draws(pairs["distance"] / unit, ratios, confidence)
    pairs["ratio"], pairs["ratio_low"], pairs["ratio_high"] = each
    return Invariance(float(median["change"] / unit), low, high, pairs=pairs)


def _distances(curves, pairs, n_bootstrap, confidence, seed):
    """The table of `profile_distances`, resampled distances (B, pairs), names of flat curves."""
    check_bootstrap(n_bootstrap, confidence)
    if not len(pairs):
        raise ValueError("there are no pairs; needed: at least one pair of names")
    used = {name for pair in pairs for name in pair}
    if used - curves.keys():
        unknown = ", ".join(sorted(used - curves.keys()))
        raise ValueError(f"no curve {unknown}; curves: {', '.join(curves)}")
    found = {name: _resampled(name, curves[name], n_bootstrap, seed) for name in sorted(used)}
    rows, draws = [], []
    for a, b in pairs:
        whole, again, halves = (x - y for x, y in zip(found[a], found[b], strict=True))
        # The difference of halves has four times the variance of the difference of wholes.
        floor = np.mean((halves[0] - halves[1]) ** 2) / 4
        draws.append(_distance(np.mean(again**2, axis=1) - 2 * floor, floor))
        distance = _distance(np.mean(whole**2) - floor, floor)
        estimate = Estimate.from_draws(distance, draws[-1], confidence)
        rows.append((a, b, *estimate, np.sqrt(floor)))
    table = pd.DataFrame(rows, columns=["a", "b", "distance", "low", "high", "floor"])
    flat = {name for name, (curve, *_) in found.items() if np.abs(curve).max() <= NOISE}
    return table, np.stack(draws, axis=1), flat


def _resampled(name, curve, n_bootstrap, seed):
    """Shapes of a curve (32,), of its resamples (B, 32), and of B pairs of halves (2, B, 32)."""
    if isinstance(curve, tuple):
        mean, error = (as_array(x, "curve", "needed: (mean, error)").astype(float) for x in curve)
        rng = np.random.default_rng([seed, *name.encode()])
        again = mean + error * rng.normal(size=(n_bootstrap, len(mean)))
        # A half has twice the variance of the whole.
        halves = mean + np.sqrt(2) * error * rng.normal(size=(2, n_bootstrap, len(mean)))
        return tuple(_shapes(np.maximum(means, 0)) for means in (mean, again, halves))
    omega = image_by_block(curve)
    n_images, sample = len(omega), name
    if n_images < 2:
        raise ValueError(
            f"curve {name} has {n_images} image; an interval over images needs at least 2"
        )
    if isinstance(curve, xr.DataArray):
        sample = f"{curve.attrs.get('dataset', name)} {curve.get_index('image').tolist()}"
    rng = np.random.default_rng([seed, *sample.encode()])  # the same for the same images
    again = means_of(omega, resamples(n_images, n_bootstrap, rng))
    order = rng.permuted(np.tile(np.arange(n_images), (n_bootstrap, 1)), axis=1)
    middle = n_images // 2
    halves = [means_of(omega, half) for half in (order[:, :middle], order[:, middle : 2 * middle])]
    return tuple(map(_shapes, (omega.mean(axis=0), again, halves)))


def _shapes(means):
    """Mean curves (..., L) as log(1 + mean), on common points of depth, minus their own means."""
    means = np.asarray(means, dtype=float)
    depth, points = relative_depth(means.shape[-1]), np.linspace(0, 1, _POINTS)
    # What each block has in each point: interpolation is linear.
    weights = np.stack([np.interp(points, depth, block) for block in np.eye(len(depth))])
    curves = np.log1p(means) @ weights
    return curves - curves.mean(axis=-1, keepdims=True)


def _distance(squared, floor=0.0):
    """The root of a mean square from which its floor was subtracted; 0 within rounding of 0."""
    return np.sqrt(np.where(squared > NOISE * (floor + NOISE), squared, 0))
