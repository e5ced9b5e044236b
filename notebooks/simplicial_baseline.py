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
# # Do point clouds lose their holes faster with ReLU than with tanh?
#
# > "there is a vast reduction in the Betti numbers"
# >
# > "The reduction in Betti numbers is significantly faster for ReLU activation than for hyperbolic
# > tangent activation"
# >
# > — the abstract of the study that the paper starts from, {cite}`naitzat2020`

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Pieces and loops by layer.", "name": "fig-simplicial-rings"}, "image": {"alt": "Two line charts of the sum of the first two Betti numbers against relative depth for networks with ReLU and with tanh, trained and untrained, one chart for each distance."}} tags=["remove-input"]
place("fig-simplicial-rings")

# %% [markdown]
# That study looks at all the points of a class at once, not at single activations. Here its two
# statements are tested on a small scale: on rings that are linked in space, whose Betti numbers are
# known, and on handwritten digits. {doc}`homology_primer` says what Betti numbers count.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from topo_utils.book import AtLeast

# How many pairs of linked rings; of each pair, one ring is in either class.
n_pairs: AtLeast[1] = 2
# How many points each ring has.
n_points: AtLeast[10] = 100
# Standard deviation of the noise on each coordinate; a ring has radius 1.
noise: float = 0.05
# How many digits each class (even, odd) has where they are measured.
n_digits: AtLeast[10] = 100
# How many hidden layers the networks have, from 1.
depth: AtLeast[1] = 5
# How many units each of these has.
width: AtLeast[1] = 25
# How often each training point is seen.
epochs: AtLeast[1] = 100
# How many networks of each activation function, at least 2.
n_seeds: AtLeast[2] = 6
# How many nearest neighbours a point is joined to, for distances along the graph.
neighbours: AtLeast[1] = 10
# The scale for these distances, in steps along the graph.
scale_graph: float = 2.5
# The scale for Euclidean distances, in units of the median distance of the layer's points.
scale_euclidean: float = 0.25
# Numbers of points for which the cost is measured, ascending.
cost_points: list[AtLeast[1]] = [50, 100, 200, 400]
# Of points, weights and training.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# A small fully connected network learns to tell two classes apart. Fresh points pass through it, and
# at each layer the points of a class form a cloud. Joining points within a fixed scale, and filling
# every triangle with three edges, gives the Vietoris–Rips complex (GUDHI {cite}`gudhi`): β₀ counts
# the cloud's pieces, β₁ its loops. Distances are Euclidean, or steps along the graph of nearest
# neighbours; at the scales chosen, the rings have their own Betti numbers before any layer.
#
# The **fall** of a network is the mean of log(β₀ + β₁ of the points / β₀ + β₁ at the layer) over
# layers and classes. Networks with ReLU and tanh are paired by seed; intervals are Student's t over
# seeds (95 %). The control is the untrained twin.

# %% tags=["hide-cell"]
import time
from functools import partial
from itertools import accumulate, product

import gudhi
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import pdist, squareform
from scipy.stats import t as student
from sklearn.neighbors import kneighbors_graph
from threadpoolctl import threadpool_limits
from torch import nn

from topo_utils import Estimate, betti_numbers, load_images
from topo_utils.book import fill, record_finding
from topo_utils.plotting import COLOURS, log_counts, plot_curves, use_style
from topo_utils.training import fully_connected, one_thread, trained

use_style()
_ = threadpool_limits(1)  # clouds are small: threads would wait
if neighbours >= min(n_points, n_digits):
    raise ValueError("accepted: fewer neighbours than points")
if min(scale_graph, scale_euclidean, noise) < 0:
    raise ValueError("accepted: scales and noise from 0")


def linked_rings(rng):
    """Points (N, 3) of pairs of rings, each ring through the other's centre; and their classes."""
    turn = rng.uniform(size=(2, n_pairs, n_points))
    angle = (np.arange(n_points) + turn) * 2 * np.pi / n_points
    points = np.zeros((*angle.shape, 3))
    points[..., 0] = np.cos(angle)
    points[0, ..., 1], points[1, ..., 2] = np.sin(angle)
    points[1, ..., 0] += 1
    points[..., 1] += (4 * np.arange(n_pairs) - 2 * (n_pairs - 1))[:, None]
    points += noise * rng.normal(size=points.shape)
    labels = torch.arange(2).repeat_interleave(n_pairs * n_points)
    return torch.from_numpy(points).float().flatten(0, 2), labels


def even_and_odd(rng):
    """600 digits (N, 64) to train on, different ones to measure, and their classes."""
    images, digits = load_images("digits", 8)
    points, labels = images[:, 0].flatten(1), digits % 2
    order = torch.from_numpy(rng.permutation(len(points)))
    rest = order[600:]
    measured = torch.cat([rest[labels[rest] == c][:n_digits] for c in (0, 1)])
    return [(points[part], labels[part]) for part in (order[:600], measured)]


def euclidean(points):
    """Distances in units of their median (of 1 where that is 0)."""
    distances = squareform(pdist(points))
    return distances / np.median(distances[distances > 0].tolist() or [1])


def along_graph(points):
    """Numbers of steps along the graph of nearest neighbours; infinite between its pieces."""
    # What a layer has mapped to one point is one point.
    points = np.unique(points, axis=0)
    if len(points) == 1:
        return np.zeros((1, 1))
    graph = kneighbors_graph(points, min(neighbours, len(points) - 1))
    return shortest_path(graph, directed=False, unweighted=True)


def rips_betti(distances, scale):
    """β₀ and β₁ of the Vietoris–Rips complex at one scale."""
    # All edges appear at once, so that collapsing them leaves little.
    edges = np.where(distances <= scale, 0.0, 1.0)
    rips = gudhi.RipsComplex(distance_matrix=edges, max_edge_length=0.5)
    tree = rips.create_simplex_tree(max_dimension=1)
    tree.collapse_edges(nb_iterations=3)
    tree.expansion(2)
    tree.compute_persistence(persistence_dim_max=True)
    return [*tree.betti_numbers(), 0][:2]


def mean_over_seeds(sample):
    """Mean over seeds, with Student's interval."""
    sample = np.round(sample, 12)  # sums in another order are no difference
    error = sample.std(ddof=1) / np.sqrt(len(sample))
    half = student.ppf(0.975, len(sample) - 1) * error
    return Estimate(*(float(sample.mean() + x) for x in (0, -half, half)))


METRICS = {
    "graph": (along_graph, scale_graph),
    "Euclidean": (euclidean, scale_euclidean),
}
FUNCTIONS = {"ReLU": nn.ReLU, "tanh": nn.Tanh}
EPOCHS = {"trained": epochs, "untrained": 0}
curve = ["data", "metric", "activation", "weights", "seed", "class"]


def betti_by_layer(layers, labels):
    """Distance, class, layer, β₀ and β₁ of every cloud."""
    for metric, c in product(METRICS, (0, 1)):
        distances, scale = METRICS[metric]
        for i, points in enumerate(layers):
            cloud = points[labels == c].numpy()
            yield metric, c, i, *rips_betti(distances(cloud), scale)


rows = []
with one_thread(), torch.no_grad():
    for k in range(n_seeds):
        rng = np.random.default_rng([seed, k])
        settings = {"batch_size": 50, "learning_rate": 0.005}
        settings["seed"] = 1000 * seed + k
        rings = linked_rings(rng), linked_rings(rng)
        sets = {"rings": rings, "digits": even_and_odd(rng)}
        for data, name, weights in product(sets, FUNCTIONS, EPOCHS):
            training, (points, labels) = sets[data]
            sizes = points.shape[1], 2, depth, width, FUNCTIONS[name]
            given = settings | {"epochs": EPOCHS[weights]}
            build = partial(fully_connected, *sizes)
            network = trained(build, *training, **given)
            layers = list(accumulate([points, *network], lambda x, f: f(x)))
            right = (layers[-1].argmax(1) == labels).float().mean().item()
            for metric, *found in betti_by_layer(layers, labels):
                rows.append((data, metric, name, weights, k, *found, right))
clouds = pd.DataFrame(rows, columns=[*curve, "layer", "β₀", "β₁", "right"])
clouds["total"] = clouds["β₀"] + clouds["β₁"]

# %%
logs = np.log(clouds.set_index([*curve, "layer"])["total"]).unstack("layer")
# How far below its start a curve lies, mean over layers and classes.
deeper = logs.drop(columns=0).mean(axis=1)
falls = (logs[0] - deeper).groupby(curve[:-1]).mean()
falls = falls.unstack(["activation", "weights"])
less_tanh = falls["ReLU"] - falls["tanh"]
less_tanh["learned"] = less_tanh["trained"] - less_tanh["untrained"]
gains = {
    key: {kind: mean_over_seeds(part[kind]) for kind in part}
    for key, part in less_tanh.groupby(["data", "metric"])
}
print(gains["rings", "graph"]["trained"])

# %% tags=["hide-cell"]
gain, gain_untrained, gain_learned = gains["rings", "graph"].values()
rings = clouds[clouds["data"] == "rings"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 4.2), sharey=True)
for ax, metric in zip(axes, METRICS, strict=True):
    here = rings[rings["metric"] == metric]
    parts = here.groupby(["activation", "weights"], sort=False)
    curves = {
        f"{a} ({w})": part.pivot_table("total", "seed", "layer")
        for (a, w), part in parts
    }
    dashed = [label for label in curves if "untrained" in label]
    plot_curves(ax, curves, dashed=dashed, ylabel="")
    ax.get_legend().remove()
    ax.set_title(f"{metric} distances")
    ax.set_xlabel("relative depth\n(points 0, output 1)")
axes[0].set_ylabel("β₀ + β₁, mean over classes and seeds")
names = axes[0].get_legend_handles_labels()
figure.legend(*names, ncols=2, fontsize=9, loc="outside upper center")
plt.close(figure)
seen = "It cannot be told whether ReLU or tanh simplifies the rings faster"
if gain.low > 0 or gain.high < 0:
    faster = "ReLU than with tanh" if gain.low > 0 else "tanh than with ReLU"
    seen = f"Trained networks simplify the rings faster with {faster}"
fill(
    "fig-simplicial-rings",
    figure,
    caption=f"{seen}, by steps along the graph (left). Right: Euclidean distances. Pieces and loops "
    "of linked rings by layer, mean over classes and seeds, with one standard error over seeds; "
    "trained networks solid, untrained ones dashed.",
)

# %% [markdown]
# ## Is it the training, and does the distance matter?

# %% tags=["hide-input"]
of_trained = falls.xs("trained", axis=1, level="weights")
table = {}
for key in product(("rings", "digits"), METRICS):
    here = gains[key]
    mean = of_trained.loc[key].mean()
    table[", ".join(key)] = {
        "fall, ReLU": f"{mean['ReLU']:.2f}",
        "fall, tanh": f"{mean['tanh']:.2f}",
        "ReLU less tanh": str(here["trained"]),
        "the same, untrained": str(here["untrained"]),
    }
pd.DataFrame(table)

# %% tags=["remove-input"]
of_graph = rings[rings["metric"] == "graph"].set_index([*curve[1:], "layer"])
at_start = of_graph.xs(0, level="layer")
at_end = of_graph.xs(depth + 1, level="layer")
is_true = (at_start[["β₀", "β₁"]] == n_pairs).all(axis=1)
ends = at_end.xs("trained", level="weights")
start = at_start.xs("trained", level="weights")["total"]
halved = ends["total"] <= start / 2
lowest = (ends["β₀"] == 1) & (ends["β₁"] == 0)
learned = clouds[clouds["weights"] == "trained"]
accuracies = learned.groupby("data")["right"].min()
Markdown(f"""
Before any layer, {100 * is_true.mean():.0f} % of the clouds of rings have their true Betti numbers at
the scale chosen (β₀ = β₁ = {n_pairs}, by steps along the graph). The worst of the trained networks is
right for {100 * accuracies["rings"]:.1f} % of fresh points on rings, and for
{100 * accuracies["digits"]:.1f} % on digits. At the output of the trained networks, β₀ + β₁ of a class
of rings is at most half of what it was in {halved.sum()} of {len(ends)} clouds, and at its lowest
possible value (one piece, no loop) in {lowest.sum()}.

Along the graph, the fall with ReLU less that with tanh is **{gain}** over {n_seeds} seeds; the claim
expects a positive number. Untrained networks have {gain_untrained.value:.2f}, and training adds
{gain_learned} to that. With Euclidean distances the difference of the trained networks is
{gains["rings", "Euclidean"]["trained"]}.

The distance is part of the question. The graph adapts to how dense the points are at each place, so a
cloud torn into tight clumps may still count as one piece. A Euclidean scale does not adapt, and counts
the clumps. Nobody knows the true Betti numbers of digits, so no scale can be called right there, and
they stay out of the verdict.
""")

# %% [markdown]
# ## What does it cost?
#
# The same numbers, digits enlarged to d = 64 and d = 1,024 pixels, are counted in three ways: each
# image as a cubical complex at one threshold; all images as one cloud at one scale (graph distances,
# up to loops); and as one cloud at all scales, as is usual where no scale is known (Euclidean, up to
# loops, and up to cavities for all but the largest number of points).


# %% mystnb={"figure": {"caption": "Time for one point cloud divided by the time for the cubical counts of the same numbers, image by image, measured in this run; solid for d = 64, dashed for d = 1,024.", "name": "fig-simplicial-cost"}, "image": {"alt": "Line chart on logarithmic axes of the ratio of running times against the number of points, for point clouds at one scale and at all scales, each in two dimensions."}} tags=["hide-input"]
def quickest(function, data):
    """Seconds of the quickest of some runs, of one for large data."""
    times = []
    for _ in range(3 if len(data) <= 100 else 1):
        start = time.perf_counter()
        function(data)
        times.append(time.perf_counter() - start)
    return min(times)


def cubical(images):
    return [betti_numbers(image, 0.0) for image in images]


def all_scales(points, degree):
    rips = gudhi.RipsComplex(distance_matrix=euclidean(points))
    tree = rips.create_simplex_tree(max_dimension=1)
    tree.collapse_edges()
    tree.expansion(degree + 1)
    tree.compute_persistence(persistence_dim_max=True)


cubical(np.zeros((1, 8, 8)))  # compiled before it is timed


def one_scale(points):
    rips_betti(along_graph(points), scale_graph)


WAYS = {
    "one scale, loops": one_scale,
    "all scales, loops": partial(all_scales, degree=1),
    "all scales, cavities": partial(all_scales, degree=2),
}
ratios = {}
figure, ax = plt.subplots()
for size, style in ((8, "-"), (32, "--")):
    pixels = load_images("digits", size, max(cost_points))[0][:, 0].numpy()
    for (way, function), colour in zip(WAYS.items(), COLOURS, strict=False):
        counts = cost_points[: -1 if "cavities" in way else None]
        for n in counts:
            cloud = pixels[:n].reshape(n, -1)
            time_of_cubical = quickest(cubical, pixels[:n])
            ratios[way, size, n] = quickest(function, cloud) / time_of_cubical
        line = [ratios[way, size, n] for n in counts]
        label = f"{way}, d = {size**2:,}"
        ax.plot(counts, line, style, color=colour, marker=".", label=label)
ax.set_xscale("log")
ax.set_xlabel("number of points (images)")
ax.set_ylabel("time, point cloud / cubical")
ax.set_xticks(cost_points, cost_points, minor=False)
ax.set_xticks([], minor=True)
log_counts(ax)
_ = figure.legend(ncols=2, fontsize=9, loc="outside upper center")

# %% tags=["remove-input"]
fewest, largest = cost_points[0], cost_points[-1]
Markdown(f"""
In this run, a cloud of {largest} points took {ratios["one scale, loops", 8, largest]:.0f} times as long
at one scale as the cubical counts of the same numbers, and
{ratios["all scales, loops", 8, largest]:.0f} times as long at all scales. For {fewest} points at all
scales it was {ratios["all scales, loops", 8, fewest]:.1f} times.

The cubical count grows in proportion to the number of images. A cloud needs all distances between its
points, so its time grows at least with the square of their number, and with triangles and tetrahedra
faster still. Dimension matters less to it, since only the distances depend on it; the time of the
cubical count grows with dimension.
""")

# %% [markdown]
# ## Do the two measurements ask the same?
#
# No. A point cloud asks how the points of a *class* lie together: it needs many images, their labels,
# a distance and a scale, and it tells whether classes are pulled into one piece. The cubical complex
# asks how the low values of *one image's* activation lie in channel and space: it needs one image, no
# label, and a threshold in the units of the activation. A class could become one piece while every
# single activation stays as ragged as it was, and the other way round. The cubical count can be
# afforded for networks of ImageNet's size, but it does not answer the point cloud's question.

# %% [markdown]
# ## The rule
#
# Fixed beforehand, for rings and distances along the graph. *Inconclusive* with fewer than 5 seeds,
# with a network that is right for less than 95 % of fresh points, or where a cloud of rings does not
# start from its true Betti numbers. Else *not reproduced* when tanh falls faster than ReLU (the
# interval of the difference lies below 0), when the two differ by less than 0.1 (it lies within ±0.1),
# or when fewer than half of the clouds end at half of their Betti numbers or less; *reproduced* when
# ReLU falls faster, by more than in the untrained twins, and all clouds end so; *reproduced with
# limits* when ReLU falls faster but the rest does not hold; *inconclusive* when the interval contains
# 0.


# %% tags=["hide-cell"]
def simplicial_verdict(
    gain, gain_learned, halved_share, n_seeds, worst, start_is_true
):
    """Verdict and reason; `gain` and `gain_learned` have their intervals."""
    reduced = f"Along the graph, β₀ + β₁ is at least halved in {100 * halved_share:.0f} % of the clouds"
    said = "inconclusive"
    if n_seeds < 5:
        return said, f"There are {n_seeds} seeds; the rule asks for 5."
    if worst < 0.95:
        right = f"{100 * worst:.0f} % of fresh points"
        return said, f"A network is right for only {right}."
    if not start_is_true:
        return said, "The rings do not start from their Betti numbers."
    open_sign = gain.low <= 0 <= gain.high
    wide = gain.low <= -0.1 or gain.high >= 0.1
    if halved_share >= 0.5 and open_sign and wide:
        return said, f"{reduced}; ReLU and tanh cannot be told apart."
    said = "not reproduced"
    if halved_share < 0.5:
        return said, f"{reduced} only."
    if gain.high < 0:
        return said, f"{reduced}, but faster with tanh than with ReLU."
    if gain.low <= 0:
        return said, f"{reduced}, as fast with tanh as with ReLU."
    faster = f"{reduced}, and faster with ReLU than with tanh"
    if gain_learned.low > 0 and halved_share == 1:
        return "reproduced", f"{faster}, through training."
    limits = "but not in all clouds, or not by more than without training"
    return "reproduced with limits", f"{faster}, {limits}."


gain_euclidean = gains["rings", "Euclidean"]["trained"]
worst = accuracies["rings"]
verdict, reason = simplicial_verdict(
    gain, gain_learned, halved.mean(), n_seeds, worst, is_true.all()
)
record_finding(
    claim="Point clouds of a class lose their Betti numbers faster with ReLU than with tanh",
    verdict=verdict,
    reason=f"{reason} With Euclidean distances in place of steps along the "
    f"graph, the difference between ReLU and tanh is {gain_euclidean}.",
    headline=f"ReLU less tanh, in the mean fall of log(β₀ + β₁): {gain}; "
    f"in untrained networks: {gain_untrained}.",
    numbers={
        "fall_of_relu_less_tanh": gain,
        "fall_of_relu_less_tanh_untrained": gain_untrained,
        "fall_of_relu_less_tanh_through_training": gain_learned,
        "share_of_clouds_halved": halved.mean(),
        "share_of_clouds_at_lowest": lowest.mean(),
        "euclidean_fall_of_relu_less_tanh": gain_euclidean,
        "digits_fall_of_relu_less_tanh": gains["digits", "graph"]["trained"],
    },
)

# %% [markdown]
# ## What this does not show
#
# - That deep networks on real images do the same: these are small networks, rings and digits.
# - That the result is free of the scale and of the distance, which had to be chosen.
# - Anything of the complexity of single activations, which the rest of this book measures.

# %% [markdown]
# ## What to try next
#
# - More rings: `-p n_pairs 3 -p epochs 150`. A harder task: does the order change?
# - Deeper and narrower: `-p depth 8 -p width 15`. Are all networks still right on fresh points?
# - A different scale: `-p scale_graph 1.5`, or fewer neighbours: `-p neighbours 6`.
# - More noise: `-p noise 0.1`. Do the rings still start from their own Betti numbers?

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} The shape depends on the scale
# :label: ex-simplicial-baseline-1
# ```
#
# Before any layer, compute β₀ and β₁ of one class of rings, by steps along the graph, at scales
# from 1.5 to 6.5. At which of them does the cloud have the Betti numbers of its rings?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-simplicial-baseline-1
# :label: sol-simplicial-baseline-1
# :class: dropdown
# ```
#
# Below 2 only nearest neighbours are joined, and a ring may be in pieces, or keep small loops
# between neighbours that no triangle fills. At large scales the points across a ring are joined,
# and the loop is filled. With enough points there is a range between the two in which both numbers
# are those of the rings; with few points there may be none.

# %%
points, labels = linked_rings(np.random.default_rng(seed))
steps = along_graph(points[labels == 0].numpy())
pd.DataFrame(
    {
        f"{scale:g} steps": rips_betti(steps, scale)
        for scale in (1.5, 2.5, 3.5, 4.5, 5.5, 6.5)
    },
    index=["β₀", "β₁"],
)

# %% [markdown]
# A scale that is right for the input need not be right for a layer, whose points lie differently;
# there is no true shape to check it by. That is why persistence, all scales at once, is used where
# it can be afforded.
#
# ```{solution-end}
# ```
#
# ```{exercise} A permutation of the channels
# :label: ex-simplicial-baseline-2
#
# The channels of a block are put into a different order, the same for all images, and the next layer's
# weights with them. What changes: the network's outputs, the point cloud of a class at this block,
# the cubical Ω of an image at this block?
# ```
#
# ```{solution} ex-simplicial-baseline-2
# :label: sol-simplicial-baseline-2
# :class: dropdown
#
# The outputs stay. So does the cloud's shape: exchanging coordinates, for all points alike, changes
# no distance between points, hence no Vietoris–Rips complex. The cubical Ω can change, since
# channels that were neighbours on the grid no longer are; for a vector, C × 1 × 1, it depends on
# nothing but that order. So the point cloud measures something of the function that the network
# computes, and the cubical Ω also something of how it is written down; {doc}`controls` shows how
# much that is.
# ```
