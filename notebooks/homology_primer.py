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
# # Components, tunnels and cavities: what does this book count?
#
# It counts the pieces of a shape, the loops in it and the hollows inside it. This page does so on shapes
# that you can check by eye, then on a photograph, and then on what a network makes of it.

# %% mystnb={"figure": {"caption": "Four shapes and their Betti numbers.", "name": "fig-shapes"}, "image": {"alt": "Four small shapes built of cubes: two separate boxes, a square ring, a box cut in half to show a missing middle cube, and two rings linked through each other, each titled with its three Betti numbers."}} tags=["remove-input"]
from topo_utils.book import place

place("fig-shapes")

# %% [markdown]
# You need to know what an array is, and nothing of topology.

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

# %% [markdown]
# ## Method
#
# The points of a grid become a shape when neighbours are joined: two points one step apart along an
# axis by an edge, the four points of a unit square by that square, the eight points of a unit cube by
# that cube. Of such a shape,
#
# - **β₀** is the number of *components*: pieces that are not joined;
# - **β₁** is the number of *tunnels*: independent loops that cannot be shrunk to a point within the
#   shape. A ring has one, and so has a solid torus;
# - **β₂** is the number of *cavities*: hollows enclosed on all sides.
#
# In code, a shape is a *sublevel set*: the points where a function is at or below a threshold η. The
# shapes above are those of functions that are 0 on the shape and 1 elsewhere, at η = 0.

# %% tags=["hide-cell"]
import numpy as np
from IPython.display import Markdown
from matplotlib import pyplot as plt
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
    interactive_sublevel_sets,
    plot_betti_curves,
    plot_points,
    use_style,
)

use_style()

pieces, ring, hollow, linked = np.zeros((4, 7, 7, 9), dtype=bool)
pieces[1:3, 1:4, 1:4] = pieces[4:6, 3:6, 5:8] = True
ring[3, 1:6, 2:7] = True
ring[3, 2:5, 3:6] = False
hollow[1:6, 1:6, 2:7] = True
hollow[2:5, 2:5, 3:6] = False
linked[3, 1:6, [0, 4]] = linked[3, [1, 5], 0:5] = True  # upright
linked[1:6, 3, [2, 7]] = linked[[1, 5], 3, 2:8] = True  # lying
shapes = {
    "two pieces": pieces,
    "a ring": ring,
    "a hollow box": hollow,
    "two linked rings": linked,
}

# %%
counted = {n: betti_numbers(1.0 - s, 0.0) for n, s in shapes.items()}
counted["a ring"]

# %% tags=["hide-cell"]
told = "β₀ = {}, β₁ = {}, β₂ = {}"
solid = {"projection": "3d"}
figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.6), subplot_kw=solid)
for ax, (name, shape) in zip(axes.flat, shapes.items(), strict=True):
    shown = shape.copy()
    if name == "a hollow box":
        shown[:, :3] = False  # only in the drawing
    plot_points(ax, shown, f"{name}\n{told.format(*counted[name])}")
plt.close(figure)
fill(
    "fig-shapes",
    figure,
    caption=f"Two boxes are {counted['two pieces'][0]} components; a ring has {counted['a ring'][1]} "
    f"tunnel, a hollow box {counted['a hollow box'][2]} cavity. Points are drawn as cubes, and two are "
    "joined when their cubes share a face. The hollow box is cut in half, only in the drawing.",
)

# %% [markdown]
# ## The same, formally
#
# For a function f on the points of a grid, the cells of the complex S(η) are all points with f ≤ η,
# and every edge, square and cube whose corners are all among them. Let Cₖ be the vector space over
# the field with two elements that has the k-dimensional cells as its basis. The boundary map
# ∂ₖ: Cₖ → Cₖ₋₁ sends a cell to the sum of its faces; what it sends to 0 are the *cycles*. βₖ counts the
# independent cycles that are not boundaries themselves:
#
# > βₖ = dim ker ∂ₖ − rank ∂ₖ₊₁.
#
# The Betti numbers are tied to the numbers of cells by the Euler characteristic:
#
# > χ = points − edges + squares − cubes = β₀ − β₁ + β₂.
#
# In three dimensions, any other field gives the same numbers.

# %% [markdown]
# ## What do Betti numbers not see?

# %% tags=["remove-input"]
Markdown(f"""
Two linked rings cannot be pulled apart, but Betti numbers do not show it. They are
{told.format(*counted["two linked rings"])}, as they would be for rings far from each other.
Nor do they tell how large a piece is, where it lies, or what it looks like.
""")

# %% [markdown]
# ## Are points neighbours when they touch at a corner?
#
# Not in this book: grid points are the vertices of the complex (the V-construction), and only steps
# along an axis join them. If each grid point were a solid cube of its own (the T-construction), cubes
# that touch at a corner would be joined. A result must say which of the two it used.

# %% tags=["remove-input"]
diagonal = np.array([[0.0, 1.0], [1.0, 0.0]])
of_v, of_t = (
    betti_from_persistence(persistence(diagonal, kind), 0.0) for kind in "VT"
)
Markdown(f"""
Take a 2 × 2 square, with 0 on one diagonal and 1 on the other. At η = 0 the V-construction has
{told.format(*of_v)}; the T-construction has {told.format(*of_t)}.
""")

# %% [markdown]
# ## What does the threshold change?
#
# Everything. A photograph is a function on a grid of pixels. At a low threshold only the darkest
# pixels are in the sublevel set, as separate specks; as η rises they join, enclose holes and fill
# them. No single threshold gives *the* shape of the picture. The curve of Betti numbers over all
# thresholds says more, and a comparison at one threshold has to say why at that one.

# %% mystnb={"figure": {"caption": "As the threshold rises, pieces appear and join, and holes open and fill. Blue: pixels at or below &eta;. Below: both counts at every threshold; dotted lines mark the three pictures. Photograph: scikit-learn's sample image of a flower.", "name": "fig-photograph"}, "image": {"alt": "A grey photograph of a flower, three pictures of its sublevel sets at rising thresholds in blue, and a chart of the numbers of components and holes against the threshold."}} tags=["hide-input"]
photograph = load_sample_image("flower.jpg")
# From 0 (black) to 255 (white).
grey = photograph[40:400:3, 120:480:3].mean(axis=2)
levels = np.linspace(0, 255, n_thresholds)
figure, axes = plt.subplot_mosaic("abcd;eeee", figsize=(9, 5.6))
axes["a"].imshow(grey, cmap="gray")
axes["a"].set_title("the photograph")
plot_betti_curves(axes["e"], levels, betti_numbers(grey, levels)[:, :2])
axes["e"].set_xlabel("threshold η (grey level)")
for key, level in zip("bcd", (40, 90, 160), strict=True):
    beta0, beta1, _ = betti_numbers(grey, level)
    axes[key].imshow(grey <= level, cmap="Blues", vmax=1.3)
    axes[key].set_title(f"η = {level}\nβ₀ = {beta0}, β₁ = {beta1}")
    axes["e"].axvline(level, color="#888888", lw=0.8, ls=":")
for key in "abcd":
    axes[key].set(xticks=[], yticks=[])
    axes[key].grid(False)

# %% [markdown]
# ## What is counted inside a network?
#
# The photograph goes through a network that was trained on ImageNet. A block turns it into a volume of
# channels × height × width values, and this volume has Betti numbers at every threshold. The paper
# reports their sum at one fixed threshold, the *topological complexity* Ω = β₀ + β₁ + β₂.

# %%
image = normalise(photograph, image_size)
with block_outputs(load_model(network), [block]) as run:
    volume = run(image[None])[block][0]
at_zero = betti_numbers(volume, 0.0)
at_zero

# %% mystnb={"figure": {"caption": "Betti numbers of one block's output at every threshold. The dotted line is &eta; = 0, where a ReLU makes no difference.", "name": "fig-activation"}, "image": {"alt": "Chart of the numbers of components, tunnels and cavities of an activation volume against the threshold, with a vertical line at 0."}} tags=["hide-input"]
low, high = np.quantile(volume, [0.001, 0.999])
etas = np.unique(np.append(np.linspace(low, high, n_thresholds), 0.0))
curves = betti_numbers(volume, etas)
figure, ax = plt.subplots(figsize=(7.2, 3.8))
plot_betti_curves(ax, etas, curves)
ax.axvline(0, color="#888888", lw=0.8, ls=":")
_ = ax.set_xlabel("threshold η (units of the activations)")

# %% tags=["remove-input"]
omegas = curves.sum(axis=1)
relu = volume.relu()
below = -float(volume.abs().mean())
omega_below, relu_below = (
    betti_numbers(v, below).sum() for v in (volume, relu)
)
Markdown(f"""
The output of block `{block}` of `{network}` has {" × ".join(map(str, volume.shape))} values. At η = 0
it has {told.format(*at_zero)}, so **Ω = {at_zero.sum()}**. Of the thresholds in the figure, Ω is
greatest at η = {etas[omegas.argmax()]:.2f}: {omegas.max()}.

Why so often η = 0? A ReLU sets negative values to 0 and keeps the others, so at any η ≥ 0 it changes
no sublevel set: at η = 0, Ω of this volume is {at_zero.sum()} before a ReLU and
{betti_numbers(relu, 0.0).sum()} after it. Below 0 nothing is left of a ReLU's output: at η = {below:.2f}, Ω is {omega_below} before it and {relu_below}
after it.
""")

# %% [markdown]
# ## What does its sublevel set look like?
#
# Here is a part of the same volume, small enough to draw: its first channels, in the middle of the
# picture.

# %% mystnb={"figure": {"caption": "The sublevel set of a part of one block's output (12 channels upwards, 16 &times; 16 places at most), drawn as cubes. In the book a slider moves the threshold: pieces appear and join, tunnels open and fill, hollows close.", "name": "fig-sublevel"}, "image": {"alt": "Three drawings of a block of cubes at rising thresholds: more and more of the cubes are filled. Each is titled with its threshold and its three Betti numbers."}} tags=["hide-input"]
rows, columns = (
    slice(max(size // 2 - 8, 0), size // 2 + 8) for size in volume.shape[1:]
)
part = volume[:12, rows, columns].numpy().astype(float)
part_etas = np.quantile(part, np.linspace(0.02, 0.98, 25))
part_etas = np.unique([*part_etas, 0.0])
last = len(part_etas) - 1
stops = [last // 8, len(part_etas) // 2, last - last // 8]
figure, axes = plt.subplots(1, 3, figsize=(9, 3.6), subplot_kw=solid)
for ax, eta in zip(axes, part_etas[stops], strict=True):
    title = f"η = {eta:.2f}\n{told.format(*betti_numbers(part, eta))}"
    plot_points(ax, np.moveaxis(part <= eta, 0, 2), title)

# %% tags=["hide-cell"]
interactive_sublevel_sets("fig-sublevel", part, part_etas, start=stops[0])

# %% [markdown]
# ## How are they computed?
#
# Persistent homology gives the Betti numbers at every threshold at once by reducing a matrix, which
# takes seconds for one volume. This book needs them at a few thresholds of many volumes, and counts
# instead. For S the sublevel set:
#
# - β₀ is the number of components of S (neighbours along the axes);
# - β₂ is the number of components of the points *not* in S (neighbours also across edges and
#   corners), less one for the outside: what is enclosed is cut off from it;
# - χ = points − edges + squares − cubes is counted directly, and β₁ = β₀ + β₂ − χ.

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
on_edge = (np.indices((3, 3, 3)) != 1).sum(axis=0) >= 2
steps = (
    on_edge.take([0, 1], axis) & on_edge.take([1, 2], axis)
    for axis in range(3)
)
chi = on_edge.sum() - sum(map(np.sum, steps))
print(1 - chi, betti_numbers(1.0 - on_edge, 0.0))

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
