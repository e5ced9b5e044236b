"""Distances of complexity curves, and invariance, against closed forms and simulated noise."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from topo_utils import invariance, invariance_verdict, profile_distance, profile_distances


def falling(slope, blocks=12, images=20, noise=0.1, seed=0):
    """Omega that falls along depth with the given slope of its logarithm, noisy over images."""
    rng = np.random.default_rng(seed)
    logs = 8 + slope * np.linspace(0, 1, blocks) + noise * rng.normal(size=(images, blocks))
    return np.expm1(logs)


def test_the_distance_of_straight_curves_has_a_closed_form():
    a, b = falling(-2, blocks=7, noise=0), falling(-3, blocks=12, noise=0)
    x = np.linspace(0, 1, 32)
    assert profile_distance(a, b) == pytest.approx(np.sqrt(np.mean((x - x.mean()) ** 2)))
    assert profile_distance(a, b) == profile_distance(b, a)
    assert profile_distance(a, a) == 0


def test_the_distance_does_not_see_a_common_factor():
    omega = falling(-2)
    assert profile_distance(omega, 1 + omega) < 1e-3  # counts are large, so log(1 + x) is log(x)
    assert profile_distance(omega, 7 * omega) < 1e-2
    assert profile_distance(omega, omega[:, ::-1]) > 1


@pytest.mark.parametrize(
    ("slope", "verdict"),
    [(-2.0, "reproduced"), (-2.6, "reproduced with limits"), (-4, "not reproduced")],
)
def test_an_invariance_can_come_out_either_way(slope, verdict):
    curves = {
        "a": falling(-2),
        "changed": falling(slope, seed=1),
        "other": falling(-4, seed=2),
        "another": falling(-0.2, seed=3),
    }
    comparisons = [("a", "other"), ("a", "another"), ("other", "another")]
    found = invariance(curves, [("a", "changed")], comparisons)
    assert found.verdict == verdict
    assert found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(abs(slope + 2) / 2, abs=0.06)
    assert list(found.pairs["kind"]) == ["change"] + ["comparison"] * 3
    assert found == invariance(curves, [("a", "changed")], comparisons)


def test_the_floor_takes_away_what_noise_alone_adds():
    noisy = [
        invariance(
            {
                "a": falling(-2, noise=1, seed=s),
                "b": falling(-2, noise=1, seed=s + 99),
                "c": falling(2),
            },
            [("a", "b")],
            [("a", "c")],
        ).pairs.iloc[0]
        for s in range(20)
    ]
    plain = np.mean(
        [
            profile_distance(falling(-2, noise=1, seed=s), falling(-2, noise=1, seed=s + 99))
            for s in range(20)
        ]
    )
    assert np.median([row["distance"] for row in noisy]) < plain / 2
    assert np.mean([row["floor"] for row in noisy]) == pytest.approx(plain, rel=0.25)


def test_curves_of_the_same_images_are_compared_image_by_image():
    offset = np.random.default_rng(5).normal(size=(20, 1)) * np.linspace(0, 2, 12)  # of each image

    def curve(slope, seed, dataset):
        omega = np.expm1(np.log1p(falling(slope, noise=0.01, seed=seed)) + offset)
        coords = {"image": np.arange(20), "block": np.arange(12)}
        return xr.DataArray(omega, coords, ("image", "block"), attrs={"dataset": dataset})

    other = falling(2)
    paired = {"a": curve(-2, 0, "x"), "b": curve(-2.2, 1, "x"), "c": other}
    apart = {"a": curve(-2, 0, "x"), "b": curve(-2.2, 1, "y"), "c": other}
    widths = []
    for curves in (paired, apart):
        row = invariance(curves, [("a", "b")], [("a", "c")]).pairs.iloc[0]
        widths.append(row["high"] - row["low"])
    assert widths[0] < widths[1] / 4


def test_published_means_and_errors_stand_for_images():
    mean = falling(-2, noise=0)[0]
    curves = {"a": (mean, mean / 1000), "b": (mean, mean / 1000), "c": falling(-4)}
    found = invariance(curves, [("a", "b")], [("a", "c")])
    assert found.ratio == 0
    assert found.verdict == "reproduced"
    assert 0 < found.high < 0.01


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.0, 0.249, "reproduced"),
        (0.0, 0.25, "reproduced with limits"),
        (0.5, 0.9, "reproduced with limits"),
        (0.501, 0.9, "not reproduced"),
    ],
)
def test_the_rule_of_invariance(low, high, verdict):
    assert invariance_verdict(low, high) == verdict


def test_an_interval_without_order_has_no_verdict():
    for low, high in ((np.nan, 1.0), (0.0, np.nan), (1.0, 0.0)):
        with pytest.raises(ValueError, match="needed: two numbers in order"):
            invariance_verdict(low, high)


def test_distances_are_those_that_an_invariance_is_made_of():
    slopes = {"a": -1.0, "b": -3.0, "c": -5.0}
    curves = {n: falling(s, 7, 12, 0.6, seed=i) for i, (n, s) in enumerate(slopes.items())}
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    table = profile_distances(curves, pairs, n_bootstrap=50)
    found = invariance(curves, pairs[:1], pairs[1:], n_bootstrap=50).pairs
    pd.testing.assert_frame_equal(table, found[list(table)])
    assert (table["low"] <= table["high"]).all()
    plain = [profile_distance(curves[a], curves[b]) for a, b in pairs]
    np.testing.assert_allclose(np.hypot(table["distance"], table["floor"]), plain, rtol=1e-6)


def test_a_curve_is_at_no_distance_from_itself():
    curve = falling(-3, 7, 12, 0.6)
    (row,) = profile_distances({"a": curve, "b": curve}, [("a", "b")]).to_dict("records")
    assert row["distance"] < 0.05


def test_distances_of_what_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="there are no pairs; needed: at least one"):
        profile_distances({"a": falling(-3, 4, 3)}, [])
    with pytest.raises(ValueError, match="no curve b; curves: a"):
        profile_distances({"a": falling(-3, 4, 3)}, [("a", "b")])
    with pytest.raises(ValueError, match="curve b has 1 image"):
        profile_distances({"a": falling(-3, 4, 3), "b": falling(-3, 4, 1)}, [("a", "b")])


def test_the_ratio_of_each_pair_is_an_estimate():
    curves = {"a": falling(-2), "b": falling(-3), "c": falling(-5, seed=1)}
    found = invariance(curves, [("a", "b")], [("a", "c"), ("b", "c")], n_bootstrap=50)
    assert list(found.ratios) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [*found.ratios["a", "b"]] == [*found]
    assert f"{found.ratios['a', 'b']}" == f"{found}"


def test_invariance_of_what_cannot_be_compared_is_refused():
    curves = {"a": falling(-2), "b": falling(-3), "one": falling(-2)[:1]}
    with pytest.raises(ValueError, match="need at least one pair of names each"):
        invariance(curves, [], [("a", "b")])
    with pytest.raises(ValueError, match="no curve x; curves: a, b, one"):
        invariance(curves, [("a", "x")], [("a", "b")])
    with pytest.raises(ValueError, match="curve one has 1 image"):
        invariance(curves, [("a", "one")], [("a", "b")])
    with pytest.raises(ValueError, match="confidence is 2; accepted"):
        invariance(curves, [("a", "b")], [("a", "b")], confidence=2)


def flat(level, images=6, blocks=9):
    """Omega that is the same in every block, but as sums in another order leave it."""
    rng = np.random.default_rng(round(level))
    return level * (1 + 4e-16 * rng.integers(-1, 2, size=(images, blocks)))


NOTHING_DIFFERS = {"a": falling(-2), "b": falling(-3), "c": falling(-2), "d": 3 * falling(-2) + 2}
NOTHING_COUNTED = {"a": flat(1), "b": flat(1, blocks=5), "c": flat(7), "d": falling(-3)}


@pytest.mark.parametrize(
    ("curves", "comparisons"),
    [
        (NOTHING_DIFFERS, [("a", "c")]),
        (NOTHING_DIFFERS, [("a", "d"), ("c", "d")]),  # a factor that all blocks share
        (NOTHING_COUNTED, [("a", "c")]),
        (NOTHING_COUNTED, [("a", "c"), ("b", "c")]),
        (NOTHING_COUNTED, [("a", "d")]),  # the comparison could tell, but nothing is compared
        ({"a": np.zeros((3, 5)), "b": np.zeros((3, 5)), "c": np.ones((3, 4))}, [("a", "c")]),
        ({name: (np.ones(6), np.zeros(6)) for name in "abc"}, [("a", "c")]),
    ],
)
def test_an_invariance_without_anything_to_compare_is_inconclusive(curves, comparisons):
    found = invariance(curves, [("a", "b")], comparisons, n_bootstrap=100)
    assert found.verdict == "inconclusive"
    assert np.isnan([*found]).all()
    assert found.pairs[["ratio", "ratio_low", "ratio_high"]].isna().all(axis=None)
    assert np.isfinite(found.pairs[["distance", "low", "high", "floor"]]).all(axis=None)


def test_curves_that_differ_by_rounding_are_at_no_distance():
    for other in (flat(3), flat(1), flat(0), falling(-2)):
        same = np.expm1(np.log1p(other) * (1 + 2e-16))
        assert profile_distance(other, same) == 0
    table = profile_distances({"a": flat(1), "b": flat(7)}, [("a", "b")], n_bootstrap=50)
    assert (table[["distance", "low", "high"]] == 0).all(axis=None)


@pytest.mark.parametrize("seed", range(8))
def test_comparisons_that_hardly_differ_have_a_ratio_without_bound_or_none(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (falling(s, images=8, noise=0.6, seed=rng.integers(99)) for s in (-2, -2, -2.9))
    found = invariance({"a": a, "b": b, "c": c}, [("a", "b")], [("a", "c")], n_bootstrap=200)
    assert np.isfinite([*found]).all() or found.verdict == "inconclusive"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_means_and_errors_as_tensors(dtype):
    pair = torch.arange(1.0, 6).to(dtype), torch.zeros(5, requires_grad=True)
    assert profile_distances({"a": pair, "b": pair}, [("a", "b")])["distance"].item() == 0
