"""What the chapter `polytopes` defines: its rule and its parts."""

import math

import numpy as np
import pytest
from conftest import functions_of

from topo_utils import Estimate, betti_numbers

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

    faces, values = functions_of("polytopes", "face_values", "class_values")
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

    faces, values = functions_of("polytopes", "face_values", "class_values")
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
