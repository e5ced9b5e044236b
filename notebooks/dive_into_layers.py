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
# # Do Betti numbers tell how wide a network must be?
#
# > A fully connected network needs a size for which the Betti numbers of its layers, taken of the cloud
# > of a class's points, are not smaller than those of the input; from there on its accuracy saturates.
# >
# > — the claim of {cite}`yang2021`, in our words

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Accuracy and loops by width.", "name": "fig-layers-width"}, "image": {"alt": "Four charts against the width of the network for the square and the ReLU: accuracy above, and below the numbers of loops of three layers of trained and untrained networks, with a line for the input."}} tags=["remove-input"]
place("fig-layers-width")

# %% [markdown]
# Elsewhere in this book, layers that simplify the data are the good ones; here, a layer that has lost a
# loop of the data is too small. Both cannot be the whole truth. But anything that grows with width goes
# along with accuracy, so the page also asks what is left of the relation among networks of equal width,
# and what the same networks show untrained.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from topo_utils.book import AtLeast, NonEmpty

# The images: mnist_5k, digits, or another data set with labels and pictures of one size.
dataset: str = "mnist_5k"
# Units in each of the three hidden layers, one network a width and seed; at least two widths.
widths: NonEmpty[AtLeast[1]] = [2, 4, 8, 16, 32, 64, 128]
# How many images the networks are trained on.
n_train: AtLeast[1] = 2000
# How many others give the accuracy.
n_test: AtLeast[1] = 1000
# How many of these, of each class, are counted; at least 5.
n_counted: AtLeast[5] = 60
# How often each training image is seen.
epochs: AtLeast[1] = 10
# The learning rate of the first step; with x² a low one leaves the networks half trained.
learning_rate: float = 0.01
# How many networks of each width and activation function, at least 2.
n_seeds: AtLeast[2] = 3
# The largest distance of the scale-free count, in units of the layer's median distance.
reach: float = 1.2
# A long bar lives for at least this long, in units of the layer's median distance.
long_bar: float = 0.05
# Of splits, weights and training.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# Networks have three hidden layers, with the authors' square x² or with ReLU. At the input and at each
# layer the same test images of one class form a cloud; β₁ is read from the persistent homology of its
# Vietoris–Rips complex (GUDHI {cite}`gudhi`). *As published*, all bars of degree 1 count up to an edge
# length of 2 |x₀|, with x₀ the first input image of the class; *scale-free*, all that are born below a
# fixed multiple of the layer's own median distance. Counts are means over classes.
#
# Accuracy *saturates* within 2 points of the best network with the same activation on the same split.
# The number below is the share of these in which **every layer has at least as many loops as the
# input**. The control is the untrained twin.

# %% tags=["hide-cell"]
from functools import partial
from itertools import product

import gudhi
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
from scipy.spatial.distance import pdist, squareform
from scipy.stats import binomtest
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from torch import nn

from topo_utils import Estimate, bootstrap, calibrate_batch_norm, correlation
from topo_utils.book import fill, record_finding
from topo_utils.datasets import grey_pictures
from topo_utils.plotting import use_style
from topo_utils.training import one_thread, trained

use_style()
_ = threadpool_limits(1)  # clouds are small: threads would wait
if len(set(widths)) < max(2, len(widths)):
    raise ValueError("accepted: at least two widths, all different")
if reach <= 0 or long_bar < 0:
    raise ValueError("accepted: reach above 0, long_bar from 0")


class Square(nn.Module):
    def forward(self, x):
        return x**2


FUNCTIONS = {"x²": Square, "ReLU": nn.ReLU}
EPOCHS = {"trained": epochs, "untrained": 0}
COUNTS = ["as published", "scale-free", "long bars"]


def loops(distances):
    """Births and deaths (B, 2) of the bars of degree 1 of the Vietoris-Rips complex."""
    rips = gudhi.RipsComplex(distance_matrix=distances)
    tree = rips.create_simplex_tree(max_dimension=1)
    tree.collapse_edges()
    tree.expansion(2)
    tree.compute_persistence()
    return tree.persistence_intervals_in_dimension(1).reshape(-1, 2)


def count_loops(points, published_reach, reach, long_bar):
    """Bars of degree 1 of a cloud (N, d): as published, scale-free, and the long ones of these."""
    distances = pdist(points)
    unit = np.median(distances)
    birth, death = loops(squareform(distances)).T
    near = birth <= reach * unit
    long = near & (death - birth >= long_bar * unit)
    return (birth <= published_reach).sum(), near.sum(), long.sum()


def square_or_relu(n_inputs, n_classes, activation, width):
    layers = []
    for inputs in (n_inputs, width, width):
        linear = nn.Linear(inputs, width)
        before, after = nn.BatchNorm1d(width), nn.BatchNorm1d(width)
        function = FUNCTIONS[activation]()
        layers.append(nn.Sequential(linear, before, function, after))
    return nn.Sequential(*layers, nn.Linear(width, n_classes))


# %% tags=["hide-cell"]
pictures, classes = grey_pictures(dataset, seed=seed)
pixels = torch.from_numpy(pictures / np.float32(255)).flatten(1)
labels, n_classes = torch.from_numpy(classes), int(classes.max()) + 1
if min(n_train, n_test) < n_classes or n_train + n_test > len(pixels):
    raise ValueError(
        f"accepted: n_train and n_test from {n_classes}, the classes, "
        f"together at most {len(pixels)}, the images"
    )
draw = partial(train_test_split, train_size=n_train, test_size=n_test)
settings = {"batch_size": 64, "learning_rate": learning_rate}


def mean_counts(clouds, lengths):
    """Mean over classes (3,) of the counts of their clouds."""
    counts = []
    for cloud, length in zip(clouds, lengths, strict=True):
        points = cloud.double().numpy()
        counts.append(count_loops(points, length, reach, long_bar))
    return np.mean(counts, axis=0)


rows, at_input = [], []
with one_thread(), torch.no_grad():
    for each in range(n_seeds):
        start = 1000 * seed + each
        images = np.arange(len(pixels))
        training, test = draw(images, stratify=classes, random_state=start)
        of_class = (test[classes[test] == c] for c in range(n_classes))
        parts = [part[:n_counted] for part in of_class]
        fewest = min(map(len, parts))
        if fewest < n_counted:
            raise ValueError(
                f"n_counted is {n_counted}; accepted: at most {fewest}, the "
                "test images of a class"
            )
        lengths = [2 * pixels[part[0]].norm().item() for part in parts]
        inputs = [pixels[part] for part in parts]
        at_input.append(mean_counts(inputs, lengths))
        for activation, width, weights in product(FUNCTIONS, widths, EPOCHS):
            sizes = pixels.shape[1], n_classes, activation, width
            build = partial(square_or_relu, *sizes)
            data = pixels[training], labels[training]
            given = settings | {"epochs": EPOCHS[weights], "seed": start}
            network = trained(build, *data, **given)
            if weights == "untrained":
                calibrate_batch_norm(network, pixels[training])
            guesses = network(pixels[test]).argmax(dim=1)
            right = (guesses == labels[test]).double().mean().item()
            clouds = inputs
            for layer, block in enumerate(network[:3], 1):
                clouds = [block(cloud) for cloud in clouds]
                counts = mean_counts(clouds, lengths)
                row = activation, width, each, weights, layer, right
                rows.append((*row, *counts))
key = ["activation", "width", "seed", "weights"]
by_layer = pd.DataFrame(rows, columns=[*key, "layer", "accuracy", *COUNTS])
of_input = pd.DataFrame(at_input, columns=COUNTS)


def share_of(yes):
    """Share of True, and its exact binomial interval (95 %)."""
    found = binomtest(int(yes.sum()), len(yes))
    return Estimate(found.statistic, *found.proportion_ci())


# %%
# The layer with the fewest loops decides whether all reach the input.
networks = by_layer.groupby(key, sort=False)[["accuracy", *COUNTS]].min()
learned = networks.xs("trained", level="weights")
best = learned.groupby(["activation", "seed"])["accuracy"].transform("max")
saturated = learned["accuracy"] >= best - 0.02
needed = of_input.loc[learned.index.get_level_values("seed")]
reaches = learned[COUNTS] >= needed.to_numpy()
enough = reaches[saturated].sort_index()
share = share_of(enough.xs("x²")["as published"])
print(share)

# %% tags=["hide-cell"]
shared = {"sharex": True, "sharey": "row"}
figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.6), **shared)
for (above, below), activation in zip(axes.T, FUNCTIONS, strict=True):
    reached = learned.loc[activation]["accuracy"].groupby("width").mean()
    above.plot(reached, marker="o", color="black")
    above.set_title(activation)
    part = by_layer[by_layer["activation"] == activation]
    curves = part.groupby(["weights", "layer"], sort=False)
    for (weights, layer), curve in curves:
        mean = curve.groupby("width")["scale-free"].mean()
        style = f"C{layer - 1}o" + ("-" if weights == "trained" else "--")
        below.plot(mean, style, ms=3, label=f"layer {layer}, {weights}")
    level = of_input["scale-free"].mean()
    below.axhline(level, color="black", lw=1, label="input")
    below.set(xscale="log", xlabel="units in each layer")
    below.set_xticks(widths, widths, fontsize=8)
    below.minorticks_off()
axes[0, 0].set_ylabel("accuracy")
axes[1, 0].set_ylabel("β₁, mean over classes")
names = axes[1, 0].get_legend_handles_labels()
figure.legend(*names, ncols=3, fontsize=9, loc="outside upper center")
plt.close(figure)
n_saturated = int(saturated["x²"].sum())
n_reach = int(enough.xs("x²")["scale-free"].sum())
fill(
    "fig-layers-width",
    figure,
    caption=f"With x², all layers reach the loops of the input in {n_reach} of the {n_saturated} networks "
    "whose accuracy saturates (scale-free count). Above: accuracy by width. Below: scale-free β₁ by "
    "width, layer by layer, of trained networks (solid) and their untrained twins (dashed); the black "
    "line is the input's. Means over seeds.",
)

# %% [markdown]
# ## Is it more than width?
#
# Spearman's correlation of accuracy and β₁ is taken over networks, and then *given width*: the partial
# correlation of ranks, which is what the two share beyond what both share with width. Intervals are a
# bootstrap over networks (95 %), those of shares binomial. *Long bars* are the scale-free ones of some
# length, since for the two other counts a loop that lives for a moment is as good as one that stays;
# they do not enter the verdict. In the table, the first column is a share of the saturated networks; the
# others are correlations with accuracy.


# %% tags=["hide-input"]
def over_networks(*columns):
    """The correlation of two columns, given others, and its interval over networks (95 %)."""
    columns = np.array(columns, dtype=float)

    def statistic(networks):
        return correlation(*columns[:, networks])

    return bootstrap(statistic, columns.shape[1], seed=seed, vectorised=True)


found, table = {}, {}
for activation, count in product(FUNCTIONS, COUNTS):
    twin = networks.xs("untrained", level="weights").loc[activation][count]
    b1, accuracy = (learned.loc[activation][x] for x in (count, "accuracy"))
    width = learned.loc[activation].index.get_level_values("width")
    found[activation, count] = here = {
        "share": share_of(enough.xs(activation)[count]),
        "width": over_networks(accuracy, width),
        "b1": over_networks(accuracy, b1),
        "given width": over_networks(accuracy, b1, width),
        "width given b1": over_networks(accuracy, width, b1),
        "twin": over_networks(accuracy, twin),
        "twin given width": over_networks(accuracy, twin, width),
    }
    table[f"{activation}, {count}"] = {
        "all layers reach the input": str(here["share"]),
        "β₁": f"{here['b1'].value:+.2f}",
        "β₁, given width": f"{here['given width']:+.2f}",
        "width, given β₁": f"{here['width given b1'].value:+.2f}",
        "twin's β₁": f"{here['twin'].value:+.2f}",
        "twin's, given width": f"{here['twin given width'].value:+.2f}",
    }
pd.DataFrame(table).T

# %% tags=["remove-input"]
of_square, of_relu = (found[f, "as published"] for f in FUNCTIONS)
widest = max(widths)
at_widest = networks.loc["x²"].xs(widest, level="width")
at_widest = at_widest.groupby("weights").mean()
at_input = of_input.mean()
Markdown(f"""
On `{dataset}`, a class of {n_counted} images has {at_input["as published"]:.1f} loops at the input by the
published count, {at_input["scale-free"]:.1f} by the scale-free one, and {at_input["long bars"]:.1f} long
bars, mean over classes. Of {len(widths) * n_seeds} networks with x², {n_saturated} come within
2 points of the best one of their split. The share of these in which every layer has at least as many
loops as the input is **{of_square["share"]}** by the published count and
{found["x²", "scale-free"]["share"].value:.2f} by the scale-free one; for ReLU it is
{of_relu["share"].value:.2f} by the published count and
{found["ReLU", "long bars"]["share"].value:.2f} if only long bars count. The claim expects a share near 1.
Networks of {widest} units (x²), right for {100 * at_widest.loc["trained", "accuracy"]:.1f} %, have
{at_widest.loc["trained", "scale-free"]:.1f} loops in their poorest layer (scale-free), their untrained
twins {at_widest.loc["untrained", "scale-free"]:.1f}.

With x² and the published count, accuracy correlates with width by {of_square["width"]:+.2f}, and with β₁ by
{of_square["b1"]:+.2f}. Among networks of equal width it correlates with β₁ by
**{of_square["given width"]:+.2f}**; with width, once β₁ is given, by {of_square["width given b1"]:+.2f}. For
ReLU, the correlation with β₁ given width is {of_relu["given width"]:+.2f}. The loops of the *untrained* twin,
in which no training can be seen, correlate with the accuracy of the trained network by
{of_square["twin"]:+.2f} (x²) and {of_relu["twin"]:+.2f} (ReLU): where that is high, β₁ is mostly another name
for width.
""")

# %% [markdown]
# ## The rule
#
# Fixed beforehand, for networks with x² and for the published and the scale-free count each.
# *Inconclusive* with fewer than 20 networks or fewer than 5 whose accuracy saturates, or where one of
# the counts has nothing to correlate (no loop in any network, say). Else a count speaks for the claim if
# every layer reaches the input in more than 80 % of the saturated networks and the interval of the
# correlation given width lies above 0; it speaks against it if that share is below 20 %, or if the
# interval does not lie above 0. *Reproduced* if both counts speak for the claim, *not reproduced* if
# both speak against it, *reproduced with limits* otherwise.


# %% tags=["hide-cell"]
def layers_verdict(found, n_networks, n_saturated):
    """Verdict and reason from {count: (share, partial correlation with its interval)}."""
    if n_networks < 20 or n_saturated < 5:
        there = f"There are {n_networks} networks, {n_saturated} of them saturated"
        return "inconclusive", f"{there}; the rule asks for 20 and 5."
    empty = [count for count, (_, given) in found.items() if not any(given)]
    if empty:  # as where no loop is counted anywhere
        return "inconclusive", (
            f"{' and '.join(empty).capitalize()}, β₁ or the accuracy is the same in all networks of one "
            "width: there is nothing to correlate."
        )
    said, votes = [], []
    for count, (share, given) in found.items():
        said.append(
            f"{count}, all layers reach the input in {100 * share:.0f} % of the saturated networks, "
            f"and given width, accuracy correlates with β₁ by {given}"
        )
        supported = share > 0.8 and given.low > 0
        refuted = share < 0.2 or given.low <= 0
        votes.append(1 if supported else -1 if refuted else 0)
    reason = "; ".join(said)
    reason = f"{reason[0].upper()}{reason[1:]}."
    if min(votes) == 1:
        return "reproduced", reason
    against = max(votes) == -1
    return "not reproduced" if against else "reproduced with limits", reason


of_squares = (found["x²", count] for count in COUNTS[:2])
decisive = {
    count: (here["share"].value, here["given width"])
    for count, here in zip(COUNTS, of_squares, strict=False)
}
n_networks = len(widths) * n_seeds
verdict, reason = layers_verdict(decisive, n_networks, n_saturated)
recorded = {
    "share": "share_of_saturated_networks_that_reach_the_input",
    "given width": "partial_spearman_of_accuracy_and_b1_given_width",
    "twin": "spearman_of_accuracy_and_untrained_b1",
    "width": "spearman_of_accuracy_and_width",
}
numbers = {}
for (activation, count), here in found.items():
    function = "square" if activation == "x²" else "relu"
    end = f"{function}_{count.replace(' ', '_')}"
    for name, said in recorded.items():
        if name != "width" or count == COUNTS[0]:
            numbers[f"{said}_{end}"] = here[name]
record_finding(
    claim="A network needs a width at which its layers' Betti numbers reach those of the input",
    verdict=verdict,
    reason=f"{reason} The loops of the untrained twin correlate with the accuracy of the trained network: "
    f"{of_square['twin']}.",
    headline=f"Share of the accurate networks (x²) in which every layer has as many loops as the input: "
    f"{share} by the published count; the claim expects 1.",
    numbers=numbers,
)

# %% [markdown]
# ## What this does not show
#
# - What the authors' networks do: they use plain gradient descent on the summed loss for 60,000 steps
#   from normal weights, on all of MNIST; here it is a few epochs of Adam with a falling rate on a few
#   thousand images. The authors published no table of Betti numbers to compare with.
# - Anything of β₀: the authors' β₀ is a place in a list that begins with the bars of degree 1, so it
#   contains their β₁.
# - Whether layers *lose* loops for a reason: {doc}`simplicial_baseline` asks whether a trained network
#   loses the loops of a class, and this page whether it may not.

# %% [markdown]
# ## What to try next
#
# - More widths and networks, about four minutes: `topobook run dive_into_layers --preset thorough`.
# - Very wide networks: `-p widths '[16, 64, 256, 512]'`. Does any trained layer reach the input?
# - More points to a cloud: `-p n_counted 90`. The counts grow; do they grow alike at all layers?
# - A nearer horizon for the scale-free count: `-p reach 0.8`.
#
# ## Exercises
#
# ```{exercise} A circle of twelve
# :label: ex-dive-into-layers-1
#
# Twelve points lie evenly on a circle. How many bars of degree 1 has their Vietoris–Rips complex,
# and what becomes of them when the circle is mapped to a flat ellipse, or to a straight line?
# ```
#
# ```{solution} ex-dive-into-layers-1
# :label: sol-dive-into-layers-1
# :class: dropdown
#
# One: it is born when neighbours are joined, and dies when the triangles across the circle fill it.
# On an ellipse that is flat enough, points of the upper and the lower side are joined before the
# ends are, and the one loop falls apart into several short ones or none: the number depends on the
# shape, not only on the topology of what the points were taken from. On a line there are no loops,
# and no bars.
# ```
#
# ```{exercise} A scale for each layer
# :label: ex-dive-into-layers-2
#
# The published count keeps the edge length of the input at every layer. Multiply the weights of a
# layer by 100, and divide the next layer's by 100 (no batch norm, ReLU): what happens to the
# network's function, to its published count and to its scale-free one?
# ```
#
# ```{solution} ex-dive-into-layers-2
# :label: sol-dive-into-layers-2
# :class: dropdown
#
# The function stays. The layer's outputs are a hundred times as far apart, so at the input's edge
# length hardly any points are joined, and the published count at that layer goes to 0 (with a
# factor of 1/100 all points are joined at once, with the same result). The scale-free count divides
# distances by their median and does not change. A count that can be set at will without changing
# the network cannot say how large the network has to be.
# ```
#
# ```{exercise} A rival without topology
# :label: ex-dive-into-layers-3
#
# Find a quantity that has nothing to do with topology, that grows with width and that predicts
# accuracy as well as β₁ does. Which test on this page would tell it from a measure of capacity?
# ```
