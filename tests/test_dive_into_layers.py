"""What the chapter `dive_into_layers` defines: loops of known clouds, and the rule."""

import numpy as np
import pytest
from conftest import functions_of
from scipy.spatial.distance import pdist, squareform

from topo_utils import Estimate, bootstrap, correlation


@pytest.fixture(scope="module")
def layers():
    return functions_of("dive_into_layers")


def circle(n_points, centre=0.0):
    angle = 2 * np.pi * np.arange(n_points) / n_points
    return np.stack([np.cos(angle) + centre, np.sin(angle)], axis=1)


@pytest.mark.parametrize("n_points", [6, 12, 21])
def test_a_circle_is_one_loop_from_one_step_to_a_third_of_the_way_round(layers, n_points):
    ((birth, death),) = layers.loops(squareform(pdist(circle(n_points))))
    assert birth == pytest.approx(2 * np.sin(np.pi / n_points))
    assert death == pytest.approx(np.sqrt(3))  # three points in equal steps fill it


@pytest.mark.parametrize(
    ("points", "count"),
    [
        (np.concatenate([circle(12), circle(12, 9.0)]), 2),
        (circle(12) * [1.0, 1.5], 1),
        (circle(12) * [1.0, 0.0], 0),  # on a line
        (np.zeros((8, 3)), 0),
        (np.random.default_rng(0).normal(size=(3, 2)), 0),
    ],
    ids=["two circles", "ellipse", "line", "one place", "three points"],
)
def test_loops_of_known_clouds(layers, points, count):
    assert len(layers.loops(squareform(pdist(points)))) == count


def test_counts_by_reach_and_length(layers):
    points, step = circle(12), 2 * np.sin(np.pi / 12)
    median = np.median(pdist(points))
    length = np.sqrt(3) - step
    count = layers.count_loops
    assert count(points, 1.01 * step, 1.2, 0.0) == (1, 1, 1)
    assert count(points, 0.99 * step, 1.2, 0.0) == (0, 1, 1)
    assert count(points, 9.0, 0.99 * step / median, 0.0) == (1, 0, 0)
    assert count(points, 9.0, 1.2, 0.99 * length / median) == (1, 1, 1)
    assert count(points, 9.0, 1.2, 1.01 * length / median) == (1, 1, 0)


def test_only_the_published_count_depends_on_the_scale(layers):
    points = np.random.default_rng(3).normal(size=(40, 5))
    one, other = (layers.count_loops(c * points, 3.0, 1.2, 0.05) for c in (1.0, 8.0))
    assert one[0] > other[0] == 0
    assert one[1:] == other[1:]
    assert one[2] <= one[1]


YES, NO, SOME = ((share, Estimate(0.5, 0.2, 0.7)) for share in (0.9, 0.1, 0.5))
ONLY_WIDTH = (0.9, Estimate(0.1, -0.2, 0.4))
NOTHING = (1.0, Estimate(0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("published", "scale_free", "n_networks", "n_saturated", "verdict"),
    [
        (YES, YES, 20, 5, "reproduced"),
        (YES, SOME, 20, 5, "reproduced with limits"),
        (YES, NO, 20, 5, "reproduced with limits"),
        (SOME, SOME, 20, 5, "reproduced with limits"),
        (NO, NO, 20, 5, "not reproduced"),
        (ONLY_WIDTH, NO, 20, 5, "not reproduced"),
        (ONLY_WIDTH, ONLY_WIDTH, 20, 5, "not reproduced"),
        (YES, YES, 19, 5, "inconclusive"),
        (YES, YES, 20, 4, "inconclusive"),
        (NOTHING, NO, 20, 5, "inconclusive"),
        (YES, NOTHING, 20, 5, "inconclusive"),
    ],
)
def test_the_rule_of_layers(layers, published, scale_free, n_networks, n_saturated, verdict):
    found = {"as published": published, "scale-free": scale_free}
    said, reason = layers.layers_verdict(found, n_networks, n_saturated)
    assert said == verdict
    assert reason.endswith(".")


@pytest.mark.parametrize(("true", "verdict"), [(True, "reproduced"), (False, "not reproduced")])
def test_the_rule_tells_loops_from_width(layers, true, verdict):
    """Loops and accuracy both grow with width; only in one case do they share more than that."""
    rng = np.random.default_rng(6)
    width = np.repeat(np.arange(8.0), 6)
    own, noise = rng.normal(size=(2, 48))
    loops = width + 2 * own
    accuracy = width + (2 * own + 0.5 * noise if true else 2 * noise)
    plain, given = (
        bootstrap(lambda at, of=of: correlation(*(x[at] for x in of)), 48, vectorised=True)
        for of in ((accuracy, loops), (accuracy, loops, width))
    )
    assert plain.low > 0
    found = dict.fromkeys(("as published", "scale-free"), (1.0, given))
    assert layers.layers_verdict(found, 48, 12)[0] == verdict
