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
# # Do layers act like a Ricci flow?
#
# > In more than 1,500 networks, the layers of a well-trained classifier deform the graph of nearest
# > neighbours of their data as a Ricci flow would: curvature and the change of distances correlate
# > negatively over layers, and the more so the better the network classifies.
# >
# > — the claim of {cite}`baptista2024`, in our words

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Local Ricci coefficient by kind of network.", "name": "fig-ricci-local"}, "image": {"alt": "Four groups of points with bars for trained, untrained, shuffled and rescaled networks, on an axis of the local Ricci coefficient from -1 to 1, and a dashed line at the published value."}} tags=["remove-input"]
place("fig-ricci-local")

# %% [markdown]
# Ricci flow deforms a space by its curvature: where the curvature is positive, distances shrink, and
# where it is negative, they grow. Nothing is counted here, but the question is that of the rest of the
# book: what do layers do to the shape of data, and is it learning that does it?

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from topo_utils.book import AtLeast, NonEmpty

# The images: mnist_5k, digits, or another data set with labels and pictures of one size.
dataset: str = "mnist_5k"
# The two classes to tell apart.
classes: list[AtLeast[0]] = [1, 7]
# How many images of each class the networks are trained on.
n_train: AtLeast[1] = 250
# How many other images of each class they are measured on.
n_held_out: AtLeast[1] = 250
# How many hidden layers, at least 3.
depth: AtLeast[3] = 7
# How many units each of them has.
width: AtLeast[1] = 25
# How often each training image is seen.
epochs: AtLeast[1] = 60
# The same where the labels are shuffled, which takes longer to learn.
epochs_shuffled: AtLeast[1] = 250
# The same for networks that are stopped early, to see the coefficient against accuracy.
epochs_early: list[AtLeast[1]] = [2, 5, 15]
# The learning rate of the first step.
learning_rate: float = 0.001
# How many networks of each kind, at least 2.
n_seeds: AtLeast[2] = 3
# How many nearest neighbours for the local coefficient, as a share of the points.
neighbours: float = 0.05
# The same for the global coefficient, ascending; the verdict looks at the last.
neighbours_global: NonEmpty[float] = [0.05, 0.125, 0.25]
# How many random orders of the layers, for the control of that name.
n_orders: AtLeast[1] = 200
# The published mean local coefficient to compare with; the default is for these defaults.
published: float = -0.831
# Of the choice of images, weights, training and random orders.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# At every layer of a fully connected ReLU network (the input, the hidden layers, the probability at the
# output) each point is joined to its k nearest neighbours. The distance γ of two points is a number of
# steps. With d(x) neighbours of x, the *Forman curvature* of an edge is 4 − d(x) − d(y); the
# *augmented* one adds 3 for each triangle on it.
#
# **Local coefficient** ρ(x) {cite}`hehl2025`: Pearson's correlation over layers of the mean augmented
# curvature of the edges at x with the mean growth of γ from x to its neighbours. A network has the
# mean over points, an interval comes from a bootstrap over seeds (95 %). Controls: the *untrained*
# twin, networks that learned *shuffled* labels, and *rescaled* units, which leave the network's function
# as it is.

# %% tags=["hide-cell"]
from functools import partial
from itertools import accumulate, pairwise, product

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
from scipy.sparse.csgraph import shortest_path
from scipy.stats import spearmanr
from sklearn.neighbors import kneighbors_graph
from threadpoolctl import threadpool_limits

from topo_utils import Estimate, bootstrap, bootstrap_mean
from topo_utils.book import fill, record_finding
from topo_utils.datasets import grey_pictures
from topo_utils.plotting import COLOURS, use_style
from topo_utils.training import fully_connected, one_thread, trained

use_style()
_ = threadpool_limits(1)  # the matrices are small: threads would wait
if len(set(classes)) != 2 or len(classes) != 2:
    raise ValueError("accepted: two different classes")
shares = [neighbours, *neighbours_global]
fewest = 2 * min(n_train, n_held_out)
if min(shares) * fewest < 1 or max(shares) >= 0.5:
    raise ValueError(
        f"neighbours are {shares}; accepted: shares of the points below 0.5, "
        f"and at least one of {fewest} points"
    )


def neighbour_graph(points, k):
    """Adjacency (N, N): each point joined to its k nearest, whichever of the two says so."""
    graph = kneighbors_graph(points, k)
    return graph.maximum(graph.T)


def forman_curvature(graph):
    """Curvature (N, N) of edges, 0 elsewhere: plain, and augmented by triangles."""
    adjacency = graph.toarray()
    degree = adjacency.sum(axis=0)
    plain = adjacency * (4 - degree[:, None] - degree)
    return plain, plain + 3 * adjacency * (adjacency @ adjacency)


def hop_distances(graph):
    """Numbers of steps (N, N) between points, infinite between pieces."""
    return shortest_path(graph, unweighted=True)


def pearson_by_column(a, b):
    """Of columns of (L, N), where b is finite; NaN for a constant."""
    known = np.isfinite(b)
    count = np.maximum(known.sum(axis=0), 1)
    a, b = (np.where(known, x, 0) for x in (a, b))
    a, b = (np.where(known, x - x.sum(axis=0) / count, 0) for x in (a, b))
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    undefined = np.full(a.shape[1], np.nan)
    products = (a * b).sum(axis=0)
    return np.divide(products, scale, out=undefined, where=scale > 1e-9)


def local_flow(clouds, k):
    """Curvature and expansion by layer and point, both (L - 1, N), of L clouds of N points."""
    graphs = [neighbour_graph(points, k) for points in clouds]
    curvature, expansion = [], []
    for graph, after in pairwise(graphs):
        bent = forman_curvature(graph)[1].sum(axis=0)
        curvature.append(np.ravel(bent / graph.sum(axis=0)))
        steps = hop_distances(after)
        joined = (graph.toarray() > 0) & np.isfinite(steps)
        growth = np.where(joined, steps - 1, 0).sum(axis=0)
        count = joined.sum(axis=0)
        mean = growth / np.maximum(count, 1)
        expansion.append(np.where(count > 0, mean, np.nan))
    return np.array(curvature), np.array(expansion)


def global_flow(clouds, k):
    """Total curvature of each graph, and the sum of all its distances, both (L,)."""
    graphs = [neighbour_graph(points, k) for points in clouds]
    curvature = [forman_curvature(graph)[0].sum() / 2 for graph in graphs]
    distances = [hop_distances(graph).sum() / 2 for graph in graphs]
    return np.array(curvature), np.array(distances)


def global_coefficient(curvature, distances):
    """Correlation over layers (L,) of total curvature with the change of the sum of distances.

    NaN where a graph is in several pieces.
    """
    if not np.isfinite(distances).all():
        return np.nan
    change = np.diff(distances)[:, None]
    return pearson_by_column(curvature[:-1, None], change).item()


def layer_outputs(network, points):
    """The points at the input, after hidden layers, and their probability of the last class."""
    with torch.no_grad():
        clouds = list(accumulate([points, *network], lambda x, f: f(x)))
    clouds[-1] = clouds[-1].softmax(dim=1)[:, -1:]
    return [cloud.numpy() for cloud in clouds]


def rescale(network, factors):
    """Multiply each hidden unit by its factor and undo it in the next layer, in place.

    The network is as of `fully_connected` with ReLU; the factors, one tensor for each hidden layer,
    are positive. What the network computes stays the same.
    """
    linear = [block[0] for block in network[:-1]] + [network[-1]]
    with torch.no_grad():
        for (layer, after), factor in zip(
            pairwise(linear), factors, strict=True
        ):
            layer.weight *= factor[:, None]
            layer.bias *= factor
            after.weight /= factor
    return network


# %% tags=["hide-cell"]
pictures, labels = grey_pictures(dataset, seed=seed)
chosen = np.isin(labels, classes)
pixels = torch.from_numpy(pictures[chosen] / np.float32(255)).flatten(1)
labels = torch.from_numpy((labels[chosen] == classes[1]).astype(np.int64))
available = labels.bincount(minlength=2).min().item()
if n_train + n_held_out > available:
    raise ValueError(
        f"n_train is {n_train}, n_held_out {n_held_out}; accepted: together at "
        f"most {available}, the images of a class"
    )


def share_right(network, points, labels):
    guesses = network(points.double()).argmax(dim=1)
    return (guesses == labels).double().mean().item()


def coefficients(clouds):
    """Curvature and expansion by layer and point, and ρ(x)."""
    flow = local_flow(clouds, round(neighbours * len(clouds[0])))
    return *flow, pearson_by_column(*flow)


n_points = 2 * n_held_out
build = partial(fully_connected, pixels.shape[1], 2, depth, width)
MAIN = ["trained", "untrained"]
ARMS = [*MAIN, "shuffled", "rescaled"]
LAYERS = ["with input", "hidden only"]
settings = {"batch_size": 50, "learning_rate": learning_rate}
rows, rows_global, orders = [], [], []
with one_thread(), torch.no_grad():
    for each in range(n_seeds):
        rng, start = np.random.default_rng([seed, each]), 1000 * seed + each
        parts = [rng.permutation(np.flatnonzero(labels == c)) for c in (0, 1)]
        training = np.concatenate([part[:n_train] for part in parts])
        rest = [part[n_train:][:n_held_out] for part in parts]
        held_out = np.concatenate(rest)
        shown, right = pixels[training], labels[training]
        wrong = right[torch.from_numpy(rng.permutation(len(right)))]
        runs = [("untrained", right, 0), ("shuffled", wrong, epochs_shuffled)]
        runs += [("stopped early", right, n) for n in epochs_early]
        runs += [("trained", right, epochs), ("rescaled", right, epochs)]
        for arm, learned, n_epochs in runs:
            data = shown, learned
            given = settings | {"epochs": n_epochs, "seed": start}
            network = trained(build, *data, **given)
            network.double()  # a probability near 1 needs the digits
            if arm == "rescaled":
                logs = rng.uniform(-1, 1, size=(depth, width)) * np.log(4)
                rescale(network, torch.from_numpy(np.exp(logs)))
            new = share_right(network, pixels[held_out], labels[held_out])
            accuracy = {
                "right, training": share_right(network, shown, learned),
                "right, held out": new,
            }
            places = {"held out": held_out, "training": training}
            for where in list(places)[: 2 if arm in ARMS[:3] else 1]:
                points = pixels[places[where]].double()
                clouds = layer_outputs(network, points)
                curvature, expansion, rho = coefficients(clouds)
                row = {"arm": arm, "seed": each, "measured on": where}
                row |= {"ρ": np.nanmean(rho), "negative": (rho < 0).mean()}
                row["undefined"] = np.isnan(rho).mean()
                rows.append(row | accuracy)
                if where == "training" or arm not in MAIN:
                    continue
                if arm == "trained":
                    moved = map(rng.permutation, [expansion] * n_orders)
                    drawn = [pearson_by_column(curvature, m) for m in moved]
                    orders.append(np.nanmean(drawn, axis=1))
                for share in neighbours_global:
                    flow = global_flow(clouds[:-1], round(share * n_points))
                    for first, layers in enumerate(LAYERS):
                        value = global_coefficient(*(x[first:] for x in flow))
                        rows_global.append((arm, each, share, layers, value))
local = pd.DataFrame(rows)
names = ["arm", "seed", "share", "layers", "ρ"]
overall = pd.DataFrame(rows_global, columns=names)


# %%
def over_seeds(arm, where="held out", column="ρ"):
    """Mean over seeds, with its interval."""
    here = (local["arm"] == arm) & (local["measured on"] == where)
    return bootstrap_mean(local[here][column], seed=seed)


found = {arm: over_seeds(arm) for arm in ARMS}
print(f"{found['trained']:+.2f}")

# %% tags=["hide-cell"]
on_training = {arm: over_seeds(arm, "training") for arm in ARMS[:3]}
figure, ax = plt.subplots(figsize=(7.2, 3.6))
for (row, arm), where in product(enumerate(ARMS), ("held out", "training")):
    here = (local["arm"] == arm) & (local["measured on"] == where)
    if not here.any():
        continue
    filled = where == "held out"
    style = {"color": f"C{row}", "fillstyle": "full" if filled else "none"}
    row += -0.12 if filled else 0.12
    part, (mean, low, high) = local[here]["ρ"], over_seeds(arm, where)
    beside = [2 * row - round(row)] * len(part)
    ax.plot(part, beside, ".", alpha=0.6, **style)
    bar = [[mean - low], [high - mean]]
    ax.errorbar(mean, row, xerr=bar, fmt="o", **style)
ax.axvline(0, color="black", lw=1)
ax.axvline(published, color="black", lw=1, ls="--")
ax.set_yticks(range(len(ARMS)), ARMS)
ax.set(xlim=(-1, 1), ylim=(len(ARMS) - 0.5, -0.5))
ax.set_xlabel("mean local coefficient ρ(x)")
plt.close(figure)
fill(
    "fig-ricci-local",
    figure,
    caption=f"The local coefficient is {found['trained'].value:.2f} in trained networks, "
    f"{found['untrained'].value:.2f} in their untrained twins, and {found['shuffled'].value:.2f} in "
    "networks that learned shuffled labels. Points: mean over images, one network each; bars: mean over "
    "networks and 95 % interval. Filled: on held-out images; open: on the training images. Dashed: the "
    "published mean.",
)

# %% [markdown]
# ## Is it learning?
#
# A network of *shuffled* labels has been trained, and knows nothing of any digit. *Random orders* pair
# the curvature of a layer with the expansion at a different one. *Rescaled* units use that ReLU commutes
# with a positive factor: multiplying what comes into a unit and dividing what goes out leaves the
# function of the network exactly as it was. With one factor for each layer the graphs do not change
# either, since steps are counted and not lengths; with a factor of its own for each unit, drawn between
# 1/4 and 4, they do. A neighbour that the next layer puts into another piece of the graph has no finite
# distance there and is left out.

# %% tags=["hide-input"]
columns = {
    "share of points with ρ(x) < 0": "negative",
    "right, of training images": "right, training",
    "right, of held-out images": "right, held out",
}
table = {
    "mean ρ(x), held-out images": {arm: f"{found[arm]:+.2f}" for arm in ARMS},
    "mean ρ(x), training images": {
        arm: f"{value:+.2f}" for arm, value in on_training.items()
    },
}
for name, column in columns.items():
    means = {arm: over_seeds(arm, column=column).value for arm in ARMS}
    table[name] = {arm: f"{mean:.3f}" for arm, mean in means.items()}
pd.DataFrame(table).fillna("–").T

# %% tags=["remove-input"]
# A random order of layers is as good as the true one if its coefficients, averaged over networks,
# are as low as the true coefficient.
random_orders = np.mean(orders, axis=0)
as_low = (random_orders <= found["trained"].value).sum()
as_low = (1 + as_low) / (1 + n_orders)
orders_low, orders_high = np.percentile(random_orders, [2.5, 97.5])
accuracy = over_seeds("trained", column="right, held out").value
memorised = over_seeds("shuffled", column="right, training").value
Markdown(f"""
On {n_points} held-out images of `{dataset}` ({classes[0]} against {classes[1]}), with
{round(neighbours * n_points)} neighbours, {n_seeds} trained networks (right for {100 * accuracy:.1f} % of
these images) have a mean local coefficient of **{found["trained"]:+.2f}**; the published mean for a
network of the default size is {published:.3f}. On their own training images it is
{on_training["trained"]:+.2f}. Their untrained twins have {found["untrained"]:+.2f}. Over random orders of
the layers, the mean of the trained networks spreads from {orders_low:.2f} to {orders_high:.2f} (95 %), and
a share of {as_low:.3f} of the orders is at least as low as the true one. ρ(x) is undefined for at most
{100 * local["undefined"].max():.1f} % of the points of a network.

*Shuffled labels:* networks that learned {100 * memorised:.0f} % of random labels by heart have
**{found["shuffled"]:+.2f}** on held-out images and {on_training["shuffled"]:+.2f} on those that they
learned. Where this is about as low as with the true labels, the coefficient tells that a network has been
trained to pull two sets of points apart, not that it has understood the difference.

*Rescaled units:* the trained networks, written with different weights and computing the same function,
have {found["rescaled"]:+.2f}. As far as this differs from {found["trained"]:+.2f}, the coefficient belongs
to a way of writing a function down, and not to the function.
""")

# %% [markdown]
# ## Does the coefficient go with accuracy?
#
# The second half of the claim: the coefficient goes with accuracy. Networks that were stopped early
# give accuracies between those of the untrained and the trained ones.

# %% mystnb={"figure": {"caption": "Local coefficient against accuracy on held-out images, one point for each network.", "name": "fig-ricci-accuracy"}, "image": {"alt": "Scatter chart of the local Ricci coefficient against accuracy for untrained networks, networks stopped early, trained ones and ones with shuffled labels."}} tags=["hide-input"]
others = local[local["measured on"] == "held out"]
others = others[others["arm"] != "rescaled"]
kinds = ["untrained", "stopped early", "trained", "shuffled"]
figure, ax = plt.subplots(figsize=(7.2, 3.1))
for arm, colour, marker in zip(kinds, COLOURS, "osD^", strict=False):
    part = others[others["arm"] == arm]
    x, y = part["right, held out"], part["ρ"]
    ax.plot(x, y, marker, color=colour, label=arm, alpha=0.8)
ax.axhline(0, color="black", lw=1)
ax.set_xlabel("accuracy on held-out images")
ax.set_ylabel("mean local coefficient ρ(x)")
_ = ax.legend(fontsize=9)


# %% tags=["remove-input"]
def goes_with_accuracy(arms):
    """Spearman's correlation of accuracy with -ρ over networks, resampled by seed (95 %)."""
    part = others[others["arm"].isin(arms)]
    columns = part.set_index("seed")[["right, held out", "ρ"]]
    by_seed = [columns.loc[[each]].to_numpy() for each in range(n_seeds)]

    def spearman(drawn):
        sample = np.concatenate([by_seed[i] for i in drawn])
        # A resample in which all accuracies or all coefficients agree has no correlation.
        if not (np.ptp(sample, axis=0) > 0).all():
            return np.nan
        return spearmanr(sample[:, 0], -sample[:, 1]).statistic

    found = bootstrap(spearman, n_seeds, n_bootstrap=1000, seed=seed)
    return Estimate(0.0, -1.0, 1.0) if np.isnan(found.value) else found


with_labels = goes_with_accuracy(["stopped early", "trained"])
with_noise = goes_with_accuracy(["stopped early", "trained", "shuffled"])
Markdown(f"""
Over {n_seeds * (1 + len(epochs_early))} networks that were trained on true labels, for a short or a long
time, Spearman's correlation of accuracy with −ρ is **{with_labels:+.2f}**. With the networks of shuffled
labels, whose accuracy is chance, it is {with_noise:+.2f}. Training for longer changes both numbers, which
is one reason why they can go together; networks of shuffled labels are trained for
{epochs_shuffled} epochs, those of true labels for at most {max([epochs, *epochs_early])}.
""")

# %% [markdown]
# ## Does the global coefficient hold up?
#
# The first paper's coefficient is one number for each network: the sum of the curvature over all edges,
# and the change of the sum of γ over all pairs, correlated over layers (without the output). A graph in
# several pieces has none, as in the paper. It has a choice that the paper scans (the number of
# neighbours) and one that its text and its published code leave open (whether the input counts as a
# layer), and it is a correlation of a few layers.

# %% mystnb={"figure": {"caption": "Global coefficient by number of neighbours, one point for each network, trained against untrained. Left: the input counts as a layer; right: hidden layers only. Networks with a graph in several pieces are left out.", "name": "fig-ricci-global"}, "image": {"alt": "Two charts of the global Ricci coefficient against the share of neighbours, with points for trained and untrained networks, one chart with and one without the input layer."}} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.1), sharey=True)
for ax, layers in zip(axes, LAYERS, strict=True):
    for arm, colour, shift in zip(MAIN, COLOURS, (-0.1, 0.1), strict=False):
        part = overall[overall["arm"] == arm]
        part = part[part["layers"] == layers]
        at = part["share"].map(neighbours_global.index) + shift
        ax.plot(at, part["ρ"], "o", color=colour, label=arm, alpha=0.7)
    ax.axhline(0, color="black", lw=1)
    names = [f"{100 * share:g} %" for share in neighbours_global]
    ax.set_xticks(range(len(names)), names)
    ax.set(title=layers, ylim=(-1.05, 1.05))
    ax.set_xlabel("neighbours, share of points")
axes[0].set_ylabel("global coefficient")
_ = axes[0].legend(fontsize=9)

# %% tags=["remove-input"]
at_last = overall[overall["share"] == neighbours_global[-1]]
by_arm = at_last.pivot(index=["layers", "seed"], columns="arm", values="ρ")
difference = by_arm["trained"] - by_arm["untrained"]
of_trained = by_arm["trained"]
global_trained = {way: of_trained[way].dropna().tolist() for way in LAYERS}
paired = {layers: difference[layers].dropna().tolist() for layers in LAYERS}


def negative(values):
    """How many are negative, of how many that are defined."""
    known = pd.Series(values).dropna()
    return f"{(known < 0).sum()} of {len(known)}"


all_trained, all_untrained = (
    negative(overall[overall["arm"] == arm]["ρ"]) for arm in MAIN
)
Markdown(f"""
With {100 * neighbours_global[-1]:g} % of the points as neighbours, the global coefficient of trained
networks is negative in {negative(global_trained["with input"])} with the input and in
{negative(global_trained["hidden only"])} without; in untrained networks, both ways together, in
**{negative(by_arm["untrained"])}**. Over all numbers of neighbours it is negative in {all_trained}
measurements of trained and in {all_untrained} of untrained networks; {overall["ρ"].isna().sum()} of
{len(overall)} measurements are undefined because a graph was in several pieces.
""")

# %% [markdown]
# ## What did the authors publish?
#
# By their own numbers, the *global* coefficient is negative before anything is learned, and the *local*
# one is not. Of the first paper's code, published as Ricci-NN, the part in Python does not compute the
# formula of the paper (products of degrees in place of sums, and no distances along the graph); the
# part in R does.
#
# :::{dropdown} Some of the published coefficients
# The second paper's authors published their notebooks with the outputs: mean local coefficients of
# three networks each (augmented Forman curvature, 50 neighbours of 1,000 test points). Some of
# them:
#
# | data | width × depth | mean ρ(x) | sd over networks | share negative |
# |---|---|---|---|---|
# | MNIST 1 against 7 | 25 × 7 | −0.831 | 0.011 | 0.995 |
# | MNIST 1 against 7 | 50 × 10 | −0.853 | 0.006 | 0.999 |
# | MNIST 1 against 7 | 15 × 10 | −0.728 | 0.225 | 0.877 |
# | MNIST 6 against 9 | 50 × 7 | −0.339 | 0.295 | 0.682 |
# | Fashion-MNIST 5 against 7 | 50 × 10 | −0.888 | 0.005 | 1.000 |
# | Fashion-MNIST 3 against 6 | 25 × 7 | −0.446 | 0.075 | 0.881 |
# | CIFAR-10 0 against 1 | 50 × 15 | −0.912 | 0.013 | 1.000 |
# | two circles, noise 0.03 | 25 × 7 | −0.412 | 0.053 | 0.888 |
#
# They hold a control of their own, ten untrained networks of depth 10 and width 25 for each of four
# synthetic sets (mean ± standard deviation of the global coefficient):
#
# | data | global | of these negative | local |
# |---|---|---|---|
# | circles | −0.358 ± 0.278 | 8 of 10 | −0.047 |
# | four discs | −0.330 ± 0.123 | 10 of 10 | −0.008 |
# | cylinders | −0.255 ± 0.131 | 10 of 10 | −0.004 |
# | tori | −0.295 ± 0.145 | 9 of 10 | −0.056 |
# :::

# %% [markdown]
# ## The rule
#
# Fixed beforehand. *Inconclusive* with fewer than 5 seeds, or where the trained networks are right for
# less than 95 % of the held-out images. Else *not reproduced* unless the local coefficient of trained
# networks is negative and its interval lies below that of the untrained ones. *Reproduced* if, besides,
# the interval lies within 0.10 of the published mean, shuffled labels do not give a negative coefficient
# too (an interval below 0), and the global coefficient holds up: at the largest number of neighbours,
# with and without the input, it is negative in all networks and lower than in their untrained twins (the
# interval of the paired difference lies below 0). *Reproduced with limits* otherwise.


# %% tags=["hide-cell"]
def ricci_verdict(
    trained, untrained, shuffled, published, global_holds, n_seeds, accuracy
):
    """Verdict and reason; the first three are local coefficients with their intervals."""
    said = f"The local coefficient is {trained} in trained networks and {untrained} in untrained ones"
    if n_seeds < 5:
        return (
            "inconclusive",
            f"{said}, but from {n_seeds} seeds; the rule asks for 5.",
        )
    if accuracy < 0.95:
        right = f"{100 * accuracy:.0f} % of images"
        return "inconclusive", f"The networks are right for only {right}."
    if trained.high >= min(0, untrained.low):
        return (
            "not reproduced",
            f"{said}: not negative, or not below the untrained.",
        )
    limits = []
    if shuffled.high < 0:
        limits.append(f"shuffled labels give {shuffled.value:.2f} as well")
    if trained.low < published - 0.10 or trained.high > published + 0.10:
        limits.append(
            f"the interval is not within 0.10 of the published {published:.3f}"
        )
    if not global_holds:
        limits.append(
            "the global coefficient is not always negative and below the untrained one"
        )
    if limits:
        return "reproduced with limits", f"{said}, but {'; '.join(limits)}."
    return "reproduced", f"{said}, and the controls do not show it."


def global_coefficient_holds(trained, differences, n_seeds, interval):
    """Negative in all networks, of which half are defined, and lower than in untrained twins?

    `trained` and `differences` (paired) are by way of counting layers; `interval` gives the mean of
    a list of numbers with its interval.
    """
    return all(
        len(differences[way]) >= max(2, n_seeds / 2)
        and max(trained[way]) < 0
        and interval(differences[way]).high < 0
        for way in trained
    )


holds = global_coefficient_holds(
    global_trained, paired, n_seeds, bootstrap_mean
)
three = (found[arm] for arm in ARMS[:3])
verdict, reason = ricci_verdict(*three, published, holds, n_seeds, accuracy)
numbers = {f"local_coefficient_{arm}": found[arm] for arm in ARMS}
for arm, value in on_training.items():
    numbers[f"local_coefficient_{arm}_on_training_images"] = value
numbers["share_of_random_layer_orders_as_low"] = as_low
numbers["spearman_of_accuracy_and_strength"] = with_labels
numbers["spearman_of_accuracy_and_strength_with_shuffled"] = with_noise
for layers, values in paired.items():
    if len(values) > 1:
        name = f"global_coefficient_trained_less_untrained_{layers.replace(' ', '_')}"
        numbers[name] = bootstrap_mean(values, seed=seed)
record_finding(
    claim="Layers of a trained classifier move neighbourhoods as a Ricci flow would",
    verdict=verdict,
    reason=f"{reason} The global coefficient, at the largest number of neighbours, is negative in "
    f"{negative(by_arm['untrained'])} measurements of untrained networks.",
    headline=f"Local coefficient of trained networks: {found['trained']}; of their untrained twins: "
    f"{found['untrained']}; published: {published:.2f}.",
    numbers=numbers,
)

# %% [markdown]
# ## What this does not show
#
# - What the papers' own networks do: these train on 13,000 images with Adam at a fixed rate of
#   0.001 in one batch until 99 % of the training images are right (the second paper), or on raw pixels
#   with RMSprop for 50 epochs (the first). Here it is a few hundred images in batches of 50, Adam with a
#   falling rate and a set number of epochs, pixels between 0 and 1, and two outputs with a softmax in
#   place of one with a sigmoid, which is the same function.
# - That a network with a low coefficient has learned anything that is true of new images.
# - That layers *follow* curvature: a correlation has no direction.

# %% [markdown]
# ## What to try next
#
# - More networks, about four minutes: `topobook run ricci_flow --preset thorough`.
# - Another pair, for which the published mean is far from that of 1 and 7: `-p classes '[6, 9]' -p
#   width 50 -p published -0.339`.
# - A higher rate, `-p learning_rate 0.003`: the published number is for 0.001. How much does the
#   local coefficient owe to it?
# - A different number of neighbours: `-p neighbours 0.02`.
# - Very wide networks, whose hidden layers need to move little in order to learn: `-p width 400`.
# - With an internet connection, as many test points as were published: `topobook run ricci_flow --preset
#   paper`.
#
# ## Exercises
#
# ```{exercise} Four small graphs
# :label: ex-ricci-flow-1
#
# Work out the Forman curvature of an edge, plain and augmented, in a triangle, in a cycle of six
# points, in a star of n leaves and in the complete graph of n points. In which of them do triangles
# turn the sign?
# ```
#
# ```{solution} ex-ricci-flow-1
# :label: sol-ricci-flow-1
# :class: dropdown
#
# Plain: 4 minus both degrees. Triangle and cycle: 4 − 2 − 2 = 0. Star: 4 − 1 − n = 3 − n. Complete
# graph: 4 − 2(n − 1) = 6 − 2n. Augmented, with three for each triangle on the edge: triangle 3,
# cycle 0, star 3 − n, complete graph 6 − 2n + 3(n − 2) = n.
#
# In the complete graph of more than three points the sign turns from negative to positive: plain
# Forman curvature takes any dense neighbourhood for negatively curved, and only the triangles tell
# a clique from the middle of a star.
# ```
#
# ```{exercise} A factor for a layer
# :label: ex-ricci-flow-2
#
# Show that multiplying all weights and biases of one hidden layer by c > 0 and dividing the next
# layer's weights by c changes neither the network's function nor ρ(x). Why does the proof fail when
# each unit has a factor of its own?
# ```
#
# ```{solution} ex-ricci-flow-2
# :label: sol-ricci-flow-2
# :class: dropdown
#
# ReLU(cz) = c ReLU(z) for c > 0, so the layer's outputs are multiplied by c and the next layer
# divides them again. All distances in that layer grow by c, the order of distances stays, and with
# it the nearest neighbours, the graph, its hop distances and its curvature.
#
# With a factor for each unit the function still stays, but a coordinate that is stretched counts
# more in the Euclidean distance: different points become the nearest. So the coefficient depends on
# something that the network's function does not.
# ```
#
# ```{exercise} What a negative sign shows
# :label: ex-ricci-flow-3
#
# Suppose that a network puts every class into one dense cluster, the further the deeper, in
# whatever way. Which sign has the curvature of an edge inside a cluster, and do its distances grow
# or shrink? What does that say about what a negative coefficient shows?
# ```
