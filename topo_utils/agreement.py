"""How well two orders of the same things agree: correlations, most of them of ranks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from topo_utils.cubical import as_array
from topo_utils.intervals import Estimate, check_bootstrap, resamples


def correlation(x, y, *given, ranks=True):
    """Spearman's correlation of x and y (..., N) along the last axis; of numbers without ranks.

    With columns that are given, it is what is left when these are accounted for on both sides, by
    least squares. An array (...) of numbers from -1 to 1, to 12 digits; 0 where a column does not
    vary, or follows from those that are given.
    """
    columns = np.stack(np.broadcast_arrays(x, y, *given), axis=-2).astype(float)
    if ranks:
        columns = stats.rankdata(columns, axis=-1)
    # Some numbers are so small that their squares would vanish.
    largest = np.abs(columns).max(axis=-1, keepdims=True)
    columns = np.divide(columns, largest, out=np.zeros_like(columns), where=largest > 0)
    columns = _unit(columns - columns.mean(axis=-1, keepdims=True), 1e-13)
    if given:
        others = columns[..., 2:, :]
        columns = columns[..., :2, :]
        columns = _unit(columns - columns @ np.linalg.pinv(others, rcond=1e-6) @ others, 1e-6)
    # Rounded, so that a half is not less than a half; and 0 has no sign.
    return np.round((columns[..., 0, :] * columns[..., 1, :]).sum(axis=-1), 12) + 0.0


def _unit(columns, noise):
    """Columns (..., N) divided by their norms; 0 where that is within noise of 0."""
    norms = np.linalg.norm(columns, axis=-1, keepdims=True)
    return np.divide(columns, norms, out=np.zeros_like(columns), where=norms > noise)


def rank_agreement(scores, accuracies, *, n_bootstrap=2000, confidence=0.95, seed=0):
    """How well a score agrees with the accuracies that the models reached.

    Pearson's correlation, Kendall's tau-b, Spearman's, and the weighted Kendall correlation
    (`scipy.stats.weightedtau`: exchanges among the best models weigh most; Vigna, A weighted
    correlation index for rankings with ties, WWW 2015). A resample of the models holds some more
    than once, and with few models the intervals are rough.

    Parameters
    ----------
    scores : array-like, shape (M,)
        Of M >= 3 models, oriented so that higher means better: the weighted Kendall correlation of
        -s is not minus that of s, so negate a score of which less is better, not its correlation.
    accuracies : array-like, shape (M,)
        Of the same models in the same order; two Series must have the same index.
    n_bootstrap, confidence, seed
        As for `bootstrap`. Resamples in which all scores or all accuracies are equal are left out;
        ``attrs["left_out"]`` of the result tells how many.

    Returns
    -------
    pandas.DataFrame
        Rows pearson, kendall, spearman, weighted_kendall; columns value, low, high; from -1 to 1.
        A row is an estimate: ``Estimate(*table.loc["kendall"])``.

    Raises
    ------
    ValueError
        As `bootstrap`; different shapes or models, fewer than three, NaN or infinite values, scores
        or accuracies that are all equal.
    """
    check_bootstrap(n_bootstrap, confidence)
    both = isinstance(scores, pd.Series) and isinstance(accuracies, pd.Series)
    if both and not scores.index.equals(accuracies.index):
        raise ValueError("scores and accuracies are of different models or in another order")
    s, a = (
        _without_rounding(as_array(values, name, "needed: (M,), one number for each model"))
        for values, name in ((scores, "scores"), (accuracies, "accuracies"))
    )
    if s.ndim != 1 or s.shape != a.shape:
        raise ValueError(
            f"scores have shape {s.shape}, accuracies {a.shape}; needed: (M,), one for each model"
        )
    if len(s) < 3:
        raise ValueError(f"{len(s)} models; a correlation needs at least 3")
    for name, values in (("scores", s), ("accuracies", a)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} have NaN or infinite values; needed: finite ones")
        if not np.ptp(values):
            raise ValueError(f"{name} are all equal: there is nothing to rank")

    draws = resamples(len(s), n_bootstrap, seed)
    draws = draws[(np.ptp(s[draws], axis=1) > 0) & (np.ptp(a[draws], axis=1) > 0)]
    if not len(draws):
        raise ValueError(f"no resample of {n_bootstrap} has a correlation; take more of them")
    # In parts, since each resample needs a square of the number of models.
    parts = [_correlations(s[part], a[part]) for part in np.array_split(draws, 20)]
    whole = _correlations(s[None], a[None])[0]
    table = pd.DataFrame(
        vars(Estimate.from_draws(whole, np.concatenate(parts), confidence)),
        index=["pearson", "kendall", "spearman", "weighted_kendall"],
    )
    table.attrs["left_out"] = n_bootstrap - len(draws)
    return table


def _without_rounding(values):
    """The numbers to 12 digits, so that sums in another order are equal, and equal in rank."""
    digits, exponents = np.frexp(values.astype(float))
    return np.ldexp(np.round(digits, 12), exponents)


def _correlations(s, a):
    """The four correlations of each row of two arrays (B, M); shape (B, 4)."""

    def signs(x):
        return np.sign(x[:, :, None] - x[:, None, :]).reshape(len(x), x.shape[1] ** 2)

    return np.stack(
        [
            correlation(s, a, ranks=False),
            # Tau-b is Pearson's correlation of the orders of all pairs, each pair both ways.
            correlation(signs(s), signs(a), ranks=False),
            correlation(s, a),
            [stats.weightedtau(*row).statistic for row in zip(s, a, strict=True)],
        ],
        axis=1,
    )
