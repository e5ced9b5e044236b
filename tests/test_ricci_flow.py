"""What the chapter `ricci_flow` defines: curvature of known graphs, ReLU and factors, the rule."""

from collections import deque
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import functions_of
from scipy.sparse import csr_matrix
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr
from torch import nn

from topo_utils import Estimate, bootstrap_mean


@pytest.fixture(scope="module")
def ricci():
    return functions_of("ricci_flow")


# ---------------------------------------------------------------------------------------------
# Graphs worked out by hand.


def graph(n_points, edges):
    adjacency = np.zeros((n_points, n_points))
    for a, b in edges:
        adjacency[a, b] = adjacency[b, a] = 1
    return csr_matrix(adjacency)


def cycle(n):
    return graph(n, [(i, (i + 1) % n) for i in range(n)])


def complete(n):
    return graph(n, [(i, j) for i in range(n) for j in range(i)])


@pytest.mark.parametrize(
    ("shape", "plain", "augmented"),
    [
        (cycle(3), 0, 3),  # a triangle: 4 - 2 - 2, and one triangle
        (cycle(6), 0, 0),
        (graph(6, [(0, i) for i in range(1, 6)]), -2, -2),  # a star: 4 - 5 - 1
        (complete(4), -2, 4),  # 4 - 2 (n - 1), and n - 2 triangles on each edge
        (complete(7), -8, 7),
    ],
    ids=["triangle", "cycle", "star", "complete 4", "complete 7"],
)
def test_curvature_of_known_graphs(ricci, shape, plain, augmented):
    edges = shape.toarray() > 0
    found = ricci.forman_curvature(shape)
    for matrix, value in zip(found, (plain, augmented), strict=True):
        assert (matrix[edges] == value).all()
        assert not matrix[~edges].any()


def test_a_bridge_is_curved_below_the_clusters_it_joins(ricci):
    clusters = [(i + 5 * c, j + 5 * c) for c in (0, 1) for i in range(5) for j in range(i)]
    both = graph(10, [*clusters, (4, 5)])
    _, augmented = ricci.forman_curvature(both)
    inside = augmented[:4, :4][complete(4).toarray() > 0]
    assert augmented[4, 5] == 4 - 5 - 5
    assert (inside == 4 - 4 - 4 + 3 * 3).all()


def test_hop_distances_of_a_cycle_and_between_pieces(ricci):
    steps = np.abs(np.subtract.outer(np.arange(9), np.arange(9)))
    assert np.array_equal(ricci.hop_distances(cycle(9)), np.minimum(steps, 9 - steps))
    apart = ricci.hop_distances(graph(4, [(0, 1), (2, 3)]))
    assert np.array_equal(apart[0], [0, 1, np.inf, np.inf])


def test_the_graph_joins_either_way_and_no_point_to_itself(ricci):
    points = np.array([[0.0], [1.0], [2.1], [10.0]])
    found = ricci.neighbour_graph(points, 1).toarray()
    # The third point is nearest to the second, and the last has the third as its nearest.
    assert np.array_equal(found, graph(4, [(0, 1), (1, 2), (2, 3)]).toarray())


def steps_from(start, neighbours):
    """Breadth-first search."""
    steps, queue = {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        for there in neighbours[here]:
            if there not in steps:
                steps[there] = steps[here] + 1
                queue.append(there)
    return steps


def neighbours_of(points, k):
    distances = squareform(pdist(points))
    nearest = [set(np.argsort(row)[1 : k + 1].tolist()) for row in distances]
    return [
        {j for j in range(len(points)) if j in nearest[i] or i in nearest[j]}
        for i in range(len(points))
    ]


@pytest.mark.parametrize("k", [2, 5, 12])
def test_flows_are_those_of_the_definition(ricci, k):
    rng = np.random.default_rng(k)
    clouds = [rng.normal(size=(40, d)) for d in (5, 3, 3, 1)]
    curvature, expansion = ricci.local_flow(clouds, k)
    total, distances = ricci.global_flow(clouds, k)
    graphs = [neighbours_of(points, k) for points in clouds]
    for layer, near in enumerate(graphs):
        edges = {(i, j) for i in range(40) for j in near[i] if i < j}
        assert total[layer] == sum(4 - len(near[i]) - len(near[j]) for i, j in edges)
        walks = [steps_from(i, near) for i in range(40)]
        whole = all(len(walk) == 40 for walk in walks)
        mass = sum(sum(walk.values()) for walk in walks) / 2 if whole else np.inf
        assert distances[layer] == mass
    assert expansion.shape == curvature.shape == (3, 40)
    for layer, (near, after) in enumerate(pairwise(graphs)):
        for i in range(40):
            bent = [4 - len(near[i]) - len(near[j]) + 3 * len(near[i] & near[j]) for j in near[i]]
            assert curvature[layer, i] == pytest.approx(np.mean(bent))
            walk = steps_from(i, after)
            grown = [walk[j] - 1 for j in near[i] if j in walk]
            if grown:
                assert expansion[layer, i] == pytest.approx(np.mean(grown))
            else:
                assert np.isnan(expansion[layer, i])


def test_correlation_is_pearson_where_both_are_known(ricci):
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 8, 4))
    b[2, 1] = b[5, 1] = np.nan
    b[:, 2] = 3.7
    b[:, 3] = np.nan
    found = ricci.pearson_by_column(a, b)
    assert found[0] == pytest.approx(pearsonr(a[:, 0], b[:, 0]).statistic)
    known = [0, 1, 3, 4, 6, 7]
    assert found[1] == pytest.approx(pearsonr(a[known, 1], b[known, 1]).statistic)
    assert np.isnan(found[2:]).all()


def test_the_global_coefficient_is_undefined_in_several_pieces(ricci):
    curvature = np.array([-3.0, -2.0, -5.0, 0.0])
    assert ricci.global_coefficient(curvature, np.array([5.0, 8.0, 10.0, 15.0])) == -1
    assert np.isnan(ricci.global_coefficient(curvature, np.array([5.0, 8.0, np.inf, 15.0])))


# ---------------------------------------------------------------------------------------------
# ReLU commutes with positive factors.


def relu_network(seed):
    torch.manual_seed(seed)
    hidden = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise([6, 12, 12, 12])]
    network = nn.Sequential(*hidden, nn.Linear(12, 2)).double()
    return network, torch.randn(80, 6, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_one_factor_a_layer_changes_no_coefficient(ricci, seed):
    network, points = relu_network(seed)
    before = ricci.layer_outputs(network, points)
    factors = [torch.full((12,), c, dtype=torch.float64) for c in (8.0, 0.25, 1024.0)]
    after = ricci.layer_outputs(ricci.rescale(network, factors), points)
    assert not np.allclose(before[1], after[1])
    for factor, here, there in zip((8, 0.25, 1024), before[1:], after[1:], strict=False):
        # Each layer undoes the factor of the one before; powers of 2 are exact.
        assert np.array_equal(factor * here, there)
    assert np.array_equal(before[-1], after[-1])
    for one, other in zip(ricci.local_flow(before, 8), ricci.local_flow(after, 8), strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    for one, other in zip(ricci.global_flow(before, 8), ricci.global_flow(after, 8), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("seed", range(2))
def test_a_factor_for_each_unit_keeps_the_function_and_changes_the_graphs(ricci, seed):
    network, points = relu_network(seed)
    before = ricci.layer_outputs(network, points)
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.rand(12, dtype=torch.float64, generator=generator) + 0.1 for _ in range(3)]
    after = ricci.layer_outputs(ricci.rescale(network, factors), points)
    assert np.allclose(before[-1], after[-1], rtol=1e-12)
    assert not np.array_equal(ricci.local_flow(before, 8)[0], ricci.local_flow(after, 8)[0])


# ---------------------------------------------------------------------------------------------
# The rule.

NEAR, FAR = Estimate(-0.83, -0.85, -0.80), Estimate(-0.5, -0.6, -0.4)
ZERO = Estimate(0.05, -0.02, 0.1)


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        ((NEAR, ZERO, ZERO, -0.831, True, 5, 0.99), "reproduced"),
        ((NEAR, ZERO, NEAR, -0.831, True, 5, 0.99), "reproduced with limits"),
        ((NEAR, ZERO, ZERO, -0.831, False, 5, 0.99), "reproduced with limits"),
        ((FAR, ZERO, ZERO, -0.831, True, 5, 0.99), "reproduced with limits"),
        ((NEAR, ZERO, ZERO, -0.339, True, 5, 0.99), "reproduced with limits"),
        ((ZERO, ZERO, ZERO, -0.831, True, 5, 0.99), "not reproduced"),
        ((Estimate(0.5, 0.4, 0.6), ZERO, ZERO, -0.831, True, 5, 0.99), "not reproduced"),
        ((NEAR, NEAR, ZERO, -0.831, True, 5, 0.99), "not reproduced"),  # untrained as well
        ((FAR, NEAR, ZERO, -0.831, True, 5, 0.99), "not reproduced"),
        ((NEAR, ZERO, ZERO, -0.831, True, 4, 0.99), "inconclusive"),
        ((NEAR, ZERO, ZERO, -0.831, True, 5, 0.90), "inconclusive"),
    ],
)
def test_the_rule_of_ricci_flow(ricci, arguments, verdict):
    found, reason = ricci.ricci_verdict(*arguments)
    assert found == verdict
    assert reason.endswith(".")


@pytest.mark.parametrize(
    ("trained", "differences", "holds"),
    [
        ({"a": [-0.9, -0.8, -0.7], "b": [-0.5, -0.6, -0.7]}, [-0.5, -0.4, -0.6], True),
        ({"a": [-0.9, -0.8, -0.7], "b": [-0.5, -0.6, 0.1]}, [-0.5, -0.4, -0.6], False),
        ({"a": [-0.9, -0.8, -0.7]}, [-0.5, 0.4, -0.6], False),  # as negative in the twins
        ({"a": [-0.9]}, [-0.5], False),  # hardly ever defined
    ],
)
def test_when_the_global_coefficient_holds(ricci, trained, differences, holds):
    differences = dict.fromkeys(trained, differences)
    assert ricci.global_coefficient_holds(trained, differences, 3, bootstrap_mean) == holds


def test_clouds_that_know_nothing_of_one_another_are_no_ricci_flow(ricci):
    """Data for which the claim is false: at each layer the points are drawn anew."""
    rng = np.random.default_rng(0)

    def coefficients():
        clouds = ([rng.normal(size=(100, 5)) for _ in range(8)] for _ in range(5))
        flows = (ricci.local_flow(each, 8) for each in clouds)
        return [np.nanmean(ricci.pearson_by_column(*flow)) for flow in flows]

    trained, untrained = (bootstrap_mean(coefficients()) for _ in range(2))
    verdict, _ = ricci.ricci_verdict(trained, untrained, untrained, -0.831, True, 5, 0.99)
    assert verdict == "not reproduced"
