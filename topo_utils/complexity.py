"""Topological complexity, and how it changes with depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from topo_utils.cubical import as_array
from topo_utils.intervals import Estimate, bootstrap

#: What rounding leaves of a difference of logarithms that is 0. (One count more, in the mean of
#: thousands of images with a million each, is a thousand times as much.)
NOISE = 1e-12


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
    """Depth of each block (n_blocks,): first 0, last 1; ValueError with fewer than two."""
    if n_blocks < 2:
        raise ValueError(f"{n_blocks} block has no relative depth; at least two are needed")
    return np.linspace(0.0, 1.0, n_blocks)


@dataclass(frozen=True, kw_only=True)
class Decay(Estimate):
    """How a complexity curve falls; `decay` makes it.

    Attributes
    ----------
    value, slope : float
        Slope of log(1 + mean Omega) on relative depth: exp(slope) is the factor from first to last
        block along the fitted line; negative when complexity falls.
    low, high : float
        Its interval, by a bootstrap over images.
    minimum_depth : float
        Relative depth, 0 to 1, of the lowest point of the mean curve (the first of them).
    minimum, first, last : float
        Mean Omega there, at the first and at the last block, in counts.
    """

    minimum_depth: float
    minimum: float
    first: float
    last: float

    @property
    def slope(self):
        return self.value

    @property
    def falls(self):
        """Whether the interval lies below 0, by more than rounding."""
        return self.high < -NOISE

    @property
    def rises(self):
        """Whether the interval lies above 0, by more than rounding."""
        return self.low > NOISE

    @property
    def is_flat(self):
        """Whether no resample has a slope, as where nothing is counted."""
        return max(map(abs, self)) <= NOISE


def decay(omega, *, relative_to=None, n_bootstrap=2000, confidence=0.95, seed=0):
    """Rate of decay of topological complexity along the depth of a network.

    The slope of log(1 + mean Omega over images) on relative depth, by least squares, with a
    bootstrap over images; beside it the minimum, since many curves are not monotone. A slope within
    rounding of 0 is 0.

    Parameters
    ----------
    omega : xarray.DataArray, dims image and block, or array-like, shape (N, L)
        Omega of N >= 2 images at L >= 2 blocks, for one threshold.
    relative_to : like `omega`, optional
        Omega of the same images in a network to compare with (its untrained twin, say). The slope
        is then that of log(1 + mean Omega) minus its counterpart's, and both share the resamples,
        so that the interval is that of the paired difference of two decays.
    n_bootstrap, confidence, seed
        As for `bootstrap`.

    Returns
    -------
    Decay

    Raises
    ------
    ValueError
        As `bootstrap`; another shape, fewer than two images or blocks, values that are no counts,
        or different images in `relative_to`.
    """
    labelled = isinstance(omega, xr.DataArray) and isinstance(relative_to, xr.DataArray)
    if labelled and not omega["image"].equals(relative_to["image"]):
        raise ValueError("omega and relative_to are of different images")
    omega = image_by_block(omega)
    reference = np.zeros_like(omega) if relative_to is None else image_by_block(relative_to)
    if reference.shape != omega.shape:
        raise ValueError(f"omega has shape {omega.shape}, relative_to {reference.shape}")
    n_images, n_blocks = omega.shape
    depth = relative_depth(n_blocks)
    if n_images < 2:
        raise ValueError(f"an interval over images needs at least 2 of them, not {n_images}")
    centred = depth - depth.mean()
    weights = centred / (centred @ centred)  # the slope of y is y @ weights

    def slopes(images):
        logs = np.log1p(means_of(omega, images)) - np.log1p(means_of(reference, images))
        found = logs @ weights
        return np.where(np.abs(found) > NOISE, found, 0.0)

    settings = {"n_bootstrap": n_bootstrap, "confidence": confidence, "seed": seed}
    found = bootstrap(slopes, n_images, vectorised=True, **settings)
    mean = omega.mean(axis=0)
    lowest = int(mean.argmin())
    return Decay(
        *found,
        minimum_depth=float(depth[lowest]),
        minimum=float(mean[lowest]),
        first=float(mean[0]),
        last=float(mean[-1]),
    )


def theta_score(omega, *, penalty=1e-3, positions=None):
    """The transferability score theta of a network; the lower, the better, its authors say.

    With y = Omega / ||Omega||_2 over the blocks and x = 1, ..., L, a cubic polynomial is fitted by
    ridge regression, the intercept unpenalised (Suresh et al., arXiv 2311.04592; coefficients and
    penalty as in the code that the authors published):

        minimise  sum (y - c0 - c1 x - c2 x^2 - c3 x^3)^2 + penalty (c1^2 + c2^2 + c3^2),
        theta = c1 + c2 / 2 + c3 / 2

    Parameters
    ----------
    omega : xarray.DataArray, dims (image and) block, or array-like, shape (N, L) or (L,)
        Omega by block for one threshold, averaged over images first; L >= 5, since a cubic has
        four coefficients.
    penalty : float
        At least 0; the authors use 1e-3.
    positions : array-like, shape (L,), optional
        Other values for x, all different, to see what theta owes to this choice of the depth axis.

    Returns
    -------
    float
        No unit; it changes with the scale of the depth axis.

    Raises
    ------
    ValueError
        Values that are no counts, a curve that is 0 everywhere, or any of these out of range.
    """
    from sklearn.linear_model import Ridge

    curve = image_by_block(omega, one_image=True).mean(axis=0)
    if len(curve) < 5:
        raise ValueError(f"omega has {len(curve)} blocks; theta fits a cubic, so at least 5")
    if not curve.any():
        raise ValueError("omega is 0 at every block; a curve without any cell has no theta")
    x = np.arange(1.0, len(curve) + 1)
    if positions is not None:
        x = as_array(positions, "positions", "needed: (L,)").astype(float)
    if x.shape != curve.shape or not np.isfinite(x).all() or len(np.unique(x)) < len(x):
        raise ValueError(f"positions are {positions!r}; needed: {len(curve)} different numbers")
    if not 0 <= penalty < np.inf:
        raise ValueError(f"penalty is {penalty!r}; accepted: a finite number from 0")
    if np.ptp(curve) <= NOISE * curve.max():
        return 0.0  # and not what rounding makes of it, by which networks would be ranked
    fit = Ridge(alpha=penalty, solver="svd").fit(
        np.stack([x, x**2, x**3], axis=1), curve / np.linalg.norm(curve)
    )
    return float(fit.coef_ @ [1.0, 0.5, 0.5])


def means_of(omega, draws):
    """Mean Omega over the images that each of B draws (B, n) names, (B, L) from (N, L)."""
    weights = np.zeros((len(draws), len(omega)))
    np.add.at(weights, (np.arange(len(draws))[:, None], draws), 1 / draws.shape[1])
    return weights @ omega  # omega[draws] would take memory for every image drawn


def image_by_block(omega, one_image=False):
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
    omega = as_array(omega, "omega", "needed: (images, blocks)").astype(float)
    if one_image and omega.ndim == 1:
        omega = omega[None]
    if omega.ndim != 2:
        raise ValueError(f"omega has shape {omega.shape}; needed: (images, blocks)")
    if not np.isfinite(omega).all() or (omega < 0).any():
        raise ValueError("omega contains NaN, infinite or negative values; counts are accepted")
    return omega
