"""What the chapter `topological_features` defines: its rule and its features."""

import numpy as np
import pytest
from conftest import functions_of

from topo_utils import persistence

UP, DOWN, UNCLEAR = (0.03, 0.02, 0.04), (-0.03, -0.04, -0.02), (0.01, -0.01, 0.03)


@pytest.mark.parametrize(
    ("mlp", "cnn", "n_splits", "verdict"),
    [
        ((UP, UP), (UP, UP), 5, "reproduced"),
        ((UP, UP), (UP, UNCLEAR), 5, "reproduced with limits"),
        ((UP, UP), (UNCLEAR, UNCLEAR), 5, "reproduced with limits"),
        ((UP, UP), (DOWN, UP), 5, "reproduced with limits"),
        ((UP, UNCLEAR), (UP, DOWN), 5, "reproduced with limits"),
        ((UP, DOWN), (UP, UP), 5, "reproduced with limits"),
        ((UNCLEAR, UNCLEAR), (UNCLEAR, UNCLEAR), 5, "not reproduced"),
        ((DOWN, DOWN), (DOWN, DOWN), 5, "not reproduced"),
        ((UP, UNCLEAR), (UNCLEAR, UP), 5, "not reproduced"),
        ((UP, UP), (UP, UP), 4, "inconclusive"),
    ],
)
def test_the_rule_of_topological_features(mlp, cnn, n_splits, verdict):
    (rule,) = functions_of("topological_features", "features_verdict")
    gains = dict(zip([("MLP", "alone"), ("MLP", "profiles")], mlp, strict=True))
    gains |= dict(zip([("CNN", "alone"), ("CNN", "profiles")], cnn, strict=True))
    found, reason = rule(gains, n_splits)
    assert found == verdict
    assert reason.endswith(".")


@pytest.fixture(scope="module")
def features():
    return functions_of(
        "topological_features",
        "filtrations",
        "curve_features",
        "lifetime_features",
        "profile_features",
    )


def ring_with_a_dot():
    """A ring and a dot right of it; 12 x 12 pixels of 8 bits."""
    picture = np.zeros((12, 12), dtype=np.uint8)
    picture[2:9, 1:7] = 200
    picture[4:7, 3:5] = 0
    picture[6, 9] = 255
    return picture


def test_features_see_a_ring_and_a_dot(features):
    _, curves, lifetimes, _ = features
    # Filtration, level, degree; as many levels as rows, so that each level is one more row.
    found = curves(ring_with_a_dot(), 0.4, 12).reshape(5, 12, 2)
    assert found[1:, -1].tolist() == [[2, 1]] * 4  # from everywhere, in the end
    # From the top: two sides of the ring come in as one piece, the loop closes in row 7.
    assert found[1, :, 1].tolist() == [0] * 7 + [1] * 5
    assert found[1, :, 0].tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    # From the right the dot is first, and the right side of the ring comes three columns later.
    assert found[4, :, 0].tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]
    # The dot is there from grey value 0, the ring from 55; what never dies ends at 255.
    assert lifetimes(ring_with_a_dot(), 0.4, 3).tolist() == [255, 200, 0, 200, 0, 0]


def test_mirrored_pictures_exchange_the_features_of_left_and_right(features):
    _, curves, lifetimes, profiles = features
    picture = np.random.default_rng(0).integers(0, 256, size=(9, 9)).astype(np.uint8)
    for measure in (curves, profiles):
        plain, mirrored = (
            measure(p, 0.5, 9).reshape(5, -1) for p in (picture, picture[:, ::-1].copy())
        )
        assert np.array_equal(mirrored, plain[[0, 1, 2, 4, 3]])
    assert np.array_equal(lifetimes(picture, 0.5, 4), lifetimes(picture.T.copy(), 0.5, 4))


def test_curves_agree_with_the_bars_of_the_same_filtration(features):
    filtrations, curves, _, _ = features
    picture = np.random.default_rng(1).integers(0, 256, size=(10, 8)).astype(np.uint8)
    found = curves(picture, 0.6, 8).reshape(5, 8, 2)
    for values, last, curve in zip(*filtrations(picture, 0.6), found, strict=True):
        for eta, betti in zip(np.linspace(0, last, 8), curve, strict=True):
            bars = persistence(values)[:2]
            assert [sum((b[:, 0] <= eta) & (eta < b[:, 1])) for b in bars] == betti.tolist()


def test_profiles_count_pixels_and_their_ink(features):
    *_, profiles = features
    picture = ring_with_a_dot()
    found = profiles(picture, 0.4, 12).reshape(5, 12, 2)
    total = [np.sum(picture > 0), picture.astype(int).sum()]
    assert found[:, -1].tolist() == [total] * 5
    # Down to row 5: rows 2 and 3 of the ring whole, its sides in rows 4 and 5, no dot yet.
    assert found[1, 5].tolist() == [2 * 6 + 2 * 4, 200 * (2 * 6 + 2 * 4)]
    assert (np.diff(found, axis=1) >= 0).all()


def test_features_of_permuted_rows_are_permuted_features(features):
    _, curves, lifetimes, profiles = features
    pictures = np.random.default_rng(2).integers(0, 256, size=(6, 8, 8)).astype(np.uint8)
    order = np.random.default_rng(3).permutation(6)
    for measure, size in ((curves, 4), (lifetimes, 3), (profiles, 4)):
        rows = np.stack([measure(p, 0.4, size) for p in pictures])
        again = np.stack([measure(p, 0.4, size) for p in pictures[order]])
        assert np.array_equal(again, rows[order])  # each row is of its own picture alone
        assert len(np.unique(rows, axis=0)) == 6
