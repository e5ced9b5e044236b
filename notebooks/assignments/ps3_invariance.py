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

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-intro", "locked": true, "schema_version": 3, "solution": false, "task": false}
# # Problem set 3: a fair test of an invariance
#
# "The curve of topological complexity does not depend on this" is easily said: any two curves look
# alike from far enough, and any two differ when one looks closely. In this set you build a test
# that could come out either way, state beforehand what would count against the claim, run it once,
# and write the verdict.
#
# The claim is yours to choose in task 4: that some change of the pictures (mirrored, turned upside
# down, without colour, ...) leaves the curve of Ω by block as it was.
#
# | task | what | points |
# |---|---|---|
# | 1 | the distance | 4 |
# | 2 | resamples, paired and unpaired | 4 |
# | 3 | what noise alone makes | 4 |
# | 4 | the change, and what should differ | 4 |
# | 5 | the control | 3 |
# | 6 | how many images | 3 |
# | 7 | the rule | 2 |
# | 8 | your design, before the result (marked by hand) | 4 |
# | 9 | your verdict (marked by hand) | 6 |
#
# About two hours. You need what chapters *Does complexity fall with depth?* and *Does the size of the input matter?*
# explain: Ω by block, the bootstrap, the ratio of two distances. Replace what stands at `YOUR CODE
# HERE` and `YOUR ANSWER HERE`; the cell after each task tests it, and more tests are run when the
# set is graded. Restart the kernel and run all cells before you hand it in.

# %% nbgrader={"grade": false, "grade_id": "ps3-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np
import torch
from matplotlib import pyplot as plt

from topo_utils import embedding_profile, load_images, topological_complexity
from topo_utils.plotting import COLOURS, plot_curves, use_style

use_style()
SIZE = 96  # height and width of the pictures, in pixels
DATA = ("imagenet_samples", "cifar10_samples", "mnist_samples")
pictures = {name: load_images(name, SIZE)[0] for name in DATA}  # tensors (20, 3, SIZE, SIZE)


def measure(images):
    """Omega at eta = 0 in EfficientNet-Lite0, shape (images, blocks)."""
    profile = embedding_profile("efficientnet_lite0", images, thresholds=0.0, progress=False)
    return topological_complexity(profile).sel(threshold=0.0).values


def example(n_images, n_blocks, seed):
    """Omega that was made up, for tests: a falling curve, and images that scatter around it."""
    rng = np.random.default_rng(seed)
    level = np.geomspace(900, 40, n_blocks)
    return rng.gamma(8.0, level / 8.0, size=(n_images, n_blocks)).round()


# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-distance-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 1: the distance (4 points)
#
# Ω of N images at L blocks is an array (N, L). Its **shape** is a vector of 32 numbers, made in this
# order:
#
# 1. the mean over images, (L,);
# 2. log(1 + mean);
# 3. linear interpolation onto 32 evenly spaced points of relative depth, where the first block is
#    at 0 and the last at 1 (`np.interp`), so that networks with other numbers of blocks compare;
# 4. minus its own mean over the 32 points, so that a factor that all blocks share makes no
#    difference.
#
# The **distance** of two arrays is the root of the mean, over the 32 points, of the squared
# difference of their shapes.


# %% nbgrader={"grade": false, "grade_id": "ps3-distance", "locked": false, "schema_version": 3, "solution": true, "task": false}
def shape(omega):
    """The shape of Omega (images, blocks): 32 numbers with mean 0."""
    ### BEGIN SOLUTION
    # solution-marker-ps3-distance
    logs = np.log1p(omega.mean(axis=0))
    depth = np.linspace(0, 1, len(logs))
    curve = np.interp(np.linspace(0, 1, 32), depth, logs)
    return curve - curve.mean()
    ### END SOLUTION


def distance(omega_a, omega_b):
    """Root mean square difference of two shapes."""
    ### BEGIN SOLUTION
    # solution-marker-ps3-distance
    return np.sqrt(np.mean((shape(omega_a) - shape(omega_b)) ** 2))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps3-distance-test-shape", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
found = np.asarray(shape(np.array([[np.e - 1, np.e**3 - 1]])))
assert found.shape == (32,), (
    f"shape gives an array of shape {found.shape}; expected: (32,), one number for each point of "
    "relative depth (step 3)"
)
assert np.allclose(found, np.linspace(-1, 1, 32)), (
    "two blocks with log(1 + mean) = 1 and 3: the shape is a straight line from -1 to 1 "
    f"(steps 2 to 4); yours goes from {found[0]:.3f} to {found[-1]:.3f}"
)
two_images = np.array([[0.0, 10.0, 5.0], [100.0, 10.0, 45.0]])
assert np.allclose(shape(two_images), shape(two_images.mean(axis=0, keepdims=True))), (
    "two images must give the shape of their mean: the mean over images comes before the logarithm "
    "(steps 1 and 2)"
)

# %% nbgrader={"grade": true, "grade_id": "ps3-distance-test-rms", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
one, other = example(12, 16, 0), example(12, 21, 1)
assert distance(one, one) == 0, "the distance of a curve from itself must be 0"
assert np.isclose(distance(one, other), distance(other, one)), (
    "the distance must be the same from a to b as from b to a, also with 16 and 21 blocks"
)
scaled = 7 * (1 + one) - 1
assert distance(one, scaled) < 1e-9, (
    "where 1 + Omega is 7 times as large at every block, the distance must be 0, since the shape "
    f"is less its own mean (step 4); yours is {distance(one, scaled):.3f}"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps3-distance
from topo_utils import profile_distance

for a, b in ((one, other), (example(3, 5, 2), example(9, 30, 3))):
    expected = profile_distance(a, b)
    assert np.isclose(distance(a, b), expected), (
        f"the distance of two made-up curves is {expected:.6f} by the definition in task 1; yours "
        f"is {distance(a, b):.6f} (the mean of 32 squares, and its root)"
    )
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-resamples-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 2: resamples (4 points)
#
# How far would the distance move with other images? A bootstrap answers: draw as many images as
# there are, *with replacement*, and compute the distance again, many times.
#
# Where row i of both arrays is the same picture before and after a change, the two sides are
# **paired**: both must be given the same draw, or the difference between pictures, which both sides
# share, is counted as if it were noise. Where the pictures are different ones, each side has a draw
# of its own, and the two may have different numbers of images.


# %% nbgrader={"grade": false, "grade_id": "ps3-resamples", "locked": false, "schema_version": 3, "solution": true, "task": false}
def resampled_distances(omega_a, omega_b, paired, n_resamples, rng):
    """Distances (n_resamples,) of images drawn with replacement; `rng` is a numpy Generator."""
    ### BEGIN SOLUTION
    # solution-marker-ps3-resamples
    distances = []
    for _ in range(n_resamples):
        draw_a = rng.integers(len(omega_a), size=len(omega_a))
        draw_b = draw_a if paired else rng.integers(len(omega_b), size=len(omega_b))
        distances.append(distance(omega_a[draw_a], omega_b[draw_b]))
    return np.array(distances)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps3-resamples-test-unpaired", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
a, b = example(12, 16, 0), example(9, 16, 1)
drawn = np.asarray(resampled_distances(a, b, False, 200, np.random.default_rng(0)))
assert drawn.shape == (200,), f"200 resamples give 200 distances; yours have shape {drawn.shape}"
assert drawn.std() > 0, (
    "all resamples gave one distance: draw with replacement, so that some images come twice and "
    "others not at all"
)
constant = np.repeat(a[:1], 10, axis=0), np.repeat(b[:1], 10, axis=0)
drawn = resampled_distances(*constant, False, 20, np.random.default_rng(0))
assert np.allclose(drawn, distance(*constant)), (
    "where all images of a side are equal, every draw of images gives the same distance; yours "
    "differ: draw images (rows), not blocks (columns)"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps3-resamples-unpaired
a, b = example(20, 16, 4), example(20, 16, 5)
drawn = np.asarray(resampled_distances(a, b, False, 600, np.random.default_rng(1)))
again = [distance(example(20, 16, 100 + 2 * i), example(20, 16, 101 + 2 * i)) for i in range(100)]
share = np.mean(drawn**2) / (2 * np.mean(np.square(again)))
assert 0.5 < share < 2, (
    "the bootstrap distance of unpaired samples scatters by too much or too little: draw as many "
    "images as each side has, each side on its own"
)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "ps3-resamples-test-paired", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
a = example(12, 16, 0)
drawn = np.asarray(resampled_distances(a, a, True, 50, np.random.default_rng(0)))
assert np.allclose(drawn, 0), (
    "a change that changes nothing, paired: each resample must have distance 0, since both sides "
    f"are given the same images; yours go up to {drawn.max():.3f}"
)
drawn = np.asarray(resampled_distances(a, a, False, 50, np.random.default_rng(0)))
assert drawn.max() > 0, "unpaired, each side has a draw of its own, so that the distances are not 0"

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-floor-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 3: what noise alone makes (4 points)
#
# The distance of two noisy means is never 0, so it is too large. By how much, the images tell
# themselves. Split them at random into two halves (of N / 2 images, rounded down; paired: the same
# split on both sides), and let A₁, A₂ and B₁, B₂ be the shapes of the halves of both sides. A real
# difference of A and B is the same in both halves and drops out of
#
# $$\delta = (A_1 - B_1) - (A_2 - B_2).$$
#
# What is left is noise: each of A₁ − B₁ and A₂ − B₂ has twice the variance of the difference of
# the wholes (half as many images), and δ, the difference of the two, twice that again. So the
# **floor** f is
#
# $$f^2 = \tfrac14 \operatorname{mean}(\delta^2)$$
#
# with the mean over the 32 points and over many splits.


# %% nbgrader={"grade": false, "grade_id": "ps3-floor", "locked": false, "schema_version": 3, "solution": true, "task": false}
def noise_floor(omega_a, omega_b, paired, n_splits, rng):
    """The distance that noise alone makes; `rng` is a numpy Generator."""
    ### BEGIN SOLUTION
    # solution-marker-ps3-floor
    squares = []
    for _ in range(n_splits):
        order_a = rng.permutation(len(omega_a))
        order_b = order_a if paired else rng.permutation(len(omega_b))
        half_a, half_b = len(omega_a) // 2, len(omega_b) // 2
        first = shape(omega_a[order_a[:half_a]]) - shape(omega_b[order_b[:half_b]])
        second = shape(omega_a[order_a[half_a : 2 * half_a]])
        second = second - shape(omega_b[order_b[half_b : 2 * half_b]])
        squares.append(np.mean((first - second) ** 2))
    return np.sqrt(np.mean(squares) / 4)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps3-floor-test-zero", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
a = example(12, 16, 0)
floor = noise_floor(a, 3 * (1 + a) - 1, True, 20, np.random.default_rng(0))
assert abs(floor) < 1e-9, (
    "paired sides of one shape: halves that hold the same images on both sides leave no noise, so "
    f"the floor is 0; yours is {floor:.3f}"
)
assert noise_floor(a, a, False, 20, np.random.default_rng(0)) > 0, (
    "unpaired, the halves of both sides hold different images, and the floor is above 0"
)

# %% nbgrader={"grade": true, "grade_id": "ps3-floor-test-size", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Two samples of the same thing: on average, squared distance and squared floor must agree.
pairs = [(example(20, 16, 2 * i), example(20, 16, 2 * i + 1)) for i in range(60)]
seen = np.sqrt(np.mean([distance(a, b) ** 2 for a, b in pairs]))
rng = np.random.default_rng(0)
said = np.sqrt(np.mean([noise_floor(a, b, False, 10, rng) ** 2 for a, b in pairs]))
assert 0.85 < said / seen < 1.15, (
    f"samples of the same thing differ by {seen:.3f}, and your floor says {said:.3f}: the two must "
    "agree (is delta squared divided by 4, and the root taken at the end?)"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps3-floor
far = [(a, b * np.linspace(1, 30, 16)) for a, b in pairs[:30]]
said_far = np.sqrt(np.mean([noise_floor(a, b, False, 10, rng) ** 2 for a, b in far]))
assert 0.8 < said_far / seen < 1.2, (
    f"a real difference of the two sides must drop out of the floor: samples that differ by noise "
    f"have {seen:.3f}, and with a real difference added yours says {said_far:.3f}; expected: nearly "
    "the same (the definition of delta in task 3)"
)
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-change-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 4: the change, and what should differ (4 points)
#
# Choose the change under test: a function of a batch of normalised pictures (N, 3, H, W) that gives
# a batch of the same shape, picture by picture (what becomes of one does not depend on the others).
# Some candidates: mirrored, upside down, turned by 90°, without colour, with red and blue exchanged,
# blurred, moved by a few pixels.
#
# A distance alone is neither small nor large. Choose the pairs of data sets, at least one, that
# *should* differ: their median distance is the unit. The data sets are those in `DATA`. (The more
# these differ, the smaller your ratio will be: task 8 asks why this unit is fair.)


# %% nbgrader={"grade": false, "grade_id": "ps3-change", "locked": false, "schema_version": 3, "solution": true, "task": false}
def change(images):
    """The change under test: (N, 3, H, W) to (N, 3, H, W)."""
    ### BEGIN SOLUTION
    # solution-marker-ps3-change
    return images.flip(-1)  # mirrored: the columns in the other order
    ### END SOLUTION


def what_should_differ():
    """A list of pairs (name, name) of data sets."""
    ### BEGIN SOLUTION
    # solution-marker-ps3-change
    return [
        ("imagenet_samples", "cifar10_samples"),
        ("imagenet_samples", "mnist_samples"),
        ("cifar10_samples", "mnist_samples"),
    ]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps3-change-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
batch = pictures["imagenet_samples"][:4]
before = batch.clone()
after = change(batch)
assert isinstance(after, torch.Tensor), f"change must give a tensor; yours gives {type(after)}"
assert after.shape == batch.shape, (
    f"change must give a tensor of shape {tuple(batch.shape)}, as it was given; yours has shape "
    f"{tuple(after.shape)}"
)
assert torch.equal(batch, before), (
    "change has changed the tensor that it was given: work on a copy (images.clone()), or the "
    "originals are lost"
)
assert (after != batch).any(dim=(1, 2, 3)).all(), "some picture is not changed at all"
assert torch.allclose(change(batch[2:]), after[2:], atol=1e-5), (
    "the change of a picture must not depend on the other pictures of the batch, or the two sides "
    "are not paired (task 2): compute picture by picture"
)

# %% nbgrader={"grade": true, "grade_id": "ps3-differ-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
comparisons = [tuple(pair) for pair in what_should_differ()]
assert comparisons, "the list of pairs is empty: without a unit there is no ratio (task 4)"
assert all(len(pair) == 2 and set(pair) <= set(DATA) for pair in comparisons), (
    f"the pairs are {comparisons}; expected: pairs of names out of {DATA}"
)
assert all(len(set(pair)) == 2 for pair in comparisons), (
    "a pair names one data set twice: its distance is 0, and nothing can be divided by it"
)

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-control-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 5: the control (3 points)
#
# A test that cannot say no shows nothing. So one change is added that *must* be noticed if the curve
# has anything to do with what is on the pictures: all pixels of a picture in random order. A pixel
# keeps its three values (its colour), every picture has an order of its own, and no pixel moves from
# one picture to another.


# %% nbgrader={"grade": false, "grade_id": "ps3-control", "locked": false, "schema_version": 3, "solution": true, "task": false}
def shuffle_pixels(images, rng):
    """Each picture of (N, 3, H, W) with its pixels in random order; `rng` is a numpy Generator."""
    ### BEGIN SOLUTION
    # solution-marker-ps3-control
    shuffled = []
    for image in images:
        order = torch.from_numpy(rng.permutation(image[0].numel()))
        shuffled.append(image.flatten(1)[:, order].reshape(image.shape))
    return torch.stack(shuffled)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps3-control-test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
counted = torch.arange(2.0 * 3 * 8 * 8).reshape(2, 3, 8, 8)  # every value occurs once
shuffled = shuffle_pixels(counted, np.random.default_rng(0))
assert shuffled.shape == counted.shape, (
    f"the pictures have shape {tuple(counted.shape)}; shuffled they have {tuple(shuffled.shape)}"
)
for i in range(2):
    assert torch.equal(shuffled[i].flatten(1).sort().values, counted[i].flatten(1)), (
        "each channel of a picture must keep its own values: pixels change places within their "
        "picture and channel, and none is lost or doubled"
    )
    assert torch.equal(shuffled[i, 1], shuffled[i, 0] + 64), (
        "a pixel must keep its colour: one order for all three channels of a picture"
    )
    assert (shuffled[i] != counted[i]).any(), "a picture is left in its order: shuffle all of them"
### BEGIN HIDDEN TESTS
# hidden-marker-ps3-control
assert not torch.equal(shuffled[0], shuffled[1] - 192), (
    "both pictures have the same order: draw one for each picture (task 5)"
)
moved = (shuffled[0, 0] != counted[0, 0]).float().mean()
assert moved > 0.8, "most pixels stayed where they were: expected is a random order of all pixels"
columns = shuffled[0, 0] % 8
assert not (columns == columns[:1]).all(), "whole columns were moved: shuffle single pixels"
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-size-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 6: how many images (3 points)
#
# The floor is a standard error: it falls like 1/√N. A pilot with N images has the floor f. How many
# images bring it down to a wanted value? (A whole number: as many as are needed, no less.)


# %% nbgrader={"grade": false, "grade_id": "ps3-size", "locked": false, "schema_version": 3, "solution": true, "task": false}
def images_needed(floor, n_images, wanted):
    """Number of images (int) that brings the floor of a pilot down to `wanted`."""
    ### BEGIN SOLUTION
    # solution-marker-ps3-size
    # Rounded first, so that an exact quotient is not lifted by its last bit.
    return int(np.ceil(round(n_images * (floor / wanted) ** 2, 6)))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps3-size-test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
needed = images_needed(0.1, 6, 0.05)
assert needed == 24, (
    "6 images have a floor of 0.1; half of it needs four times as many, 24, since it falls like "
    f"1/sqrt(N); yours: {needed}"
)
assert images_needed(0.08, 10, 0.08) == 10, "the floor that is wanted is there: 10 images stay 10"
### BEGIN HIDDEN TESTS
# hidden-marker-ps3-size
needed = images_needed(0.1, 6, 0.07)
assert needed == 13, (
    f"from 0.1 to 0.07 with 6 images: 12.2, so 13 whole images are needed; yours: {needed!r}"
)
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-pilot-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# The pilot: the first six pictures under your change, before you look at anything else. The wanted
# floor is a twentieth of the unit.

# %% nbgrader={"grade": false, "grade_id": "ps3-measure", "locked": true, "schema_version": 3, "solution": false, "task": false}
subject = "imagenet_samples"
omega = {name: measure(images) for name, images in pictures.items()}

# %% nbgrader={"grade": false, "grade_id": "ps3-pilot", "locked": true, "schema_version": 3, "solution": false, "task": false}
pilot = measure(change(pictures[subject][:6]))
rng = np.random.default_rng(0)
unit = np.median([distance(omega[a], omega[b]) for a, b in what_should_differ()])
pilot_floor = noise_floor(pilot, omega[subject][:6], True, 200, rng)
needed = images_needed(pilot_floor, 6, unit / 20)
n_images = min(max(needed, 8), len(pictures[subject]))
print(f"unit {unit:.3f}, floor of six pictures {pilot_floor:.3f}")
print(f"for a floor of {unit / 20:.3f}: {needed} pictures; used: {n_images}")

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-rule-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 7: the rule (2 points)
#
# The ratio is the distance under the change over the unit; its 95 % interval goes from `low` to
# `high`. The rule of the book: `"reproduced"` when the *whole interval* is below 0.25, `"not
# reproduced"` when the whole interval is above 0.5, and `"reproduced with limits"` otherwise.


# %% nbgrader={"grade": false, "grade_id": "ps3-rule", "locked": false, "schema_version": 3, "solution": true, "task": false}
def verdict(low, high):
    """The verdict, by the interval of the ratio."""
    ### BEGIN SOLUTION
    # solution-marker-ps3-rule
    if high < 0.25:
        return "reproduced"
    return "not reproduced" if low > 0.5 else "reproduced with limits"
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps3-rule-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
for low, high, expected in (
    (0.0, 0.2, "reproduced"),
    (0.6, 0.9, "not reproduced"),
    (0.3, 0.4, "reproduced with limits"),
):
    assert verdict(low, high) == expected, (
        f"interval [{low}, {high}]: expected {expected!r} by the rule in task 7, yours is "
        f"{verdict(low, high)!r}"
    )
### BEGIN HIDDEN TESTS
# hidden-marker-ps3-rule
for low, high in ((0.0, 0.3), (0.0, 0.9), (0.4, 0.9), (0.45, 0.52)):
    assert verdict(low, high) == "reproduced with limits", (
        f"interval [{low}, {high}] reaches over a limit of the rule: the whole interval must lie "
        f"below 0.25 or above 0.5, else it is 'reproduced with limits'; yours is "
        f"{verdict(low, high)!r}"
    )
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-design-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 8: your design (4 points, marked by hand)
#
# Before you run the cells below: which change do you test, and what do you expect, and why? Why is
# your unit a fair one? Is the number of pictures enough for a verdict, by the pilot? Which result
# would make you say that the claim is wrong, and which would make you doubt the test?

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps3-design", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# <!-- solution-marker-ps3-design -->
# A full answer (one point each) names
#
# - the change, with an expectation that has a reason: here, mirrored pictures. Mirroring a volume
#   changes none of its Betti numbers, but the network's weights are not symmetric, so its blocks do
#   not give mirrored volumes. It was trained on pictures mirrored at random, so it has learned to
#   treat both alike, and a small ratio is to be expected;
# - why the unit is fair: the pairs are of data sets whose pictures differ in content, measured in
#   the same network, at the same size and threshold. And its weakness: enlarged small pictures and
#   digits differ from photographs by blur and empty ground as well, which makes the unit large and
#   the ratio small;
# - the number of pictures against the pilot: enough if no more are needed than there are; if not,
#   the interval will be wide, and a ratio near a limit cannot be judged;
# - what would speak against the claim (the whole interval above 0.5), and what against the test: the
#   shuffled pixels come out as "reproduced", or the two halves of the same pictures do not.

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-result-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## The result
#
# Everything above, put together. From a squared distance the squared floor is subtracted once; from
# that of a resample twice, since it has the noise of the sample and that of the draw. What would be
# negative counts as 0.

# %% nbgrader={"grade": false, "grade_id": "ps3-result", "locked": true, "schema_version": 3, "solution": false, "task": false}
original = omega[subject][:n_images]
curves = {
    "original": original,
    "changed": measure(change(pictures[subject][:n_images])),
    "pixels shuffled (control)": measure(
        shuffle_pixels(pictures[subject][:n_images], np.random.default_rng(1))
    ),
}


def corrected(a, b, paired, rng, n=1000):
    """The distance and its resamples (n,), the floor subtracted."""
    floor = noise_floor(a, b, paired, 200, rng)
    square, squares = distance(a, b) ** 2, resampled_distances(a, b, paired, n, rng) ** 2
    return np.sqrt(max(square - floor**2, 0)), np.sqrt(np.maximum(squares - 2 * floor**2, 0))


rng = np.random.default_rng(2)
units = [corrected(omega[a], omega[b], False, rng) for a, b in what_should_differ()]
unit = np.median([each[0] for each in units])
unit_drawn = np.median([each[1] for each in units], axis=0)
half = n_images // 2
tested = {
    "your change": (curves["changed"], original, True),
    "control: pixels shuffled": (curves["pixels shuffled (control)"], original, True),
    "one half against the other": (original[:half], original[half:], False),
}
ratios = {}
for name, sides in tested.items():
    value, drawn = corrected(*sides, rng)
    low, high = np.percentile(drawn / unit_drawn, [2.5, 97.5])
    ratios[name] = value / unit, low, high
    print(f"{name}: {value / unit:.2f} [{low:.2f}, {high:.2f}], {verdict(low, high)}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2), width_ratios=[1.2, 1])
plot_curves(left, curves, dashed=["pixels shuffled (control)"])
for i, (value, low, high) in enumerate(ratios.values()):
    right.plot([low, high], [i, i], color=COLOURS[i], lw=2)
    right.plot(value, i, "o", color=COLOURS[i])
for limit in (0.25, 0.5):
    right.axvline(limit, color="#555555", lw=1, ls=":")
right.set(yticks=range(len(ratios)), yticklabels=ratios, ylim=(len(ratios) - 0.5, -0.5))
right.set(xlim=(0, None), xlabel="ratio to what should differ, 95 % interval")
plt.show()

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps3-verdict-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 9: your verdict (6 points, marked by hand)
#
# Write the verdict as you would in a paper, in ten sentences at most: the claim as you tested it,
# the number with its interval and what the rule says of it; what the control and the two halves say
# of the test; what the answer would be with another unit (try one: change `what_should_differ` and
# run the cells again); what the result does not cover. Then say whether you believe the claim.

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps3-verdict", "locked": false, "points": 6, "schema_version": 3, "solution": true, "task": false}
# <!-- solution-marker-ps3-verdict -->
# A full answer (one point each)
#
# - states the claim as narrowly as it was tested: this change, this network, these pictures, this
#   size, η = 0, and the shape of the curve, not its level;
# - gives ratio, interval and the rule's word for it, and does not call a ratio of 0 "no difference":
#   the upper end of the interval is what could have been overlooked;
# - reads the control: only where it lies well above the change does the test see what is on the
#   pictures. Where the control is not "not reproduced" either, the unit is so large that the rule
#   lets even destroyed pictures pass in part, and that must be said;
# - reads the halves: a split of the same pictures must come out near 0, and the width of its
#   interval is the resolution of the test;
# - tries another unit and reports what it does to the verdict: a pair that differs less makes every
#   ratio larger;
# - names at least two limits (one network, few pictures, one threshold, one size, one order of the
#   channels, the shape only), and comes to a conclusion that follows from the above.
