"""What the chapters `polytopes` and `topological_features` define: their rules and their parts."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest

from topo_utils import Estimate, betti_curves, betti_numbers, persistence

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def functions_of(chapter, *names, **known):
    """Functions that a chapter defines, without running it; `known` are names that they use."""
    source = ast.parse((NOTEBOOKS / f"{chapter}.py").read_text(encoding="utf-8"))
    definitions = [node for node in source.body if getattr(node, "name", None) in names]
    assert [node.name for node in definitions] == list(names)
    exec(compile(ast.Module(definitions, []), chapter, "exec"), known)
    return [known[name] for name in names]


# ---------------------------------------------------------------------------------------------
# polytopes

STAIRS = [(m, m) for m in (3, 4, 5, 6, 7, 8)]
HOLES = [(0, 1.0, None), (1, 1.0, 0.95), (2, 1.0, 0.96), (3, 1.0, 0.97)]
LARGE = Estimate(7.0, 5.0, 9.0)


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        ((STAIRS, HOLES, LARGE, 0, 8), "reproduced"),
        ((STAIRS, HOLES, LARGE, 5, 8), "reproduced with limits"),
        # A polygon with fewer sides than geometry allows; a hole that costs nothing; labels
        # without meaning that need as few faces as true ones; training that misses what it should
        # find.
        (([(4, 3), *STAIRS[1:]], HOLES, LARGE, 0, 8), "not reproduced"),
        ((STAIRS, [*HOLES[:3], (3, 1.0, 0.99)], LARGE, 0, 8), "not reproduced"),
        ((STAIRS, HOLES, Estimate(1.0, 0.8, 1.3), 0, 8), "not reproduced"),
        ((STAIRS, HOLES, Estimate(4.0, 2.0, 6.0), 0, 8), "not reproduced"),
        (([*STAIRS[:5], (8, None)], HOLES, LARGE, 0, 8), "not reproduced"),
        ((STAIRS, [*HOLES[:3], (3, 0.999, 0.97)], LARGE, 0, 8), "not reproduced"),
        # The same with little evidence.
        (([*STAIRS[:5], (8, None)], HOLES, LARGE, 0, 7), "inconclusive"),
        ((STAIRS[:5], HOLES, LARGE, 0, 8), "inconclusive"),
        ((STAIRS, HOLES[:3], LARGE, 0, 8), "inconclusive"),
        ((STAIRS, HOLES, Estimate(4.5, 3.5, 7.0), 0, 8), "inconclusive"),
    ],
)
def test_the_rule_of_polytopes(arguments, verdict):
    (rule,) = functions_of("polytopes", "polytope_verdict")
    found, reason = rule(*arguments)
    assert found == verdict
    assert reason.endswith(".")


def test_the_staircase_is_the_least_m_with_its_corners_inside():
    (least,) = functions_of("polytopes", "least_faces_between_circles")
    assert [least(r) for r in (2.2, 1.7, 1.3, 1.2, 1.13, 1.1)] == [3, 4, 5, 6, 7, 8]
    assert least(100.0) == 3
    for ratio in np.random.default_rng(0).uniform(1.001, 2.5, size=200):
        m = least(ratio)
        assert 1 / math.cos(math.pi / m) < ratio
        assert m == 3 or 1 / math.cos(math.pi / (m - 1)) >= ratio


@pytest.mark.parametrize("n_holes", range(5))
def test_a_square_with_holes_has_the_betti_numbers_of_one(n_holes):
    (square,) = functions_of("polytopes", "square_with_holes")
    body = square(n_holes)
    assert betti_numbers(~body, 0).tolist() == [1, n_holes, 0]
    # By Alexander duality: its complement has a piece for each hole, and the outside.
    assert betti_numbers(body, 0)[0] == 1 + n_holes


def polygon(n_sides, radius=1.0):
    """Normals and offsets (1, 1, 1, m, ...) of a regular polygon around a circle."""
    import torch

    angles = torch.arange(n_sides) * 2 * math.pi / n_sides
    normals = torch.stack([angles.cos(), angles.sin()], dim=1)
    return normals[None, None, None], torch.full((1, 1, 1, n_sides), -radius)


def test_the_max_form_is_a_polygon_less_its_holes():
    import torch

    faces, values = functions_of("polytopes", "face_values", "class_values", torch=torch)
    points = torch.rand(1, 2000, 2, generator=torch.Generator().manual_seed(0)) * 4 - 2
    normals, offsets = polygon(4)
    inside = values(faces(points, normals, offsets))[0, 0] < 0
    assert torch.equal(inside, points[0].abs().amax(1) < 1)
    # The polytope criterion: inside is where no ReLU unit is active.
    active = (faces(points, normals, offsets) > 0).any(-1)[0, 0, :, 0]
    assert torch.equal(inside, ~active)
    # With a smaller square as its hole.
    both = torch.cat([normals, normals], dim=2), torch.cat([offsets, offsets / 2], dim=2)
    ring = values(faces(points, *both))[0, 0] < 0
    size = points[0].abs().amax(1)
    assert torch.equal(ring, (size < 1) & (size > 0.5))
    # A face that is not there makes no difference, and a very sharp maximum is the maximum.
    offsets = offsets.clone()
    offsets[..., 3] = -1e9
    open_square = values(faces(points, normals, offsets))[0, 0] < 0
    assert torch.equal(open_square, (points[0, :, 0].abs() < 1) & (points[0, :, 1] < 1))
    hard, soft = (values(faces(points, *both), sharpness=s) for s in (None, 1e4))
    assert torch.allclose(hard, soft, atol=1e-3)


def test_three_sums_of_relus_classify_where_four_faces_are_needed():
    import torch

    faces, values = functions_of("polytopes", "face_values", "class_values", torch=torch)
    angles = torch.arange(200) * 2 * math.pi / 200
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    points = torch.cat([circle, 1.7 * circle])[None]  # 1.7 < 1 / cos(pi / 3): four faces
    inner = torch.arange(400) < 200
    normals, offsets = polygon(3)
    assert ((values(faces(points, normals, offsets * 1.001)) < 0) == inner).double().mean() < 1
    # Each unit is active before its face is reached, so that two of them cut the corner.
    by_sum = [
        (values(faces(points, a * normals, a * s * offsets), "sum") < 0)
        for a in np.linspace(0.5, 4, 36)
        for s in np.linspace(0, 1, 21)
    ]
    assert any(torch.equal(found[0, 0], inner) for found in by_sum)


def test_the_search_for_the_least_width_finds_it():
    import torch

    asked = []

    class Network:
        def __init__(self, right):
            self.right = torch.tensor([right])

    def fit(points, inside, n_faces, n_starts):
        asked.append(n_faces[0])
        return Network(1.0 if n_faces[0] >= points else 0.5)

    (search,) = functions_of("polytopes", "least_width", fit=fit, most_faces=20)
    for least in range(1, 21):
        for start in (1, 4, 50):
            asked.clear()
            assert search(least, None, start) == least
            assert len(set(asked)) == len(asked)
            assert max(asked) <= 20
    assert search(21, None, 4) is None


# ---------------------------------------------------------------------------------------------
# topological_features

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
        np=np,
        betti_curves=betti_curves,
        persistence=persistence,
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
