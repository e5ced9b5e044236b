"""Numbers with an interval, and the bootstrap that gives it one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; unpacked, it is ``value, low, high``.

    As text it is "0.12 [0.10, 0.15]", without an interval "0.12", and "–" where there is no such
    number (NaN). A format applies to all three: ``f"{estimate:+.3f}"``.

    Attributes
    ----------
    value, low, high : float, or arrays of one shape
        The number and the ends of its interval, which are None where there is none.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __iter__(self):
        return iter((self.value, self.low, self.high))

    def __format__(self, spec):
        value, low, high = ("" if x is None else format(x, spec or ".2f") for x in self)
        if np.isnan(self.value):
            return "–"
        return f"{value} [{low}, {high}]" if low else value

    def __str__(self):
        return format(self)

    def map(self, function):
        """The estimate of an increasing function of the number."""
        return Estimate(*(x if x is None else function(x) for x in self))

    @classmethod
    def from_draws(cls, value, draws, confidence=0.95):
        """A number, or an array (...), with the percentile interval of its resamples (B, ...).

        Resamples where it is NaN are left out; without any others the interval is NaN, too.
        """
        draws = np.asarray(draws, dtype=float)
        draws = draws[~np.isnan(draws).reshape(len(draws), -1).any(axis=1)]
        tail = 50 * (1 - confidence)
        ends = np.percentile(draws, [tail, 100 - tail], axis=0) if len(draws) else (np.nan,) * 2
        return cls(*(x if np.ndim(x) else float(x) for x in (value, *ends)))


def resamples(n, n_bootstrap, seed):
    """Indices (B, n) of B = `n_bootstrap` draws of n things out of n, with replacement."""
    return np.random.default_rng(seed).integers(n, size=(n_bootstrap, n))


def bootstrap(statistic, n, *, n_bootstrap=2000, confidence=0.95, seed=0, vectorised=False):
    """A statistic of n things, with its percentile interval over resamples of them.

    Parameters
    ----------
    statistic : callable
        Gives a number, or an array, for indices (n,) of the things that count; NaN leaves a
        resample out.
    n, n_bootstrap : int
        Number of things (images, networks, seeds), and of resamples.
    confidence : float
        Of the interval, between 0 and 1.
    seed : int or numpy.random.Generator
        Of the resamples; a generator goes on where it is.
    vectorised : bool
        Whether the statistic takes indices (B, n) and gives B numbers or arrays at once.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        A confidence or number of resamples out of range.
    """
    check_bootstrap(n_bootstrap, confidence)
    draws = resamples(n, n_bootstrap, seed)
    if vectorised:
        return Estimate.from_draws(statistic(np.arange(n)[None])[0], statistic(draws), confidence)
    found = [statistic(draw) for draw in draws]
    return Estimate.from_draws(statistic(np.arange(n)), found, confidence)


def bootstrap_mean(values, **settings):
    """Mean of N >= 2 numbers, all finite, with its interval; settings and errors as of `bootstrap`.

    Two methods measured on the same seeds or splits are compared by their differences: resampling
    these keeps the pairs together. With few numbers the interval is too narrow, and it is never
    wider than the numbers themselves.
    """
    values = np.asarray(values.tolist() if hasattr(values, "tolist") else values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values are {values.tolist()}; needed: at least 2 finite numbers")
    return bootstrap(lambda at: values[at].mean(axis=-1), len(values), vectorised=True, **settings)


def check_bootstrap(n_bootstrap, confidence):
    """Refuse settings of a bootstrap that are out of range."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; accepted: between 0 and 1")
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap is {n_bootstrap!r}; accepted: a whole number from 1")
