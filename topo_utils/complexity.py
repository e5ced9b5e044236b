"""Topological complexity, and how it changes with depth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

__all__ = [
    "Decay",
    "decay",
    "depth_decay_verdict",
    "relative_depth",
    "topological_complexity",
]


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
    values = np.asarray(profile)
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

    Raises
    ------
    ValueError
        Another shape, fewer than two images or blocks, values that are no counts, other images in
        `relative_to`, or a confidence or number of resamples out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; accepted: between 0 and 1")
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap is {n_bootstrap!r}; accepted: a whole number from 1")
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
        return (np.log1p(mean) - np.log1p(reference_mean)) @ weights

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
    when no untrained twin falls as well and every curve ends within 5 % of its minimum, otherwise
    "reproduced with limits".

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
    rising = [name for name, found in pretrained.items() if found.low > 0]
    unclear = [name for name, found in pretrained.items() if not (found.low > 0 or found.high < 0)]
    if rising:
        return "not reproduced", f"complexity rises with depth in {', '.join(rising)}."
    if unclear:
        return "inconclusive", f"the interval of the decay contains 0 in {', '.join(unclear)}."
    also = [name for name, found in untrained.items() if found.high < 0]
    above = [name for name, found in pretrained.items() if found.last > 1.05 * found.minimum]
    reason = f"complexity falls with depth in {len(pretrained)} of {len(pretrained)} networks"
    limits = []
    if also:
        limits.append(f"it also falls in {len(also)} of {len(untrained)} without any training")
    if above:
        limits.append(f"{', '.join(above)} end above their minimum")
    if not limits:
        return "reproduced", f"{reason}, in none without training, and each ends at its minimum."
    return "reproduced with limits", f"{reason}, but {', and '.join(limits)}."


def _image_by_block(omega):
    """Omega as a float array (images, blocks), checked."""
    if isinstance(omega, xr.DataArray):
        if set(omega.dims) != {"image", "block"}:
            raise ValueError(
                f"omega has dimensions {omega.dims}; needed: image and block (choose one threshold "
                "with .sel, and sum over degrees with topological_complexity)"
            )
        omega = omega.transpose("image", "block").values
    omega = np.asarray(omega, dtype=np.float64)
    if omega.ndim != 2:
        raise ValueError(f"omega has shape {omega.shape}; needed: (images, blocks)")
    if not np.isfinite(omega).all() or (omega < 0).any():
        raise ValueError("omega contains NaN, infinite or negative values; counts are accepted")
    return omega
