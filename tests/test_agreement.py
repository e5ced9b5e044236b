"""Correlations against scipy's, and what is left of them given other columns."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from topo_utils import correlation, published_table, rank_agreement


@pytest.mark.parametrize("ranks", [True, False])
def test_a_correlation_is_scipys_and_a_partial_one_that_of_residuals(ranks):
    x, y, first, second = np.random.default_rng(5).normal(size=(4, 30)) ** 3
    x, y = x + 20 * first, y + 20 * first - 9 * second
    a, b, c, d = stats.rankdata([x, y, first, second], axis=1) if ranks else (x, y, first, second)
    expected = stats.pearsonr(a, b).statistic
    assert correlation(x, y, ranks=ranks) == pytest.approx(expected)
    for columns, given in (((c,), (first,)), ((c, d), (first, second))):
        design = np.column_stack([np.ones(30), *columns])
        residuals = (z - design @ np.linalg.lstsq(design, z)[0] for z in (a, b))
        expected = stats.pearsonr(*residuals).statistic
        assert correlation(x, y, *given, ranks=ranks) == pytest.approx(expected)


def test_correlations_of_many_rows_and_of_columns_that_tell_nothing():
    x, y, z = np.random.default_rng(6).normal(size=(3, 4, 30))
    for found, row in zip(correlation(x, y, z), zip(x, y, z, strict=True), strict=True):
        assert found == correlation(*row)
    shared = correlation(x[0], y, z[1])  # one column with each of four
    assert shared.tolist() == [correlation(x[0], row, z[1]) for row in y]
    constant = np.full(30, 0.1)
    for nothing in (
        correlation(x[0], constant),
        correlation(x[0], constant, ranks=False),
        correlation(x[0], y[0], x[0]),
        correlation(x[0], y[0], z[0], 3 * y[0] - 2),
        correlation(x[0], y[0], -x[0] - 7, ranks=False),
    ):
        assert nothing == 0
        assert np.copysign(1, nothing) == 1  # no -0.00 in any text
    assert correlation(x[0], y[0], constant) == correlation(x[0], y[0])
    assert correlation(1e-250 * x[0], 1e200 * x[0] + 3, ranks=False) == 1


def models(n_models=9, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n_models)
    return scores, scores + rng.normal(size=n_models)


@pytest.mark.parametrize("ties", [False, True])
def test_rank_agreement_is_scipys(ties):
    scores, accuracies = models()
    if ties:
        scores, accuracies = np.round(scores), np.round(2 * accuracies)
    table = rank_agreement(scores, accuracies, n_bootstrap=300, confidence=0.8, seed=4)
    functions = {
        "pearson": stats.pearsonr,
        "kendall": stats.kendalltau,
        "spearman": stats.spearmanr,
        "weighted_kendall": stats.weightedtau,
    }
    assert list(table.index) == list(functions)
    assert list(table.columns) == ["value", "low", "high"]
    draws = np.random.default_rng(4).integers(9, size=(300, 9))
    draws = [d for d in draws if len(set(scores[d])) > 1 and len(set(accuracies[d])) > 1]
    for name, function in functions.items():
        values = [function(scores[draw], accuracies[draw]).statistic for draw in draws]
        low, high = np.percentile(values, [10, 90])
        expected = [function(scores, accuracies).statistic, low, high]
        np.testing.assert_allclose(table.loc[name], expected, rtol=1e-9, atol=1e-12)
    assert table.attrs["left_out"] == 300 - len(draws)


def test_resamples_without_a_correlation_are_left_out():
    # Of three models, 3 of 27 resamples hold one only.
    table = rank_agreement([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], n_bootstrap=2700)
    assert 250 < table.attrs["left_out"] < 350
    assert np.isfinite(table.to_numpy()).all()
    assert (table["low"] <= table["high"]).all()


def test_rank_agreement_of_equal_orders_and_of_very_small_scores():
    scores, _ = models()
    table = rank_agreement(scores, np.exp(scores), n_bootstrap=200)
    np.testing.assert_allclose(table.loc[["kendall", "spearman", "weighted_kendall"]], 1)
    assert 0.7 < table["value"]["pearson"] < 1
    # A score may be all but 0 and still rank, as GBC does; Pearson's correlation has no scale.
    small = rank_agreement(1e-250 * scores, np.exp(scores), n_bootstrap=200)
    pd.testing.assert_frame_equal(small, table)
    tensors = torch.tensor(scores, requires_grad=True), list(torch.tensor(np.exp(scores)))
    pd.testing.assert_frame_equal(rank_agreement(*tensors, n_bootstrap=200), table)


def test_sums_in_another_order_are_ties():
    scores = [0.1 + 0.2, 0.3, 2.3 - 2, 0.5]
    accuracies = [(0.5 + 0.57 + 0.59) / 3, (0.59 + 0.57 + 0.5) / 3, 0.4, 0.8]
    assert len({*scores}) == len({*accuracies}) == 4
    table = rank_agreement(scores, accuracies, n_bootstrap=100)
    expected = stats.kendalltau([1, 1, 1, 2], [2, 2, 1, 3]).statistic
    assert table["value"]["kendall"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="scores are all equal"):
        rank_agreement(scores[:3], accuracies[:3])
    with pytest.raises(ValueError, match="accuracies are all equal"):
        rank_agreement(scores[1:], [1 / 3, 1 - 2 / 3, 0.1 + (1 / 3 - 0.1)])


def test_a_correlation_of_a_half_is_not_below_a_half():
    # 27 of 36 pairs in order, as the sum of many products would not quite have it.
    orders = [np.random.default_rng(seed).permutation(9) for seed in range(300)]
    halves = [
        order for order in orders if sum(np.sum(order[i:] > order[i]) for i in range(9)) == 27
    ]
    assert len(halves) > 3
    for order in halves:
        assert rank_agreement(np.arange(9), order, n_bootstrap=1)["value"]["kendall"] == 0.5


def test_rank_agreement_is_the_same_for_the_same_seed():
    scores, accuracies = models()
    first, again, other = (rank_agreement(scores, accuracies, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first["low"].equals(other["low"])
    assert first["value"].equals(other["value"])


def test_the_interval_holds_the_correlation_of_the_population_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covariance = [[1, 0.6], [0.6, 1]]
    held = 0
    for seed in range(50):
        scores, accuracies = rng.multivariate_normal([0, 0], covariance, 30).T
        table = rank_agreement(scores, accuracies, n_bootstrap=100, confidence=0.9, seed=seed)
        held += table["low"]["pearson"] < 0.6 < table["high"]["pearson"]
    assert 38 <= held <= 49


def test_weighted_kendall_is_not_antisymmetric_so_that_the_score_must_be_oriented():
    theta = np.array([0.2, 0.15, 0.1, 0.05, 0.0])  # the less, the better
    accuracy = np.array([70.0, 90.0, 80.0, 85.0, 95.0])
    oriented = stats.weightedtau(-theta, accuracy).statistic
    assert abs(oriented + stats.weightedtau(theta, accuracy).statistic) > 0.02
    assert rank_agreement(-theta, accuracy)["value"]["weighted_kendall"] == oriented
    # The others are: for them it would not have mattered.
    both = [rank_agreement(s, accuracy)["value"].drop("weighted_kendall") for s in (theta, -theta)]
    np.testing.assert_allclose(both[0], -both[1])


def published_agreement(dataset, score):
    rows = published_table("tllib_model_selection").query("dataset == @dataset")
    found = rank_agreement(rows[score], rows["finetuned_accuracy_percent"], n_bootstrap=10)
    rows = published_table("tllib_correlations").set_index(["dataset", "correlation"])
    return found["value"], rows[score][dataset]


@pytest.mark.parametrize("score", ["h_score", "leep", "logme", "nce"])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "caltech101", "cars", "sun397"])
def test_weighted_kendall_as_published(dataset, score):
    found, published = published_agreement(dataset, score)
    assert found["weighted_kendall"] == pytest.approx(published["weighted_kendall"], abs=0.03)


@pytest.mark.parametrize("dataset", ["aircraft", "pets"])
def test_where_the_published_correlations_do_not_follow_from_the_published_tables(dataset):
    pairs = [published_agreement(dataset, score) for score in ("h_score", "leep", "logme", "nce")]
    differences = [abs(f["weighted_kendall"] - p["weighted_kendall"]) for f, p in pairs]
    assert max(differences) > 0.1


@pytest.mark.parametrize(
    ("scores", "accuracies", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], "2 models; a correlation needs at least 3"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], r"shape \(3,\), accuracies \(2,\); needed: \(M,\)"),
        ([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]], r"shape \(1, 3\).*needed: \(M,\)"),
        ([1.0, np.nan, 3.0], [1.0, 2.0, 3.0], "scores have NaN or infinite values"),
        ([1.0, 2.0, 3.0], [1.0, np.inf, 3.0], "accuracies have NaN or infinite values"),
        ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], "scores are all equal"),
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], "accuracies are all equal"),
        (
            pd.Series([1.0, 2.0, 3.0], ["a", "b", "c"]),
            pd.Series([1.0, 2.0, 3.0], ["a", "c", "b"]),
            "different models or in another order",
        ),
    ],
)
def test_rankings_that_are_refused(scores, accuracies, message):
    with pytest.raises(ValueError, match=message):
        rank_agreement(scores, accuracies)


def test_settings_of_the_bootstrap_that_are_refused():
    scores, accuracies = models()
    with pytest.raises(ValueError, match="confidence is 1"):
        rank_agreement(scores, accuracies, confidence=1)
    with pytest.raises(ValueError, match="n_bootstrap is 0"):
        rank_agreement(scores, accuracies, n_bootstrap=0)
    # A seed whose first resample is one model three times.
    seed = next(s for s in range(99) if not np.ptp(np.random.default_rng(s).integers(3, size=3)))
    with pytest.raises(ValueError, match="no resample of 1 has a correlation"):
        rank_agreement([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], n_bootstrap=1, seed=seed)
