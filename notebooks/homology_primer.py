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

# %% [markdown]
# # Components, tunnels and cavities
#
# Everything in this book is counted with three numbers. This page says what they are, on shapes
# small enough to check by eye, and then on a real activation volume. You need to know nothing first.

# %% mystnb={"figure": {"caption": "Four shapes and their Betti numbers, as computed. The hollow box is drawn with its front opened: its cavity is the one point that is missing in the middle.", "name": "fig-shapes"}, "image": {"alt": "Four small shapes built of cubes: two separate boxes, a square ring, a box cut open to show a missing middle cube, and two rings linked through each other, each titled with its three Betti numbers."}} tags=["remove-input"]
from topo_utils.book import place

place("fig-shapes")

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from topo_utils.book import AtLeast

# The network of the section on activations: a name that topo_utils.model_names() lists.
network: str = "efficientnet_lite0"
# The block whose output is shown: a name that topo_utils.model_blocks(network) lists.
block: str = "_blocks.1"
# Height and width of the photograph as the network gets it, in pixels.
image_size: AtLeast[1] = 224
# How many thresholds the curves of Betti numbers have.
n_thresholds: AtLeast[0] = 60

# %% tags=["hide-cell"]
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from sklearn.datasets import load_sample_image

from topo_utils import (
    betti_from_persistence,
    betti_numbers,
    block_outputs,
    load_model,
    normalise,
    persistence,
)
from topo_utils.book import fill
from topo_utils.plotting import (
    COLOURS,
    interactive_sublevel_sets,
    plot_betti_curves,
    plot_points,
    use_style,
)

use_style()
SPACE = {"projection": "3d"}


def titled(text, betti):
    """A title with Betti numbers below it; of a plane picture there are two."""
    numbers = zip(["β₀", "β₁", "β₂"], betti, strict=False)
    return f"{text}\n" + ", ".join(f"{name} = {n}" for name, n in numbers)


# %% [markdown]
# ## The three Betti numbers
#
# A set of points on a grid becomes a shape when neighbouring points are joined: two points one step
# apart along an axis by an edge, four points of a unit square by that square, eight points of a
# unit cube by that cube. The shapes above are drawn as cubes, one a point: two points are joined when
# their cubes share a face. Of such a shape in space, βₖ is the dimension of its k-th homology group with
# coefficients in a field. In words:
#
# - **β₀** is the number of *components*: pieces that are not joined;
# - **β₁** is the number of *tunnels*: independent loops that cannot be shrunk to a point within the
#   shape. A ring has one; so has a solid torus;
# - **β₂** is the number of *cavities*: hollows enclosed on all sides.


# %% tags=["hide-cell"]
two_pieces, ring, hollow, upright, lying = np.zeros((5, 7, 7, 9), dtype=bool)
two_pieces[1:3, 1:4, 1:4] = two_pieces[4:6, 3:6, 5:8] = True
ring[3, 1:6, 2:7] = True
ring[3, 2:5, 3:6] = False
hollow[2:5, 2:5, 3:6] = True
hollow[3, 3, 4] = False
upright[3, 1:6, 0:5] = lying[1:6, 3, 2:8] = True
upright[3, 2:5, 1:4] = lying[2:5, 3, 3:7] = False
shapes = {
    "two pieces": two_pieces,
    "a ring": ring,
    "a hollow box": hollow,
    "two linked rings": upright | lying,
}

# %% [markdown]
# In code, a shape is a *sublevel set*: the points where a function is at or below a threshold. With
# the function 0 on the shape and 1 elsewhere, the threshold 0 gives the shape.

# %%
counted = {
    name: betti_numbers(np.where(shape, 0.0, 1.0), 0.0)
    for name, shape in shapes.items()
}

# %% tags=["hide-cell"]
figure, axes = plt.subplots(2, 2, figsize=(7.2, 6.4), subplot_kw=SPACE)
for ax, (name, shape) in zip(axes.flat, shapes.items(), strict=True):
    shown = shape.copy()
    if name == "a hollow box":
        shown[4, :, 5] = False  # only in the drawing
    plot_points(ax, shown, titled(name, counted[name]))
plt.close(figure)
fill("fig-shapes", figure)

# %% tags=["remove-input"]
pieces, tunnels, _ = counted["two linked rings"]
Markdown(f"""
Two linked rings cannot be pulled apart, but homology does not see that: it counts {pieces} components
and {tunnels} tunnels, as it would for rings far from one another.
""")

# %% [markdown]
# ## Which points are neighbours?
#
# Two points that touch across a corner, but share no edge of the grid, are *not* joined: grid points
# are the vertices of the complex (the V-construction). Had each grid point been a solid cube of its
# own (the T-construction), they would be. The two give different numbers on the same values, so a
# result must say which it used. This book uses the V-construction throughout.

# %% tags=["hide-input"]
diagonal = np.array([[0.0, 1.0], [1.0, 0.0]])
pd.DataFrame(
    [
        betti_from_persistence(persistence(diagonal, kind), 0.0)
        for kind in "VT"
    ],
    index=["V: points are vertices", "T: points are cubes"],
    columns=["β₀", "β₁", "β₂"],
)

# %% [markdown]
# ## A sublevel set changes with its threshold
#
# A photograph is a function on a grid of pixels. At a low threshold η only the darkest pixels are in
# the sublevel set, many separate specks; as η rises they join, enclose holes, and fill them. No
# single threshold is *the* shape of the picture. The curve of Betti numbers over thresholds tells more;
# whoever compares at one threshold has to say why that one.

# %%
photograph = load_sample_image("flower.jpg")
# From 0 (black) to 255 (white).
grey = photograph[40:400:3, 120:480:3].mean(axis=2)
levels = np.linspace(0, 255, n_thresholds)
photo_curves = betti_numbers(grey, levels)

# %% mystnb={"figure": {"caption": "A photograph, three of its sublevel sets (blue: at or below &eta;), and its Betti numbers at every threshold. Photograph: scikit-learn's sample image of a flower.", "name": "fig-photograph"}, "image": {"alt": "A grey photograph of a flower, three black and white pictures of its sublevel sets at rising thresholds, and a chart of components and holes against the threshold: both counts rise and fall again."}} tags=["hide-input"]
figure, axes = plt.subplot_mosaic(
    "abcd;eeee", figsize=(9, 5.6), height_ratios=[1, 1.1]
)
shown_levels = (40, 90, 160)
axes["a"].imshow(grey, cmap="gray")
axes["a"].set_title("the photograph")
for key, level in zip("bcd", shown_levels, strict=True):
    axes[key].imshow(
        grey <= level, cmap=ListedColormap(["white", COLOURS[0]])
    )
    betti = betti_numbers(grey, level)[:2]
    axes[key].set_title(titled(f"η = {level}", betti))
for key in "abcd":
    axes[key].set(xticks=[], yticks=[])
plot_betti_curves(axes["e"], levels, photo_curves[:, :2])
axes["e"].set_xlabel("threshold η (grey level)")
for level in shown_levels:
    axes["e"].axvline(level, color="#888888", lw=0.8, ls=":")

# %% [markdown]
# ## A real activation volume
#
# Now the same for what the book is about. The photograph goes through a network trained on ImageNet;
# one block turns it into a volume of channels × height × width, and that volume has Betti numbers at
# every threshold. The paper reports the sum of the three at a fixed threshold, the *topological
# complexity* Ω = β₀ + β₁ + β₂.

# %%
with block_outputs(load_model(network), [block]) as run:
    volume = run(normalise(photograph, image_size)[None])[block][0]

low, high = np.quantile(volume, [0.001, 0.999])
etas = np.unique(np.append(np.linspace(low, high, n_thresholds), 0.0))
curves = betti_numbers(volume, etas)

# %% mystnb={"figure": {"caption": "Betti numbers of one block's output over the threshold. The vertical line is &eta; = 0, where a ReLU makes no difference.", "name": "fig-activation"}, "image": {"alt": "Chart of the numbers of components, tunnels and cavities of an activation volume against the threshold. Components are many at low thresholds, tunnels in the middle, cavities at high ones."}} tags=["hide-input"]
figure, ax = plt.subplots()
plot_betti_curves(ax, etas, curves)
ax.axvline(0, color="#888888", lw=0.8, ls=":")
_ = ax.set_xlabel("threshold η (units of the activations)")

# %% tags=["remove-input"]
below = float(np.quantile(volume, 0.25))
before = betti_numbers(volume, [0.0, below])
after = betti_numbers(torch.relu(volume), [0.0, below])
sums = curves.sum(axis=1)
Markdown(f"""
The output of block `{block}` of `{network}` is a volume of {" × ".join(map(str, volume.shape))}
values. At η = 0 it has β₀ = {before[0][0]}, β₁ = {before[0][1]} and β₂ = {before[0][2]}, so
**Ω = {before[0].sum()}**; Ω is greatest at η = {etas[sums.argmax()]:.2f}, {sums.max()}.

Why so often η = 0? A ReLU sets negative values to 0 and keeps the others, so at any η ≥ 0 it changes
no sublevel set: Ω of the volume is {before[0].sum()}, and {after[0].sum()} after a ReLU. Below 0
nothing is left of the ReLU's output: at η = {below:.2f} the volume has Ω = {before[1].sum()}, its ReLU
{after[1].sum()}.
""")

# %% [markdown]
# ### The sublevel set itself
#
# A part of this volume, small enough to draw: its first channels, in the middle of the picture. In
# the book the threshold can be moved: as it rises, pieces appear and join, tunnels open and fill,
# hollows close. The numbers beside the slider are those of this part, counted at each stop.

# %% mystnb={"figure": {"caption": "The sublevel set of a part of one block's output (12 channels up, 16 &times; 16 places at most), drawn as cubes.", "name": "fig-sublevel"}, "image": {"alt": "Three drawings of a block of cubes at rising thresholds: at the low one a few separate pieces, at the middle one a sponge full of tunnels, at the high one a solid with few holes."}} tags=["hide-input"]
rows, columns = (slice(n // 2 - 8, n // 2 + 8) for n in volume.shape[1:])
part = volume[:12, rows, columns].numpy().astype(float)
quantiles = np.quantile(part, np.linspace(0.02, 0.98, 25))
part_etas = np.unique([*quantiles, 0.0])
part_betti = betti_numbers(part, part_etas)

figure, axes = plt.subplots(1, 3, figsize=(9, 3.6), subplot_kw=SPACE)
n = len(part_etas)
stops = [n // 8, n // 2, n - 1 - n // 8]
for ax, stop in zip(axes, stops, strict=True):
    shown = np.moveaxis(part <= part_etas[stop], 0, 2)
    title = titled(f"η = {part_etas[stop]:.2f}", part_betti[stop])
    plot_points(ax, shown, title)

# %% tags=["hide-cell"]
interactive_sublevel_sets("fig-sublevel", part, part_etas, start=stops[0])

# %% [markdown]
# ## How they are computed
#
# Persistent homology gives the Betti numbers at every threshold at once by reducing a matrix, which
# takes seconds for one volume. This book needs them at a few thresholds of many volumes, and counts
# instead. For S the sublevel set:
#
# - β₀ is the number of components of S (neighbours along the axes);
# - β₂ is the number of components of the points *not* in S (neighbours also across edges and
#   corners), less one for the outside: what is enclosed is cut off from it;
# - the Euler characteristic χ = points − edges + squares − cubes is counted directly, and
#   χ = β₀ − β₁ + β₂ leaves β₁ = β₀ + β₂ − χ.

# %% tags=["remove-input"]
crop = volume[:16, :16, :16]
by_gudhi = betti_from_persistence(persistence(crop), etas)
differing = (betti_numbers(crop, etas) != by_gudhi).any(axis=1).sum()
Markdown(f"""
The result is exact. Against GUDHI's persistent homology {{cite}}`gudhi`, on a part of the volume above
({" × ".join(map(str, crop.shape))} values), the two differ at **{differing}** of {len(etas)}
thresholds; the tests of the package compare hundreds of random volumes.
""")

# %% [markdown]
# ## What to try next
#
# - A deeper block: `topobook run homology_primer -p block _blocks.10`.
# - The same block with more thresholds: `-p n_thresholds 200`.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} The frame of a cube
# :label: ex-homology-primer-1
# ```
#
# Of the points of a 3 × 3 × 3 cube keep those that lie on its twelve edges. Find its Betti numbers
# from the Euler characteristic, without a computer; then count in code.
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-homology-primer-1
# :label: sol-homology-primer-1
# :class: dropdown
# ```
#
# The frame is a graph: no unit square has all its four points, so there are no squares and no
# cubes. It is in one piece and encloses nothing, β₀ = 1 and β₂ = 0, so β₁ = 1 − χ. Corners and
# middles of edges make 8 + 12 points, and each of the twelve edges of the cube is two steps long.

# %%
frame = (np.indices((3, 3, 3)) != 1).sum(axis=0) >= 2
edges = sum(
    (frame.take([0, 1], axis) & frame.take([1, 2], axis)).sum()
    for axis in range(3)
)
betti = betti_numbers(np.where(frame, 0.0, 1.0), 0.0)
print(f"1 − χ = {1 - (frame.sum() - edges)}; β₀, β₁, β₂ = {betti}")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Which functions change nothing?
# :label: ex-homology-primer-2
#
# A ReLU changes no sublevel set at η ≥ 0. Which of these change none at η = 0, and which at another
# η: a leaky ReLU (negative values times 0.01), tanh, a batch norm after training, adding 1?
# ```
#
# ```{solution} ex-homology-primer-2
# :label: sol-homology-primer-2
# :class: dropdown
#
# The sublevel set at η holds the points with f ≤ η. Under an increasing function g the same points
# are those with g(f) ≤ g(η): the shapes are the same, each at the level g(η) instead of η. Leaky
# ReLU and tanh are increasing and keep 0 where it is, so at η = 0 they change nothing. At a
# positive η the leaky ReLU still changes nothing, at a negative one the level moves; with tanh it
# moves at every η but 0. Adding 1 moves all levels, 0 too. A batch norm is another increasing (or,
# where its weight is negative, decreasing) function in each channel: it moves each channel's level
# by its own amount, so it can change the set at any η.
# ```
