"""Omega, its decay and theta against closed forms, numpy's polynomial fit, and coverage."""

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from topo_utils import (
    betti_numbers,
    decay,
    published_table,
    relative_depth,
    theta_score,
    topological_complexity,
)

omegas = hnp.arrays(
    np.int64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2), elements=st.integers(0, 9999)
)


def counts(n_images, n_blocks, slope=-3.0, seed=0):
    """Noisy Omega whose mean over infinitely many images has exactly this decay."""
    rng = np.random.default_rng(seed)
    curve = np.expm1(9.0 + slope * np.linspace(0, 1, n_blocks))
    of_image = rng.gamma(5, 1 / 5, (n_images, 1))
    return curve * of_image * rng.gamma(5, 1 / 5, (n_images, n_blocks))


def width(found):
    return found.high - found.low


# --- Omega


@settings(deadline=None)
@given(hnp.arrays(np.int64, (4, 2, 3), elements=st.integers(0, 10**9)))
def test_omega_is_the_sum_over_degrees(betti):
    expected = betti[..., 0] + betti[..., 1] + betti[..., 2]
    result = topological_complexity(betti)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(topological_complexity(betti.tolist()), expected)
    # Of a labelled array the dimension counts, wherever it is.
    labelled = xr.DataArray(betti, dims=("image", "block", "degree"), attrs={"model": "m"})
    omega = topological_complexity(labelled.transpose("degree", "image", "block"))
    assert omega.name == "omega"
    assert omega.dims == ("image", "block")
    assert omega.dtype == np.int64
    assert omega.attrs == {"model": "m"}
    np.testing.assert_array_equal(omega, expected)


def test_omega_of_one_volume():
    hollow = np.zeros((3, 3, 3))
    hollow[1, 1, 1] = 1.0
    assert topological_complexity(betti_numbers(hollow, 0.0)) == 2
    np.testing.assert_array_equal(topological_complexity(betti_numbers(hollow, [0.0, 1.0])), [2, 1])


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (np.zeros((5, 2)), r"profile has shape \(5, 2\); needed: \(\.\.\., 3\), one per degree"),
        (7, r"profile has shape \(\); needed"),
        ([], r"profile has shape \(0,\); needed"),
        (xr.DataArray(np.zeros((2, 3)), dims=("image", "block")), "profile has dimensions .*'blo"),
        (xr.DataArray(np.zeros((2, 2)), dims=("image", "degree")), "'degree': 2}; needed: degree"),
    ],
)
def test_profiles_that_are_refused(profile, message):
    with pytest.raises(ValueError, match=message):
        topological_complexity(profile)


# --- Decay


@settings(deadline=None)
@given(st.floats(0, 12), st.floats(-12, 12), st.integers(2, 60))
def test_the_slope_of_an_exponential_is_exact(start, slope, n_blocks):
    slope = max(slope, -start)  # so that no count is negative
    curve = np.expm1(start + slope * np.linspace(0, 1, n_blocks)).clip(0)
    # The mean over images is what counts: one image has all of it, the other none.
    found = decay(np.stack([2 * curve, 0 * curve]), n_bootstrap=10)
    assert found.slope == pytest.approx(slope, abs=1e-9)
    assert found.first == pytest.approx(curve[0])
    assert found.last == pytest.approx(curve[-1])


@settings(deadline=None)
@given(omegas, st.randoms(use_true_random=False))
def test_the_slope_is_the_least_squares_line_and_images_have_no_order(omega, random):
    mean, depth = omega.mean(axis=0), np.linspace(0, 1, omega.shape[1])
    found = decay(omega, n_bootstrap=20)
    assert found.slope == pytest.approx(np.polyfit(depth, np.log1p(mean), 1)[0], abs=1e-8)
    assert found.minimum == pytest.approx(mean.min())
    # Of several lowest points the first.
    assert found.minimum_depth == depth[mean == mean.min()][0]
    shuffled = random.sample(list(omega), len(omega))
    assert decay(shuffled, n_bootstrap=20).slope == pytest.approx(found.slope, abs=1e-9)
    assert decay(omega[:, ::-1], n_bootstrap=20).slope == pytest.approx(-found.slope, abs=1e-9)


def test_a_labelled_array_in_any_order_of_dimensions():
    omega = counts(6, 5)
    labelled = xr.DataArray(omega, dims=("image", "block"))
    assert decay(labelled.T) == decay(labelled) == decay(omega) == decay(omega.tolist())


def test_where_the_minimum_is():
    omega = np.array([[9, 5, 1, 3, 4], [9, 5, 3, 1, 8]])
    found = decay(omega)
    assert (found.minimum_depth, found.minimum, found.first, found.last) == (0.5, 2.0, 9.0, 6.0)


def test_the_interval_is_the_percentiles_of_resampled_slopes():
    omega = counts(7, 5)
    draws = np.random.default_rng(3).integers(7, size=(40, 7))
    depth = np.linspace(0, 1, 5)
    slopes = [np.polyfit(depth, np.log1p(omega[draw].mean(axis=0)), 1)[0] for draw in draws]
    found = decay(omega, n_bootstrap=40, confidence=0.8, seed=3)
    assert (found.low, found.high) == pytest.approx(np.percentile(slopes, [10, 90]))
    assert found == decay(omega, n_bootstrap=40, confidence=0.8, seed=3)
    assert found != decay(omega, n_bootstrap=40, confidence=0.8, seed=4)
    wider = decay(omega, n_bootstrap=40, confidence=0.95, seed=3)
    assert wider.low < found.low < found.slope < found.high < wider.high


CONSTANT = st.floats(0, 1e7) | st.integers(0, 10**7) | st.just(1)


@settings(deadline=None)
@given(st.lists(CONSTANT, min_size=2, max_size=30), st.integers(2, 60), st.floats(0, 100))
def test_a_curve_that_does_not_change_has_no_slope_at_all(images, n_blocks, factor):
    omega = np.tile(np.array(images, float)[:, None], n_blocks)
    found = decay(omega, n_bootstrap=20)
    assert [*found] == [0, 0, 0]
    assert np.copysign(1, [*found]).tolist() == [1, 1, 1]  # no -0.00 in any text
    assert found.is_flat
    assert not found.falls | found.rises
    # Nor is there a difference to a curve that is higher by the same factor everywhere.
    other = np.linspace(0, 1e4, n_blocks) + omega
    assert decay(factor + (1 + factor) * other, relative_to=other, n_bootstrap=20).is_flat


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int64, ">f2", ">i8"])
def test_omega_as_a_tensor_and_in_every_byte_order(dtype):
    betti = np.arange(60).reshape(5, 4, 3)
    given = betti.astype(dtype) if isinstance(dtype, str) else torch.tensor(betti).to(dtype)
    omega = topological_complexity(given)
    np.testing.assert_array_equal(omega, betti.sum(axis=2))
    as_floats = omega.astype(float)
    tensor = torch.tensor(as_floats, requires_grad=True)
    assert (
        decay(tensor, n_bootstrap=9)
        == decay(list(tensor), n_bootstrap=9)
        == decay(omega, n_bootstrap=9)
    )
    five = np.arange(1.0, 6)
    assert theta_score(torch.tensor(five).bfloat16(), positions=torch.tensor(five)) == theta_score(
        five
    )


def test_equal_images_give_an_interval_of_no_width():
    found = decay(np.tile(counts(1, 8), (12, 1)))
    assert found.low == pytest.approx(found.slope, abs=1e-9)
    assert found.high == pytest.approx(found.slope, abs=1e-9)


def test_the_interval_has_about_its_coverage():
    found = [decay(counts(40, 10, seed=seed), n_bootstrap=200) for seed in range(200)]
    covered = np.mean([one.low <= -3.0 <= one.high for one in found])
    assert 0.87 <= covered <= 0.99
    assert np.mean([one.slope for one in found]) == pytest.approx(-3.0, abs=0.05)


def test_the_interval_shrinks_with_the_root_of_the_number_of_images():
    widths = [width(decay(counts(n, 6), n_bootstrap=500)) for n in (50, 800)]
    assert 2.5 < widths[0] / widths[1] < 6.0  # four, give or take


def test_relative_to_another_network_is_a_paired_difference():
    omega, other = counts(30, 6, -3.0, seed=1), counts(30, 6, -1.0, seed=2)
    found = decay(omega, relative_to=other, n_bootstrap=200)
    assert found.slope == pytest.approx(decay(omega).slope - decay(other).slope, abs=1e-9)
    assert found.low < -2.0 < found.high
    # The minimum and the ends are those of omega.
    assert found == dataclasses.replace(
        decay(omega), value=found.value, low=found.low, high=found.high
    )
    # Against itself nothing is left, whatever the resample: the draws are shared.
    assert [*decay(omega, relative_to=omega)] == [0.0, 0.0, 0.0]
    # A factor common to both, image by image, widens each interval but not that of the difference.
    factor = np.random.default_rng(0).gamma(1, 1, (30, 1))
    twin = np.tile(counts(1, 6, -1.0), (30, 1)) * factor + 1e4
    paired = decay(twin * 2, relative_to=twin, n_bootstrap=200)
    assert width(paired) < 0.2 * width(decay(twin, n_bootstrap=200))
    labelled = xr.DataArray(other, dims=("image", "block"))
    assert decay(omega, relative_to=labelled.T, n_bootstrap=200) == found


@pytest.mark.parametrize("n_blocks", [2, 3, 16, 53])
def test_relative_depth_goes_from_0_to_1_in_equal_steps(n_blocks):
    depth = relative_depth(n_blocks)
    assert depth.shape == (n_blocks,)
    assert (depth[0], depth[-1]) == (0.0, 1.0)
    np.testing.assert_allclose(np.diff(depth), 1 / (n_blocks - 1))


@pytest.mark.parametrize("n_blocks", [0, 1])
def test_one_block_has_no_depth(n_blocks):
    with pytest.raises(ValueError, match=f"{n_blocks} block has no relative depth; at least two"):
        relative_depth(n_blocks)


@pytest.mark.parametrize(
    ("omega", "message"),
    [
        (np.ones(4), r"omega has shape \(4,\); needed: \(images, blocks\)"),
        (np.ones((2, 3, 1)), r"omega has shape \(2, 3, 1\); needed"),
        (xr.DataArray(np.ones((2, 3, 1)), dims=("image", "block", "threshold")), r"with \.sel"),
        (xr.DataArray(np.ones((2, 3)), dims=("image", "layer")), "needed: image and block"),
        (np.ones((1, 5)), "at least 2 of them, not 1"),
        (np.ones((0, 5)), "at least 2 of them, not 0"),
        (np.ones((5, 1)), "1 block has no relative depth"),
        (np.array([[1.0, np.nan], [1.0, 2.0]]), "omega contains NaN"),
        (np.array([[1.0, -1.0], [1.0, 2.0]]), "omega contains .*negative"),
        (np.array([[1.0, np.inf], [1.0, 2.0]]), "omega contains .*infinit"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_curves_that_are_refused(omega, message):
    with pytest.raises(ValueError, match=message):
        decay(omega)
    if message.startswith("omega contains"):
        with pytest.raises(ValueError, match=message):
            decay(np.ones((2, 2)), relative_to=omega)


def test_a_counterpart_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"omega has shape \(5, 4\), relative_to \(4, 4\)"):
        decay(np.ones((5, 4)), relative_to=np.ones((4, 4)))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"confidence": 95}, "confidence is 95; accepted"),
        ({"confidence": -1}, "confidence is -1; accepted"),
        ({"confidence": np.nan}, "confidence is nan; accepted"),
        ({"n_bootstrap": 0}, "n_bootstrap is 0; accepted"),
        ({"n_bootstrap": -1}, "n_bootstrap is -1; accepted"),
    ],
)
def test_options_that_are_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        decay(np.ones((3, 4)), **keywords)


def test_a_paired_difference_needs_the_same_images():
    omega = xr.DataArray(np.ones((3, 4)), dims=("image", "block"), coords={"image": [0, 1, 2]})
    with pytest.raises(ValueError, match="of different images"):
        decay(omega, relative_to=omega.assign_coords(image=[0, 1, 3]))


# --- theta


def flat(level, images=6, blocks=9):
    """Omega that is the same in every block, but as sums in another order leave it."""
    rng = np.random.default_rng(round(level))
    return level * (1 + 4e-16 * rng.integers(-1, 2, size=(images, blocks)))


def published_thetas(**settings):
    table = published_table("suresh2023_cifar10_betti")
    return {
        model: theta_score(rows.sort_values("block")["omega_mean"].to_numpy(), **settings)
        for model, rows in table.groupby("model", sort=False)
    }


def test_theta_gives_the_published_figures():
    found = published_thetas()
    expected = {
        "vgg16": 0.2034,
        "resnet18": 0.1944,
        "resnet50": 0.1466,
        "resnet101": 0.0134,
        "resnet152": 0.0084,
        "mobilenet_v2": 0.0556,
        "densenet121": -0.0311,
        "densenet169": -0.0315,
        "densenet201": -0.0286,
    }
    assert found == pytest.approx(expected, abs=1e-3)
    accuracy = published_table("suresh2023_cifar10_accuracy").set_index("model")
    accuracy = accuracy["finetuned_accuracy_percent"][list(found)]
    thetas = list(found.values())
    assert stats.pearsonr(thetas, accuracy)[0] == pytest.approx(-0.815, abs=1e-3)
    assert stats.kendalltau(thetas, accuracy)[0] == pytest.approx(-0.778, abs=1e-3)
    assert stats.spearmanr(thetas, accuracy)[0] == pytest.approx(-0.900, abs=1e-3)


@pytest.mark.parametrize("penalty", [1e-3, 0.5])
def test_theta_by_the_normal_equations(penalty):
    omega = np.random.default_rng(0).uniform(1, 100, 7)
    x = np.arange(1, 8.0)
    powers = np.stack([x**0, x, x**2, x**3], axis=1)
    ridge = penalty * np.diag([0, 1, 1, 1])  # the intercept is free
    c = np.linalg.solve(powers.T @ powers + ridge, powers.T @ omega / np.sqrt((omega**2).sum()))
    found = theta_score(omega, penalty=penalty)
    assert found == pytest.approx(c[1] + c[2] / 2 + c[3] / 2, rel=1e-6)


def test_theta_of_an_exact_cubic_is_its_coefficients():
    x = np.linspace(0, 1, 9)
    curve = 5 - 3 * x + 2 * x**2 - x**3
    found = theta_score(curve, positions=x, penalty=0)
    assert found * np.linalg.norm(curve) == pytest.approx(-3 + 1 - 0.5)


def test_theta_does_not_depend_on_scale_nor_on_how_images_are_given():
    rng = np.random.default_rng(1)
    omega = rng.integers(1, 1000, (4, 8))
    expected = theta_score(omega)
    assert theta_score(17 * omega) == pytest.approx(expected)
    assert theta_score(omega.mean(axis=0)) == pytest.approx(expected)
    labelled = xr.DataArray(omega.T, dims=("block", "image"))
    assert theta_score(labelled) == pytest.approx(expected)
    assert theta_score(labelled.mean("image")) == pytest.approx(expected)
    for level in (1, 3, 0.1, 1e7 / 3):  # a flat curve: no two networks are ranked by rounding
        assert theta_score(np.full(7, level)) == theta_score(flat(level)) == 0
    assert theta_score(omega, positions=np.arange(8)) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("omega", "settings", "message"),
    [
        ([5, 4, 3, 2], {}, "4 blocks; theta fits a cubic, so at least 5"),
        (np.zeros(6), {}, "0 at every block"),
        ([5, 4, np.nan, 2, 1], {}, "NaN"),
        ([5, 4, np.inf, 2, 1], {}, "NaN, infinite"),
        ([5, 4, -3, 2, 1], {}, "negative"),
        (3.0, {}, "shape"),
        (np.ones((2, 3, 5)), {}, "shape"),
        (np.ones(5), {"penalty": -1}, "penalty is -1; accepted"),
        (np.ones(5), {"penalty": np.nan}, "penalty is nan; accepted"),
        (np.ones(5), {"positions": [1, 2, 3]}, "5 different numbers"),
        (np.ones(5), {"positions": [1, 2, 3, 3, 4]}, "5 different numbers"),
        (np.ones(5), {"positions": [1, 2, 3, 4, np.nan]}, "5 different numbers"),
    ],
)
def test_what_has_no_theta(omega, settings, message):
    with pytest.raises(ValueError, match=message):
        theta_score(omega, **settings)
