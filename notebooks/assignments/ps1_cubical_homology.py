# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-intro", "locked": true, "schema_version": 3, "solution": false, "task": false}
# # Problem set 1: counting holes in volumes
#
# A set of points on a grid becomes a shape when neighbouring points are joined. Its components,
# tunnels and cavities can be counted by eye while it is small. In this set you count by hand, then
# write the program that counts, check it against a library that works in quite another way, and let
# it look at a photograph.
#
# | task | what | points |
# |---|---|---|
# | 1 | cells and Betti numbers by hand | 4 |
# | 2 | cells, in code | 4 |
# | 3 | the Euler characteristic | 3 |
# | 4 | components, by union-find | 6 |
# | 5 | all three Betti numbers | 6 |
# | 6 | the same from GUDHI's bars | 5 |
# | 7 | Betti curves of an image | 4 |
# | 8 | what the curves say (marked by hand) | 6 |
#
# About two hours. You need numpy, loops and dictionaries, and what chapter *Components, tunnels and
# cavities* explains. Replace what stands at `YOUR CODE HERE` and `YOUR ANSWER HERE`; the cell after
# each task tests it, and more tests are run when the set is graded. Restart the kernel and run all
# cells before you hand it in.
#
# Write the counting yourself: `topo_utils.betti_numbers`, which does all of this, and
# `scipy.ndimage.label` serve for the tests only.

# %% nbgrader={"grade": false, "grade_id": "ps1-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
from itertools import product

import gudhi
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits, load_sample_image

from topo_utils import betti_numbers
from topo_utils.plotting import COLOURS, plot_betti_curves, plot_points, use_style

use_style()
shapes = {
    "ring": np.array([[[1, 1, 1], [1, 0, 1], [1, 1, 1]]], dtype=bool),
    "diagonal": np.array([[[1, 0], [0, 1]]], dtype=bool),
    "brick": np.ones((2, 2, 3), dtype=bool),
    "hollow": np.ones((3, 3, 3), dtype=bool),  # the point in the middle is missing:
}
shapes["hollow"][1, 1, 1] = False
figure = plt.figure(figsize=(9, 2.6))
for i, (name, points) in enumerate(shapes.items()):
    plot_points(figure.add_subplot(1, 4, i + 1, projection="3d"), points, name)
plt.show()

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-hand-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 1: by hand (4 points)
#
# Above are four shapes, each point drawn as a small cube. The cells of a shape are
#
# - its **points** (vertices);
# - an **edge** for every two points one step apart along one axis, both in the shape;
# - a **square** for every four points that are the corners of a unit square, all in the shape;
# - a **cube** for every eight points that are the corners of a unit cube, all in the shape.
#
# (A drawn small cube is one *point*. Two points form an edge where their drawn cubes share a face.)
#
# **β₀** is the number of components, **β₁** the number of tunnels (independent loops that cannot be
# shrunk to a point within the shape), **β₂** the number of cavities (hollows enclosed on all sides).
#
# For every shape return (points, edges, squares, cubes, β₀, β₁, β₂), counted with pencil and paper.
# Only the middle of `hollow` is missing. Your numbers must satisfy what holds for every shape, with
# **χ** the Euler characteristic:
#
# $$\chi = \text{points} - \text{edges} + \text{squares} - \text{cubes} = \beta_0 - \beta_1 + \beta_2.$$


# %% nbgrader={"grade": false, "grade_id": "ps1-hand", "locked": false, "schema_version": 3, "solution": true, "task": false}
def by_hand():
    """By name of the shape: (points, edges, squares, cubes, beta0, beta1, beta2)."""
    ### BEGIN SOLUTION
    # solution-marker-ps1-hand
    return {
        "ring": (8, 8, 0, 0, 1, 1, 0),
        "diagonal": (2, 0, 0, 0, 2, 0, 0),
        "brick": (12, 20, 11, 2, 1, 0, 0),
        "hollow": (26, 48, 24, 0, 1, 0, 1),
    }
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps1-hand-test-cells", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
found = by_hand()
assert set(found) == set(shapes), f"answers are wanted for {sorted(shapes)}, not {sorted(found)}"
for name, numbers in found.items():
    assert len(numbers) == 7, f"{name} has {len(numbers)} numbers; wanted: 4 of cells, 3 of Betti"
    assert numbers[0] == shapes[name].sum(), (
        f"{name} has {shapes[name].sum()} points, not {numbers[0]}: every small cube is one point"
    )
### BEGIN HIDDEN TESTS
# hidden-marker-ps1-hand-cells
cells = {
    "ring": (8, 8, 0, 0),
    "diagonal": (2, 0, 0, 0),
    "brick": (12, 20, 11, 2),
    "hollow": (26, 48, 24, 0),
}
for name, expected in cells.items():
    for kind, number, right in zip(
        ("points", "edges", "squares", "cubes"), found[name], expected, strict=False
    ):
        assert number == right, (
            f"{name} has {right} {kind}, not {number}: a cell is there when all its corners are "
            "(the definition of cells in task 1)"
        )
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "ps1-hand-test-betti", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
for name, (v, e, f, c, b0, b1, b2) in by_hand().items():
    assert v - e + f - c == b0 - b1 + b2, (
        f"{name}: points - edges + squares - cubes is {v - e + f - c}, but beta0 - beta1 + beta2 is "
        f"{b0 - b1 + b2}; they must be equal, so one of the seven numbers is wrong"
    )
### BEGIN HIDDEN TESTS
# hidden-marker-ps1-hand-betti
betti_of = {"ring": (1, 1, 0), "diagonal": (2, 0, 0), "brick": (1, 0, 0), "hollow": (1, 0, 1)}
for name, expected in betti_of.items():
    assert tuple(by_hand()[name][4:]) == expected, (
        f"{name}: expected (beta0, beta1, beta2) = {expected}, yours is {by_hand()[name][4:]}; "
        "look at the definitions of components, tunnels and cavities in task 1"
    )
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-cells-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 2: in code (4 points)
#
# Now for any shape, a boolean array of three axes. Slices make it short: `points[:, :, 1:]` and
# `points[:, :, :-1]`, laid over one another with `&`, show the edges along the last axis. Squares lie
# in three planes. An axis may have length 1.


# %% nbgrader={"grade": false, "grade_id": "ps1-cells", "locked": false, "schema_version": 3, "solution": true, "task": false}
def count_cells(points):
    """Numbers of points, edges, squares and cubes of a boolean array (C, H, W)."""
    ### BEGIN SOLUTION
    # solution-marker-ps1-cells
    counts = [0, 0, 0, 0]
    for extent in product((0, 1), repeat=3):  # along which axes the cell extends
        present = points
        for axis, extends in enumerate(extent):
            if extends:
                rows = np.moveaxis(present, axis, 0)
                present = np.moveaxis(rows[1:] & rows[:-1], 0, axis)
        counts[sum(extent)] += int(present.sum())
    return tuple(counts)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps1-cells-test-small", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
found = tuple(count_cells(np.ones((2, 2, 2), dtype=bool)))
assert found == (8, 12, 6, 1), (
    f"a unit cube with all its corners has 8 points, 12 edges, 6 squares and 1 cube, not {found}"
)
found = tuple(count_cells(np.ones((1, 2, 3), dtype=bool)))
assert found == (6, 7, 2, 0), (
    f"2 x 3 points in a plane have (6, 7, 2, 0) points, edges, squares and cubes, not {found}"
)

# %% nbgrader={"grade": true, "grade_id": "ps1-cells-test-volumes", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
points = np.random.default_rng(0).random((4, 5, 6)) < 0.7
counts = {
    tuple(count_cells(points.transpose(order))) for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
}
assert len(counts) == 1, (
    f"the axes in another order give other counts, {sorted(counts)}: edges run along three axes, "
    "and squares lie in three planes (the definition of cells in task 1)"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps1-cells
for shape, density in (((4, 5, 6), 0.7), ((1, 7, 7), 0.8), ((9, 1, 1), 0.5), ((3, 4, 5), 0.0)):
    points = np.random.default_rng(1).random(shape) < density
    there = {tuple(point) for point in np.argwhere(points)}
    expected = [0, 0, 0, 0]
    for extent in product((0, 1), repeat=3):
        corners = list(product(*(range(side + 1) for side in extent)))
        for point in there:
            expected[sum(extent)] += all(
                tuple(np.add(point, corner)) in there for corner in corners
            )
    found = tuple(count_cells(points))
    assert found == tuple(expected), (
        f"on {shape} points, of which {len(there)} are in the shape, there are {tuple(expected)} "
        f"points, edges, squares and cubes; yours: {found} (the definition of cells in task 1)"
    )
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-euler-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 3: the Euler characteristic (3 points)
#
# χ = points − edges + squares − cubes, as a whole number. It may be negative.


# %% nbgrader={"grade": false, "grade_id": "ps1-euler", "locked": false, "schema_version": 3, "solution": true, "task": false}
def euler_characteristic(points):
    """Points - edges + squares - cubes of a boolean array (C, H, W)."""
    ### BEGIN SOLUTION
    # solution-marker-ps1-euler
    v, e, f, c = count_cells(points)
    return v - e + f - c
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps1-euler-test-hand", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
for name, points in shapes.items():
    v, e, f, c, *_ = by_hand()[name]
    found = euler_characteristic(points)
    assert found == v - e + f - c, (
        f"{name}: your code finds {found}, your numbers of task 1 give {v - e + f - c}. They must be "
        "equal: which of the two is wrong?"
    )

# %% nbgrader={"grade": true, "grade_id": "ps1-euler-test-negative", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
eight = np.ones((1, 3, 5), dtype=bool)
eight[0, 1, [1, 3]] = False  # a figure of eight: one component, two tunnels
found = euler_characteristic(eight)
assert found == -1, (
    f"a figure of eight has beta0 = 1 and beta1 = 2, so chi = -1; yours is {found}. Numbers without "
    "a sign (uint8, uint64) cannot hold it: they start again at their greatest value below 0"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps1-euler
grid = np.ones((1, 41, 41), dtype=bool)
grid[0, 1::2, 1::2] = False  # 400 tunnels
found = euler_characteristic(grid)
assert found == -399, (
    f"a net with 400 meshes has chi = 1 - 400 = -399; yours is {found} (the definition of chi in "
    "task 1, in whole numbers that are large enough and have a sign)"
)
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-components-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 4: components, by union-find (6 points)
#
# Every point starts as a set of its own. For every two *neighbours* the two sets are joined; the
# number of sets that are left is the number of components. In **union-find** each point has a
# parent, and the point that is its own parent is the root, which names the set. `find` walks from a
# point to its root; to join two sets, make one *root* the parent of the other *root*.
#
# - With `diagonal=False`, the neighbours of a point are the 6 points one step away along one axis:
#   those with which it has an edge.
# - With `diagonal=True`, they are all 26 points that differ by at most one step along each axis. You
#   need this in task 5.


# %% nbgrader={"grade": false, "grade_id": "ps1-components", "locked": false, "schema_version": 3, "solution": true, "task": false}
def count_components(points, diagonal=False):
    """Number of components of a boolean array (C, H, W); 6 neighbours, or 26 with `diagonal`."""
    ### BEGIN SOLUTION
    # solution-marker-ps1-components
    parent = {point: point for point in map(tuple, np.argwhere(points).tolist())}
    steps = [
        step
        for step in product((-1, 0, 1), repeat=3)
        if step > (0, 0, 0) and (diagonal or np.abs(step).sum() == 1)
    ]

    def find(point):
        while parent[point] != point:
            parent[point] = parent[parent[point]]  # the path becomes shorter for the next time
            point = parent[point]
        return point

    for z, y, x in parent:
        for dz, dy, dx in steps:
            other = z + dz, y + dy, x + dx
            if other in parent:
                parent[find((z, y, x))] = find(other)
    return sum(point == above for point, above in parent.items())
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps1-components-test-six", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
assert count_components(np.zeros((2, 2, 2), dtype=bool)) == 0, "a shape without points has none"
assert count_components(shapes["ring"]) == 1, "the ring is one component"
found = count_components(shapes["diagonal"])
assert found == 2, (
    f"two points across a diagonal are {found} for you; expected: 2, since only points one step "
    "apart along one axis are neighbours (6 of them, not 26)"
)

# %% nbgrader={"grade": true, "grade_id": "ps1-components-test-diagonal", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
found = count_components(shapes["diagonal"], diagonal=True)
assert found == 1, (
    f"with diagonal=True two points across a diagonal are neighbours, so 1 component, not {found}"
)
corners = np.zeros((3, 3, 3), dtype=bool)
corners[0, 2, 0] = corners[1, 1, 1] = corners[2, 2, 2] = True
found = count_components(corners, diagonal=True)
assert found == 1, (
    "with diagonal=True points that touch at the corner of a unit cube are neighbours, in all "
    f"directions (26 of them): expected 1 component, yours: {found}"
)

# %% nbgrader={"grade": true, "grade_id": "ps1-components-test-root", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
snake = np.ones((1, 9, 9), dtype=bool)
snake[0, 1::4, :-1] = snake[0, 3::4, 1:] = False  # one long path, to and fro
comb = np.ones((1, 9, 9), dtype=bool)
comb[0, :-1, 1::2] = False  # teeth that only meet in the last row
for name, points in (("snake", snake), ("comb", comb)):
    found = count_components(points)
    assert found == 1, (
        f"the {name} is one component; yours: {found}. Two sets are joined at their roots: walk from "
        "both points to their roots first, then give one root the other as its parent"
    )
### BEGIN HIDDEN TESTS
# hidden-marker-ps1-components
for seed, shape in enumerate([(6, 7, 8), (1, 20, 20), (20, 1, 1), (10, 10, 10)]):
    points = np.random.default_rng(seed).random(shape) < 0.35
    for diagonal in (False, True):
        structure = np.ones((3, 3, 3)) if diagonal else None
        expected = ndimage.label(points, structure)[1]
        found = count_components(points, diagonal)
        assert found == expected, (
            f"a random shape on {shape} points has {expected} components with diagonal={diagonal}; "
            f"yours: {found} (the definition of neighbours in task 4)"
        )
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-betti-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 5: all three Betti numbers (6 points)
#
# - β₀ = number of components of the points, with 6 neighbours.
# - β₂ = number of components of the *complement* (the grid points that are not in the shape), with
#   **26** neighbours, less one: the outside. For there to be exactly one outside, surround the grid
#   by one layer of points that are not in the shape (`np.pad`).
# - β₁ = β₀ + β₂ − χ.
#
# (Why 26? A cavity ends where cells close it. Two points of the complement that touch at a corner
# have no square and no cube between them that could keep them apart.)


# %% nbgrader={"grade": false, "grade_id": "ps1-betti", "locked": false, "schema_version": 3, "solution": true, "task": false}
def betti(points):
    """(beta0, beta1, beta2) of a boolean array (C, H, W)."""
    ### BEGIN SOLUTION
    # solution-marker-ps1-betti
    b0 = count_components(points)
    b2 = count_components(~np.pad(points, 1), diagonal=True) - 1
    return b0, b0 + b2 - euler_characteristic(points), b2
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps1-betti-test-hand", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
for name, points in shapes.items():
    found = tuple(betti(points))
    assert found == tuple(by_hand()[name][4:]), (
        f"{name}: your code finds (beta0, beta1, beta2) = {found}, your numbers of task 1 are "
        f"{by_hand()[name][4:]}. They must be equal: which of the two is wrong?"
    )

# %% nbgrader={"grade": true, "grade_id": "ps1-betti-test-cavity", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
found = tuple(betti(shapes["hollow"]))
assert found == (1, 0, 1), (
    f"the hollow shape has one component and one cavity, (1, 0, 1); yours: {found}. It reaches the "
    "border of the grid on all sides: is there an outside to subtract? (np.pad in task 5)"
)
leak = shapes["hollow"].copy()
leak[0, 0, 0] = False
found = tuple(betti(leak))
assert found == (1, 0, 0), (
    "without a corner, the middle of the hollow shape touches the outside at that corner, so there "
    f"is no cavity: expected (1, 0, 0), yours: {found} (26 neighbours in the complement, task 5)"
)

# %% nbgrader={"grade": true, "grade_id": "ps1-betti-test-volumes", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
links = np.zeros((7, 7, 9), dtype=bool)  # two rings, one through the other
links[3, 1:6, 0:5] = links[1:6, 3, 2:8] = True
links[3, 2:5, 1:4] = links[2:5, 3, 3:7] = False
links[3, 3, 2] = links[3, 3, 4] = True
found = tuple(betti(links))
assert found == (2, 2, 0), (
    f"two rings have beta = (2, 2, 0), also when one goes through the other; yours: {found}"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps1-betti
for seed, shape in enumerate([(4, 5, 6), (1, 12, 12), (6, 6, 6), (2, 3, 9)]):
    for density in (0.4, 0.6, 0.9):
        points = np.random.default_rng(seed).random(shape) < density
        expected = tuple(betti_numbers(~points, 0).tolist())
        found = tuple(betti(points))
        assert found == expected, (
            f"a random shape on {shape} points has (beta0, beta1, beta2) = {expected}; yours: "
            f"{found} (the three definitions in task 5)"
        )
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-gudhi-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 6: the same from GUDHI's bars (5 points)
#
# Let f be an array of real numbers. The **sublevel set** at η holds the points with f ≤ η. As η
# grows, components, tunnels and cavities are born and die; GUDHI finds all these *bars* at once, by
# reducing a matrix. A bar [birth, death) counts at η when **birth ≤ η < death**: at its death it is
# gone.
#
# `gudhi.CubicalComplex(vertices=volume)` takes the grid points as vertices, as we do. (With
# `top_dimensional_cells=` it takes them as cubes, and points across a diagonal are joined.) Call
# `compute_persistence()`, then `persistence_intervals_in_dimension(degree)` for degree 0, 1 and 2:
# an array (n, 2) of births and deaths, where what never dies has death `inf`. Give GUDHI floats.


# %% nbgrader={"grade": false, "grade_id": "ps1-gudhi", "locked": false, "schema_version": 3, "solution": true, "task": false}
def betti_by_gudhi(volume, eta):
    """(beta0, beta1, beta2) of the sublevel set {volume <= eta} of an array (C, H, W)."""
    ### BEGIN SOLUTION
    # solution-marker-ps1-gudhi
    complex_ = gudhi.CubicalComplex(vertices=np.asarray(volume, dtype=float))
    complex_.compute_persistence()
    numbers = []
    for degree in range(3):
        bars = complex_.persistence_intervals_in_dimension(degree).reshape(-1, 2)
        numbers.append(int(np.sum((bars[:, 0] <= eta) & (eta < bars[:, 1]))))
    return tuple(numbers)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps1-gudhi-test-bars", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
valley = np.array([[[0, 2, 1]]])  # two valleys, at 0 and at 1, and a pass between them at 2
for eta, expected in ((-0.5, 0), (0, 1), (1, 2), (1.5, 2), (2, 1), (3, 1)):
    found = betti_by_gudhi(valley, eta)[0]
    assert found == expected, (
        f"values 0, 2, 1 in a row: the sublevel set at {eta} has {expected} components, yours: "
        f"{found}. A bar counts when birth <= eta < death: at its birth, and no longer at its death"
    )

# %% nbgrader={"grade": true, "grade_id": "ps1-gudhi-test-vertices", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
rng = np.random.default_rng(0)
volume = rng.normal(size=(4, 5, 6))
for eta in (-1.0, -0.3, 0.0, 0.6, 1.2):
    found, own = tuple(betti_by_gudhi(volume, eta)), tuple(betti(volume <= eta))
    assert found == own, (
        f"at {eta} GUDHI's bars give you {found}, your code of task 5 finds {own}: one of the two is "
        "wrong. Are the grid points the vertices (vertices=)? Is beta0 counted with 6 neighbours?"
    )
### BEGIN HIDDEN TESTS
# hidden-marker-ps1-gudhi
for shape in ((4, 5, 6), (1, 8, 8), (3, 7, 5)):
    volume = rng.integers(0, 6, size=shape)  # many equal values
    for eta in range(-1, 7):
        expected = tuple(betti_numbers(volume, eta).tolist())
        found = tuple(betti_by_gudhi(volume, eta))
        assert found == expected, (
            f"a volume {shape} of whole numbers has {expected} at {eta}, yours: {found}; look at "
            "birth <= eta < death, and at vertices= (task 6)"
        )
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-curve-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 7: Betti curves of an image (4 points)
#
# An image of one channel, (H, W), is a volume (1, H, W). For every threshold η, the Betti numbers of
# {image ≤ η}, by your code of task 5.


# %% nbgrader={"grade": false, "grade_id": "ps1-curve", "locked": false, "schema_version": 3, "solution": true, "task": false}
def betti_curve(image, thresholds):
    """Betti numbers (T, 3) of the sublevel sets of an image (H, W) at T thresholds."""
    ### BEGIN SOLUTION
    # solution-marker-ps1-curve
    return np.array([betti(image[None] <= eta) for eta in thresholds])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps1-curve-test-crater", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
crater = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]])
found = np.asarray(betti_curve(crater, [0, 1, 4.5, 5]))
assert found.shape == (4, 3), f"4 thresholds give an array (4, 3), yours is {found.shape}"
expected = [[0, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0]]
assert found.tolist() == expected, (
    f"a rim of 1 around a peak of 5, at 0, 1, 4.5 and 5: expected {expected}, yours "
    f"{found.tolist()}. The sublevel set holds the points with value <= eta, those at eta too"
)

# %% nbgrader={"grade": true, "grade_id": "ps1-curve-test-images", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
image = np.random.default_rng(0).integers(0, 256, size=(9, 12)).astype(np.uint8)
found = np.asarray(betti_curve(image, [-1, 255]))
assert found.tolist() == [[0, 0, 0], [1, 0, 0]], (
    "below its least value an image has no points, at its greatest value all of them, in one piece; "
    f"yours: {found.tolist()}"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps1-curve
thresholds = sorted({*range(0, 256, 25), *image[:2].ravel().tolist()})
found = np.asarray(betti_curve(image, thresholds))
expected = betti_numbers(image, thresholds)
wrong = [eta for eta, a, b in zip(thresholds, found, expected, strict=True) if (a != b).any()]
assert not wrong, (
    f"a random picture has other Betti numbers at {len(wrong)} of {len(thresholds)} thresholds, the "
    f"first of them {wrong[:1]}: {{image <= eta}} holds the points at eta too (task 7)"
)
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-figure-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# Your code looks at a photograph: a Chinese temple, in grey, reduced to 32 × 48 points.

# %% nbgrader={"grade": false, "grade_id": "ps1-figure-photograph", "locked": true, "schema_version": 3, "solution": false, "task": false}
photograph = Image.fromarray(load_sample_image("china.jpg")).convert("L").resize((48, 32))
photograph = np.asarray(photograph)
thresholds = np.linspace(0, 255, 18)
curves = betti_curve(photograph, thresholds)
figure, axes = plt.subplots(2, 3, figsize=(9, 5.6), height_ratios=(1, 1.3))
for ax, eta in zip(axes[0], (60, 120, 200), strict=True):
    ax.imshow(photograph, cmap="gray")
    ax.imshow(np.where(photograph <= eta, 1.0, np.nan), cmap="cool", alpha=0.6)
    ax.set(title=f"{{f ≤ {eta}}}", xticks=[], yticks=[])
    ax.grid(False)
for ax in axes[1]:
    ax.remove()
ax = figure.add_subplot(2, 1, 2)
plot_betti_curves(ax, thresholds, curves)
ax.set_xlabel("threshold η (0 black, 255 white)")
plt.show()

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-digits-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# And at the digits that come with scikit-learn: 8 × 8 points, ink up to 16. The sublevel set of the
# *negative* image at −8 holds the points with at least half of the ink.

# %% nbgrader={"grade": false, "grade_id": "ps1-figure-digits", "locked": true, "schema_version": 3, "solution": false, "task": false}
digits = load_digits()
figure, axes = plt.subplots(2, 5, figsize=(9, 4))
for digit, ax in enumerate(axes.flat):
    image = digits.images[np.flatnonzero(digits.target == digit)[0]]
    b0, b1, _ = betti_curve(-image, [-8])[0]
    ax.imshow(image >= 8, cmap="gray_r")
    ax.set(title=f"{digit}: β₀ = {b0}, β₁ = {b1}", xticks=[], yticks=[])
    ax.title.set_color(COLOURS[1] if b1 else "black")
    ax.grid(False)
plt.show()

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps1-meaning-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 8: what the curves say (6 points, marked by hand)
#
# In about ten sentences:
#
# 1. In the photograph, at which thresholds are there the most components, and the most tunnels? What
#    in the picture are they? Why does β₀ fall again?
# 2. Why is β₂ zero throughout? How could a picture have cavities?
# 3. GUDHI's other way, `top_dimensional_cells=`, joins points across a diagonal. Which of the numbers
#    of a photograph would it change, in which direction, and what does that say about numbers that
#    are published without a word on it?
# 4. Which digits do β₀ and β₁ tell apart, and which never? Name one digit above whose numbers are not
#    what you expected, and say why.

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps1-meaning", "locked": false, "points": 6, "schema_version": 3, "solution": true, "task": false}
# <!-- solution-marker-ps1-meaning -->
# A full answer (points in brackets)
#
# - reads both peaks off the figure and names what is there: components are dark spots (windows,
#   shadows, trees), one for each local minimum; tunnels are bright spots enclosed by darker points
#   (1); β₀ falls since spots meet as η grows, until all is one piece (1);
# - says that one layer of points encloses nothing: a cavity needs points in front of it and behind
#   it. With several channels, or several blocks of a network's output, read as a volume there are
#   some (1);
# - says that with diagonals there are fewer components (or as many), that tunnels are closed off or
#   opened elsewhere, so that the numbers differ though picture and threshold are the same; a figure
#   without its construction cannot be compared with another (2);
# - sees that 0, 6 and 9 have one tunnel and 8 two, and that 1, 2, 3, 5 and 7 have the same numbers; and
#   explains one exception by the coarse grid and the threshold: a loop that does not close, or strokes
#   that touch only at a diagonal (1).
