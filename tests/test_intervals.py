"""Estimates as text, and bootstraps against percentiles written out and Student's interval."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student

from topo_utils import Decay, Estimate, bootstrap, bootstrap_mean
from topo_utils.intervals import resamples

# --- Estimates


@pytest.mark.parametrize(
    ("estimate", "spec", "text"),
    [
        (Estimate(0.123, 0.1, 0.15), "", "0.12 [0.10, 0.15]"),
        (Estimate(0.123, -0.1, 0.15), "+.1f", "+0.1 [-0.1, +0.1]"),
        (Estimate(1234, 1200, 1300), ",.0f", "1,234 [1,200, 1,300]"),
        (Estimate(2.0, 0.0, 0.0), "g", "2 [0, 0]"),
        (Estimate(0.123), "", "0.12"),
        (Estimate(0.123), ".3f", "0.123"),
        (Estimate(math.nan, math.nan, math.nan), "", "–"),
        (Estimate(math.nan), ".3f", "–"),
        (Decay(1, 0, 2, minimum_depth=0, minimum=1, first=2, last=3), ".1f", "1.0 [0.0, 2.0]"),
    ],
)
def test_an_estimate_as_text(estimate, spec, text):
    assert format(estimate, spec) == f"{estimate:{spec}}" == text
    if not spec:
        assert str(estimate) == text
        # As a cell of a table, too.
        table = pd.DataFrame({"found": {"row": estimate}})
        assert f"<td>{text}</td>" in table.to_html()


def test_an_estimate_is_unpacked_mapped_and_not_changed():
    estimate = Estimate(1.0, 0.0, 2.0)
    value, low, high = estimate
    assert (value, low, high) == (1.0, 0.0, 2.0)
    assert estimate.map(math.exp) == Estimate(math.e, 1.0, math.exp(2))
    assert Estimate(0.0).map(math.exp) == Estimate(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate.value = 3.0
    several = Estimate(np.array([1, 2]), np.array([0, 1]), np.array([2, 3]))
    assert several.map(lambda ends: float(ends[1])) == Estimate(2.0, 1.0, 3.0)


# --- The bootstrap


def test_a_bootstrap_has_the_percentiles_of_its_resamples():
    values = np.random.default_rng(1).normal(size=(9, 4))

    def median(at):
        return np.median(values[at], axis=-2)

    draws = np.random.default_rng(5).integers(9, size=(300, 9))
    low, high = np.percentile([median(draw) for draw in draws], [10, 90], axis=0)
    settings = {"n_bootstrap": 300, "confidence": 0.8, "seed": 5}
    for vectorised in (False, True):
        found = bootstrap(median, 9, vectorised=vectorised, **settings)
        for part, expected in zip(found, (np.median(values, axis=0), low, high), strict=True):
            np.testing.assert_array_equal(part, expected)
    one = bootstrap(lambda at: median(at)[0], 9, **settings)
    assert one == found.map(lambda entries: float(entries[0]))
    assert all(type(part) is float for part in one)


def test_a_generator_goes_on_where_it_was():
    rng, same = np.random.default_rng(2), np.random.default_rng(2)
    bootstrap(np.mean, 7, n_bootstrap=50, seed=rng)
    one_by_one = [same.integers(7, size=7) for _ in range(50)]
    np.testing.assert_array_equal(resamples(7, 50, np.random.default_rng(2)), one_by_one)
    assert rng.random() == same.random()


def test_resamples_without_the_statistic_are_left_out():
    def spread(at):
        return np.ptp(at) or math.nan

    found = bootstrap(spread, 2, n_bootstrap=200)  # half of all draws of two are one twice
    assert [*found] == [1, 1, 1]
    nothing = bootstrap(lambda at: math.nan, 2, n_bootstrap=20)
    assert np.isnan([*nothing]).all()
    assert str(nothing) == "–"


# --- The bootstrap of a mean


@pytest.mark.parametrize("form", [list, tuple, pd.Series, torch.tensor])
def test_values_in_every_form(form):
    values = [0.5, 0.25, 3.0]
    assert bootstrap_mean(form(values)) == bootstrap_mean(np.array(values))
    assert bootstrap_mean(torch.tensor(values).bfloat16()) == bootstrap_mean(values)


def test_the_interval_holds_the_mean_and_stays_inside_the_values():
    rng = np.random.default_rng(0)
    for size in (2, 3, 10, 50):
        values = rng.normal(size=size)
        mean, low, high = bootstrap_mean(values)
        assert mean == pytest.approx(values.mean())
        assert values.min() <= low <= mean <= high <= values.max()


def test_the_interval_moves_with_the_values_and_repeats_with_the_seed():
    values = np.random.default_rng(1).normal(size=12)
    found = bootstrap_mean(values, seed=3)
    assert found == bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)
    assert bootstrap_mean(5 - 2 * values, seed=3).value == pytest.approx(5 - 2 * found.value)
    assert [*bootstrap_mean(5 + 2 * values, seed=3)] == pytest.approx([5 + 2 * x for x in found])
    assert [*bootstrap_mean([0.4, 0.4, 0.4])] == pytest.approx([0.4, 0.4, 0.4])


def test_for_many_values_the_interval_is_that_of_student():
    values = np.random.default_rng(2).normal(size=400)
    for confidence in (0.8, 0.95):
        _, low, high = bootstrap_mean(values, confidence=confidence, n_bootstrap=5000)
        half = student.ppf(0.5 + confidence / 2, 399) * values.std(ddof=1) / 20
        assert (high - low) / 2 == pytest.approx(half, rel=0.06)


@pytest.mark.parametrize("values", [[1.0], [], [1.0, np.nan], [1.0, np.inf], [[1.0, 2.0]]])
def test_values_without_an_interval_are_refused(values):
    with pytest.raises(ValueError, match="at least 2 finite numbers"):
        bootstrap_mean(values)


@pytest.mark.parametrize("settings", [{"confidence": 1}, {"n_bootstrap": 0}])
def test_settings_of_the_bootstrap_are_checked(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        bootstrap_mean([1.0, 2.0], **settings)
