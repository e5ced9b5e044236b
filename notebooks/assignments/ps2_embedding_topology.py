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

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-intro", "locked": true, "schema_version": 3, "solution": false, "task": false}
# # Problem set 2: the topology of embeddings
#
# A network turns a picture into one volume after another. How complicated are they? In this set you
# listen to a network that was trained on ImageNet, count the components, tunnels and cavities of each
# block's output, and find that the count falls with depth. Then you ask whether that means anything,
# by counting the same values in a random order.
#
# | task | what | points |
# |---|---|---|
# | 1 | hooks: what every block gives | 6 |
# | 2 | complexity by block | 5 |
# | 3 | the decay, and its interval | 6 |
# | 4 | two nulls | 6 |
# | 5 | the decay relative to a null | 5 |
# | 6 | what follows (marked by hand) | 8 |
#
# About two hours. You need PyTorch's modules and tensors, least squares, and what chapters
# *Components, tunnels and cavities* and *Does complexity fall with depth?* explain. Replace what stands at
# `YOUR CODE HERE` and `YOUR ANSWER HERE`; the cell after each task tests it, and more tests are run
# when the set is graded. Restart the kernel and run all cells before you hand it in.
#
# Write the measurement yourself: `topo_utils.embedding_profile` and `topo_utils.decay`, which do all
# of this, serve for the tests only.

# %% nbgrader={"grade": false, "grade_id": "ps2-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import nn

from topo_utils import (
    betti_numbers,
    decay,
    embedding_profile,
    load_images,
    load_model,
    model_blocks,
    open_images,
    topological_complexity,
)
from topo_utils.plotting import COLOURS, log_counts, use_style

use_style()
DATASET, N_IMAGES = "imagenet_samples", 8  # unless you choose others below

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-images-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Your images
#
# Eight of the pictures that come with the book, 96 × 96 pixels. Take your own: put eight or more
# into a folder and write `DATASET = "folder:~/Pictures/mine"`. (For handing in, set it back: the
# folder is not there where your notebook is graded. Report your numbers in task 6.)

# %%
DATASET = "imagenet_samples"
N_IMAGES = 8

# %% nbgrader={"grade": false, "grade_id": "ps2-network", "locked": true, "schema_version": 3, "solution": false, "task": false}
SIZE = 96  # height and width in pixels
images = load_images(DATASET, SIZE, N_IMAGES)[0]  # a tensor (N, 3, SIZE, SIZE), normalised
trained = load_model("efficientnet_lite0")
untrained = load_model("efficientnet_lite0", weights="random", seed=0)
blocks = model_blocks(trained)
opened = open_images(DATASET, SIZE, N_IMAGES)
figure, axes = plt.subplots(1, len(images), figsize=(9, 1.4))
for i, ax in enumerate(axes):
    ax.imshow(opened.picture(i).resize((SIZE, SIZE)))
    ax.set_axis_off()
plt.show()
print(f"{len(blocks)} blocks: {blocks[0]}, {blocks[1]}, ..., {blocks[-1]}")

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-hooks-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 1: hooks (6 points)
#
# `module.register_forward_hook(function)` lets PyTorch call `function(module, inputs, output)` each
# time the module has run, and returns a handle whose `remove()` ends that. The modules by name are
# `dict(model.named_modules())`.
#
# Return what each of the named modules gives in one forward pass of the images, such that
#
# - the network is in **eval mode** (in training mode batch norm would use the statistics of these few
#   images, and change its own), and no gradients are recorded (`torch.no_grad()`);
# - every output is a **copy** (`output.clone()`): an in-place layer that comes next overwrites the
#   tensor which your hook was given;
# - afterwards there are **no hooks** left in the network, or they would pile up from call to call.


# %% nbgrader={"grade": false, "grade_id": "ps2-hooks", "locked": false, "schema_version": 3, "solution": true, "task": false}
def block_outputs(model, names, images):
    """What modules give for images (N, 3, H, W): a dictionary from name to tensor."""
    ### BEGIN SOLUTION
    # solution-marker-ps2-hooks
    outputs, handles = {}, []
    modules = dict(model.named_modules())
    for name in names:

        def hook(module, inputs, output, name=name):
            outputs[name] = output.clone()

        handles.append(modules[name].register_forward_hook(hook))
    model.eval()
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return outputs
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps2-hooks-test-names", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
torch.manual_seed(0)
small = nn.Sequential(
    nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3)
)
batch = torch.randn(5, 3, 8, 8)
given = block_outputs(small, ["0", "3"], batch)
assert set(given) == {"0", "3"}, (
    f"asked for the modules '0' and '3', the dictionary has {sorted(given)}. If the last name stands "
    "for all: a function made in a loop sees the loop's last value, so give it name=name"
)
assert given["0"].shape == (5, 4, 6, 6), "module '0' gives (5, 4, 6, 6) for five images of 8 x 8"
assert given["3"].shape == (5, 2, 4, 4), "module '3' gives (5, 2, 4, 4) for five images of 8 x 8"
assert not given["3"].requires_grad, "no gradients are wanted: run the network in torch.no_grad()"

# %% nbgrader={"grade": true, "grade_id": "ps2-hooks-test-copy", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
given = block_outputs(small, ["1", "2"], batch)
assert (given["1"] < 0).any(), (
    "batch norm (module '1') gives negative numbers, but in your output there are none: the in-place "
    "ReLU that comes next has overwritten them. Keep a copy (output.clone())"
)

# %% nbgrader={"grade": true, "grade_id": "ps2-hooks-test-state", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
small.train()
before = small[1].running_mean.clone()
given = block_outputs(small, ["1"], batch)
assert torch.equal(small[1].running_mean, before), (
    "the forward pass has changed the running mean of batch norm: put the network into eval mode"
)
left = sum(len(module._forward_hooks) for module in small.modules())
assert left == 0, f"{left} hooks are left in the network: call remove() on every handle"
### BEGIN HIDDEN TESTS
# hidden-marker-ps2-hooks
one = block_outputs(small, ["1"], batch[:1])["1"]
assert torch.allclose(one, given["1"][:1], atol=1e-5), (
    "an image gives other values alone than among others: in eval mode batch norm uses its running "
    "statistics, not those of the images (task 1)"
)
for name in ("0", "1", "3"):
    small.eval()
    with torch.no_grad():
        expected = small[: int(name) + 1](batch)
    found = block_outputs(small, ["3", name], batch)[name]
    if name != "1":
        assert torch.allclose(found, expected, atol=1e-5), (
            f"module {name} gives other values than the network itself (task 1)"
        )
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-omega-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 2: complexity by block (5 points)
#
# For one image, a block gives a volume (C, H, W), read as a function f on a grid. Its sublevel set
# at η is made of the points with **f ≤ η**. Its topological complexity is
#
# $$\Omega = \beta_0 + \beta_1 + \beta_2 .$$
#
# `betti_numbers(volume, eta)` counts the three for the sublevel set. Return Ω for every image and
# every block. If `null` is given, it is a function that takes a volume (a numpy array) and returns
# another one, which is to be counted in its place; you need this in task 4.


# %% nbgrader={"grade": false, "grade_id": "ps2-omega", "locked": false, "schema_version": 3, "solution": true, "task": false}
def complexity(model, names, images, eta=0.0, null=None):
    """Omega of images (N, 3, H, W) at L modules: an integer array (N, L)."""
    ### BEGIN SOLUTION
    # solution-marker-ps2-omega
    omega = np.zeros((len(images), len(names)), dtype=int)
    for i in range(len(images)):
        outputs = block_outputs(model, names, images[i : i + 1])
        for j, name in enumerate(names):
            volume = outputs[name][0].numpy()
            omega[i, j] = betti_numbers(volume if null is None else null(volume), eta).sum()
    return omega
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps2-omega-test-hollow", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
mirror = nn.Sequential(nn.Identity())  # it gives what it gets
hollow = torch.zeros(1, 3, 3, 3)
hollow[0, 1, 1, 1] = 1.0
found = np.asarray(complexity(mirror, ["0"], torch.cat([hollow, 0 * hollow, 1 + hollow])))
assert found.shape == (3, 1), f"three images at one block give an array (3, 1), not {found.shape}"
assert found[0, 0] == 2, (
    "a shell of zeros around a point of value 1: the sublevel set at 0 has one component and one "
    f"cavity, so Omega = 2; yours: {found[0, 0]}. The sublevel set has the points with f <= eta"
)
assert found[1:, 0].tolist() == [1, 0], (
    "zeros everywhere are one component, and values above eta give no points: Omega 1 and 0; yours: "
    f"{found[1:, 0].tolist()}"
)

# %% nbgrader={"grade": true, "grade_id": "ps2-omega-test-network", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
picture = load_images("imagenet_samples", 64, 2)[0]
found = complexity(trained, blocks[::5], picture[:1])
profile = embedding_profile(
    "efficientnet_lite0", picture[:1], thresholds=0.0, blocks=blocks[::5], progress=False
)
expected = topological_complexity(profile).sel(threshold=0.0).values
assert np.array_equal(found, expected), (
    f"one picture at blocks {blocks[::5]}: expected Omega {expected.tolist()}, yours "
    f"{np.asarray(found).tolist()}"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps2-omega
found = complexity(mirror, ["0"], hollow, eta=1.0)
assert found.tolist() == [[1]], (
    f"at eta = 1 the hollow is filled, Omega = 1; yours: {found.tolist()} (is eta used? task 2)"
)
found = complexity(mirror, ["0"], hollow, null=lambda volume: 0 * volume[:2])
assert found.tolist() == [[1]], (
    "with a null, its volume is counted in place of the block's own; this one gives only zeros, so "
    f"Omega = 1; yours: {found.tolist()} (task 2)"
)
for i in (0, 1):
    profile = embedding_profile(
        "efficientnet_lite0", picture[i : i + 1], thresholds=0.5, blocks=blocks, progress=False
    )
    expected = topological_complexity(profile).sel(threshold=0.5).values
    found = complexity(trained, blocks, picture[i : i + 1], eta=0.5)
    assert np.array_equal(found, expected), (
        f"picture {i} at eta = 0.5: expected Omega {expected.tolist()}, yours {found.tolist()}: the "
        "sum of the three Betti numbers of {f <= eta} (task 2)"
    )
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-decay-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 3: the decay, and its interval (6 points)
#
# Relative depth is 0 at the first block and 1 at the last, evenly spaced. The **decay** is the slope
# of the straight line, by least squares, through
#
# $$\log\left(1 + \text{mean of } \Omega \text{ over images}\right)$$
#
# on relative depth: first the mean over images, then the logarithm. It is negative when complexity
# falls; exp(decay) is the factor from first to last block along the line.
#
# Its **interval** comes from a bootstrap: draw as many *images* as there are, with replacement,
# compute the decay of these, and do so `n_resamples` times; the 2.5th and the 97.5th percentile are
# the ends.


# %% nbgrader={"grade": false, "grade_id": "ps2-decay", "locked": false, "schema_version": 3, "solution": true, "task": false}
def slope(omega):
    """Decay of Omega (N, L): slope of log(1 + mean over images) on relative depth."""
    ### BEGIN SOLUTION
    # solution-marker-ps2-decay
    logs = np.log1p(np.mean(omega, axis=0))
    return np.polyfit(np.linspace(0, 1, len(logs)), logs, 1)[0]
    ### END SOLUTION


def slope_interval(omega, rng, n_resamples=500):
    """Ends (low, high) of the 95 % interval of the decay; `rng` is a numpy Generator."""
    ### BEGIN SOLUTION
    # solution-marker-ps2-decay
    n = len(omega)
    slopes = [slope(omega[rng.integers(n, size=n)]) for _ in range(n_resamples)]
    return tuple(np.percentile(slopes, [2.5, 97.5]))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps2-decay-test-slope", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
straight = np.exp(np.linspace(6.0, 4.0, 9))[None] - 1
found = slope(straight)
assert np.isclose(found, -2.0), (
    "log(1 + Omega) that goes in a straight line from 6 to 4 has the decay -2; yours is "
    f"{found:.4f} (depth 0 at the first block and 1 at the last, whatever the number of blocks)"
)
uneven = np.array([[900.0, 30.0, 10.0], [10.0, 30.0, 0.0]])
found = slope(uneven)
assert np.isclose(found, slope(uneven.mean(axis=0, keepdims=True))), (
    "the decay of two images is that of their mean: first the mean over images, then the logarithm"
)
assert np.isclose(found, np.log(6 / 456)), (
    f"means 455, 30 and 5 have the decay log(6 / 456) = -4.3307; yours is {found:.4f}: is it the "
    "logarithm of 1 + mean?"
)

# %% nbgrader={"grade": true, "grade_id": "ps2-decay-test-interval", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
level = np.geomspace(800, 60, 10)
made_up = np.random.default_rng(0).gamma(6.0, level / 6, size=(12, 10)).round()
low, high = slope_interval(made_up, np.random.default_rng(1))
assert low < slope(made_up) < high, (
    f"the decay {slope(made_up):.3f} must lie within its interval, yours is [{low:.3f}, {high:.3f}]"
)
low, high = slope_interval(np.tile(made_up[:1], (5, 1)), np.random.default_rng(1))
assert np.isclose(low, high), (
    "five images that are equal leave no doubt, so the interval has no width; yours is "
    f"[{low:.3f}, {high:.3f}]: draw images (rows), not blocks (columns)"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps2-decay
expected = decay(made_up)
found = (slope(made_up), *slope_interval(made_up, np.random.default_rng(2), n_resamples=2000))
width = expected.high - expected.low
for name, a, b in zip(("decay", "lower end", "upper end"), found, expected, strict=True):
    assert abs(a - b) < 0.15 * width, (
        f"{name}: expected about {b:.3f}, yours is {a:.3f}: as many images as there are, with "
        "replacement; percentiles 2.5 and 97.5 (task 3)"
    )
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "ps2-figure-decay", "locked": true, "schema_version": 3, "solution": false, "task": false}
eta = 0.0
omega = complexity(trained, blocks, images, eta)
depth = np.linspace(0, 1, len(blocks))
figure, ax = plt.subplots()
ax.plot(depth, omega.T, color=COLOURS[0], alpha=0.3, lw=1)
ax.plot(depth, omega.mean(axis=0), color=COLOURS[0], marker="o", label="mean")
ax.set(xlabel="relative depth (first block 0, last block 1)", ylabel="Ω")
log_counts(ax)
ax.legend()
plt.show()
low, high = slope_interval(omega, np.random.default_rng(0))
print(f"decay {slope(omega):.2f} [{low:.2f}, {high:.2f}]")

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-null-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 4: two nulls (6 points)
#
# The volumes shrink with depth: fewer points have fewer components. And the distribution of the
# values changes. How much of the decay is that alone? A **null** keeps the size and the values of a
# volume and destroys their arrangement:
#
# - `shuffled`: all values of the volume in a random order. Space and channels are lost, the
#   distribution of the values stays.
# - `shuffled_within_channels`: the values of each channel in a random order of its own. Each channel
#   keeps its distribution; space is lost, and with it what the channels have in common at a place.
#
# Both return a new array and leave the given one as it is.


# %% nbgrader={"grade": false, "grade_id": "ps2-null", "locked": false, "schema_version": 3, "solution": true, "task": false}
def shuffled(volume, rng):
    """All values of a volume (C, H, W) in a random order; `rng` is a numpy Generator."""
    ### BEGIN SOLUTION
    # solution-marker-ps2-null
    return rng.permutation(volume.ravel()).reshape(volume.shape)
    ### END SOLUTION


def shuffled_within_channels(volume, rng):
    """The values of every channel of a volume (C, H, W) in a random order of its own."""
    ### BEGIN SOLUTION
    # solution-marker-ps2-null
    rows = volume.reshape(len(volume), -1)
    return rng.permuted(rows, axis=1).reshape(volume.shape)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps2-null-test-volume", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
rng = np.random.default_rng(0)
volume = np.arange(3 * 5 * 6, dtype=float).reshape(3, 5, 6)
kept = volume.copy()
found = shuffled(volume, rng)
assert found.shape == volume.shape, f"a null keeps the shape {volume.shape}, yours is {found.shape}"
assert np.array_equal(volume, kept), "the array that was given has changed: return a new one"
assert np.array_equal(np.sort(found, axis=None), np.sort(volume, axis=None)), (
    "a null keeps the values, each as often as before; only their order changes"
)
assert (found[0] > 29).any(), (
    "after the shuffle the first channel still holds its own values only: all values of the volume "
    "go into one random order"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps2-null-volume
stays = np.mean([shuffled(volume, rng)[0] < 30 for _ in range(200)])
assert abs(stays - 1 / 3) < 0.05, (
    f"of the values in the first of three channels a share of {stays:.2f} comes from that channel; "
    "expected: 1/3, since every order is as likely as any other (task 4)"
)
columns = shuffled(volume, rng).reshape(3, -1) % 30
assert (columns[0] != columns[1]).any(), (
    "the channels keep what they have in common at a place; all values go into one random order"
)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "ps2-null-test-channels", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
found = shuffled_within_channels(volume, rng)
assert found.shape == volume.shape, f"a null keeps the shape {volume.shape}, yours is {found.shape}"
assert np.array_equal(volume, kept), "the array that was given has changed: return a new one"
assert np.array_equal(np.sort(found.reshape(3, -1)), volume.reshape(3, -1)), (
    "every channel keeps its own values; only their places within the channel change"
)
assert not np.array_equal(found, volume), "nothing was shuffled"
first, second, third = found.reshape(3, -1) % 30
assert (first != second).any(), (
    "all channels were shuffled in the same way, so what they have in common at a place is still "
    "there: every channel needs a random order of its own"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps2-null-channels
assert (second != third).any(), "channels 1 and 2 share one order; each has its own (task 4)"
rows = found.reshape(3, 5, 6) // 6
assert (rows != rows[:, :, :1]).any(), (
    "whole rows were moved: the values of a channel go into one random order over both axes (task 4)"
)
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-relative-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 5: the decay relative to a null (5 points)
#
# With Ω of the network and Ω′ of the null, both (N, L) and of the *same* images, the **relative
# decay** is the slope of
#
# $$\log(1 + \text{mean } \Omega) - \log(1 + \text{mean } \Omega')$$
#
# on relative depth: what is left of the decay when the null's is taken out. For its interval, draw
# images once for each resample and use the same draw on both sides (*paired*): what one image has in
# Ω and in Ω′ alike then cancels.


# %% nbgrader={"grade": false, "grade_id": "ps2-relative", "locked": false, "schema_version": 3, "solution": true, "task": false}
def relative_slope(omega, null):
    """Slope of log(1 + mean Omega) - log(1 + mean null); both (N, L)."""
    ### BEGIN SOLUTION
    # solution-marker-ps2-relative
    return slope(omega) - slope(null)
    ### END SOLUTION


def relative_interval(omega, null, rng, n_resamples=500):
    """Ends (low, high) of its 95 % interval, images drawn in pairs."""
    ### BEGIN SOLUTION
    # solution-marker-ps2-relative
    n = len(omega)
    draws = [rng.integers(n, size=n) for _ in range(n_resamples)]
    slopes = [relative_slope(omega[draw], null[draw]) for draw in draws]
    return tuple(np.percentile(slopes, [2.5, 97.5]))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps2-relative-test-slope", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
found = relative_slope(straight, np.full_like(straight, 50.0))
assert np.isclose(found, -2.0), (
    f"relative to a null that does not change with depth, a decay of -2 stays -2; yours: {found:.4f}"
)
assert np.isclose(relative_slope(made_up, made_up), 0), (
    "relative to itself, a curve has no decay: expected 0"
)
found = relative_slope(np.full_like(straight, 50.0), straight)
assert np.isclose(found, 2.0), (
    "a curve that stays where its null falls has a relative decay above 0, here 2; yours: "
    f"{found:.4f} (the network's less the null's, not the other way round)"
)

# %% nbgrader={"grade": true, "grade_id": "ps2-relative-test-paired", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
low, high = relative_interval(made_up, made_up, np.random.default_rng(3))
assert np.allclose([low, high], 0), (
    "relative to itself a curve has the decay 0 in every resample, so the interval is [0, 0]; yours "
    f"is [{low:.3f}, {high:.3f}]: draw images once, for both sides (paired)"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps2-relative
other = np.random.default_rng(5).gamma(6.0, level[::-1] / 6, size=(12, 10)).round()
expected = decay(made_up, relative_to=other)
found = (
    relative_slope(made_up, other),
    *relative_interval(made_up, other, np.random.default_rng(4), n_resamples=2000),
)
for name, a, b in zip(("decay", "lower end", "upper end"), found, expected, strict=True):
    assert abs(a - b) < 0.15 * (expected.high - expected.low), (
        f"relative {name}: expected about {b:.3f}, yours is {a:.3f} (the definition in task 5)"
    )
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-figure-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# The network, an untrained one of the same architecture, and both against the two nulls.

# %% nbgrader={"grade": false, "grade_id": "ps2-figure-null", "locked": true, "schema_version": 3, "solution": false, "task": false}
nulls = {"all values shuffled": shuffled, "shuffled within channels": shuffled_within_channels}
figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
for ax, (kind, model) in zip(
    axes, {"trained": trained, "untrained": untrained}.items(), strict=True
):
    own = complexity(model, blocks, images, eta)
    ax.plot(depth, own.mean(axis=0), color="black", marker="o", markersize=3, label="Ω")
    low, high = slope_interval(own, np.random.default_rng(0))
    print(f"{kind}: decay {slope(own):.2f} [{low:.2f}, {high:.2f}]")
    for (name, shuffle), colour in zip(nulls.items(), COLOURS, strict=False):
        rng = np.random.default_rng(0)
        null = complexity(model, blocks, images, eta, null=lambda volume: shuffle(volume, rng))  # noqa: B023
        ax.plot(depth, null.mean(axis=0), color=colour, marker="o", markersize=3, label=name)
        low, high = relative_interval(own, null, np.random.default_rng(0))
        print(f"{kind}: relative to {name} {relative_slope(own, null):.2f} [{low:.2f}, {high:.2f}]")
    ax.set(title=kind, xlabel="relative depth")
    log_counts(ax)
axes[0].set_ylabel("Ω, mean over images")
axes[0].legend(fontsize=8)
plt.show()

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps2-meaning-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 6: what follows (8 points, marked by hand)
#
# "Networks simplify the topology of their data, layer by layer: the decay of Ω shows it." Answer in
# about twelve sentences, with the numbers of the last figure (and those of your own images, if you
# took any):
#
# 1. Does Ω fall with depth in the trained network? In the untrained one? Give intervals.
# 2. What does each null keep, and what does it destroy? What is left of the decay relative to each?
# 3. State a rule, in one sentence, that says for any such numbers whether the claim holds. What does
#    it say here?
# 4. Name two things that these eight images, one network and one threshold cannot tell.

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps2-meaning", "locked": false, "points": 8, "schema_version": 3, "solution": true, "task": false}
# <!-- solution-marker-ps2-meaning -->
# A full answer (points in brackets)
#
# - gives both decays with their intervals, and sees that the untrained network falls as well: the
#   volumes shrink in both (2);
# - says that both nulls keep size and values, that the first destroys channels and space, the second
#   space only; reads the relative decays with their intervals for both networks, and sees that they
#   are much closer to 0 than the decay, or on its other side, and not the same for the two nulls (3);
# - states a rule that can come out either way, for instance: the claim holds if the relative decay of
#   the trained network lies below 0 for both nulls, and below that of the untrained one, intervals
#   apart; and applies it without bending it (2);
# - names limits: other images, architectures, thresholds, sizes; one draw of untrained weights; one
#   shuffle an image; that the order of channels is arbitrary, and Ω depends on it (1).
