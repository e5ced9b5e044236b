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
# # Betti numbers as a measure of capacity
#
# How wide must a network be? A companion paper {cite}`yang2021` answers with topology: a fully
# connected network needs a size for which the Betti numbers of its layers, taken of the cloud of a
# class's points, are not smaller than those of the input; from there on its accuracy saturates.
#
# This is the question of this book turned round. There, layers that simplify the data are the good
# ones; here, a layer that has lost a loop of the data is too small. Both cannot be the whole truth,
# and it can be tried out: networks of many widths are trained, and the loops of their layers
# counted. But anything that grows with width goes along with accuracy. So the page asks, besides,
# what is left of the relation among networks of equal width, and what the same networks show
# untrained.
#
# This page is a notebook: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters
#
# This page is a notebook, run from its source with the values below. To see it with others, type
# for instance
#
# ```
# topobook run dive_into_layers -p widths '[4, 16, 64, 128]'
# ```

# %% tags=["parameters"]
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
# Three hidden layers of n units each, after every one batch norm, the activation function, and
# batch norm again; the authors' activation is the square x², and ReLU is tried beside it. Test
# images of one class pass through the network. At the input and at each hidden layer they form a
# cloud of points; β₁ is read from the persistent homology of its Vietoris–Rips complex, built by
# GUDHI {cite}`gudhi` from the distances. The same images are counted at every layer. The labels say
# which images make up a cloud; whether the network sorts them rightly plays no part in the count.
#
# - *As published:* all bars of degree 1 up to an edge length of 2 |x₀|, where x₀ is the first input
#   image of the class. The length is the input's, for layers of any scale.
# - *Scale-free:* all bars born below a fixed multiple of the layer's own median distance.
# - *Long bars:* of these, those of some length. The other two count a loop that lives for a moment
#   as much as one that stays. This count is shown, and does not enter the verdict.
#
# The authors' β₀ is a place in a list that begins with the bars of degree 1, so that it contains
# their β₁; the verdict looks at β₁. All counts are means over the classes.
#
# Accuracy *saturates* in the networks that come within 2 points of the best one with the same
# activation on the same split. Spearman's correlation of accuracy and β₁ (of the layer that has the
# fewest bars, since all of them have to reach the input) is taken over networks, and then *given
# width*: the partial correlation of ranks, which is what accuracy and β₁ share beyond what both
# share with width. Intervals are a bootstrap over networks (95 %), those of shares binomial. The
# control is the untrained twin: the same initial weights, its batch-norm statistics set by one pass
# over the training images.
#
# What differs from the paper: there it is plain gradient descent on the summed loss for 60,000
# steps from normal weights, on all of MNIST; here a few epochs of Adam with a falling rate on a few
# thousand images. The authors published no table of Betti numbers, so there is none to compare
# with.

# %%
from functools import partial

import gudhi
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from scipy.spatial.distance import pdist, squareform
from scipy.stats import binomtest
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from torch import nn

from topo_utils import (
    Estimate,
    bootstrap,
    calibrate_batch_norm,
    correlation,
    open_images,
)
from topo_utils.book import glue, record_finding
from topo_utils.plotting import COLOURS, use_style
from topo_utils.training import one_thread, trained

use_style()
_ = threadpool_limits(1)  # clouds are small: threads would wait for one another
if min(widths) < 1 or len(set(widths)) < 2 or len(set(widths)) < len(widths) or epochs < 1:
    raise ValueError("accepted: at least two different widths from 1, epochs from 1")
if n_seeds < 2 or n_counted < 5 or reach <= 0 or long_bar < 0:
    raise ValueError("accepted: n_seeds from 2, n_counted from 5, reach above 0, long_bar from 0")


class Square(nn.Module):
    def forward(self, x):
        return x**2


FUNCTIONS = {"x²": Square, "ReLU": nn.ReLU}
WEIGHTS = ["trained", "untrained"]
COUNTS = ["as published", "scale-free", "long bars"]


def loops(distances):
    """Births and deaths (B, 2) of the bars of degree 1 of the Vietoris-Rips complex."""
    tree = gudhi.RipsComplex(distance_matrix=distances).create_simplex_tree(max_dimension=1)
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


def build(n_inputs, n_classes, activation, width):
    layers = []
    for inputs in (n_inputs, width, width):
        layers.append(
            nn.Sequential(
                nn.Linear(inputs, width),
                nn.BatchNorm1d(width),
                FUNCTIONS[activation](),
                nn.BatchNorm1d(width),
            )
        )
    return nn.Sequential(*layers, nn.Linear(width, n_classes))


# %% tags=["hide-input"]
opened = open_images(dataset, seed=seed)
pictures = [np.asarray(opened.picture(i).convert("L")) for i in range(len(opened))]
if opened.labels is None or len({picture.shape for picture in pictures}) > 1:
    raise ValueError(f"{dataset} has no labels, or pictures of several sizes; needed: one size")
pixels = torch.from_numpy(np.stack(pictures) / np.float32(255)).flatten(1)
labels = torch.from_numpy(opened.labels)
n_classes = int(labels.max()) + 1
if min(n_train, n_test) < n_classes or n_train + n_test > len(pixels):
    raise ValueError(
        f"n_train is {n_train}, n_test {n_test}; accepted: from {n_classes}, together at most "
        f"{len(pixels)}"
    )

rows, at_input = [], []
with one_thread(), torch.no_grad():
    for each in range(n_seeds):
        training, test = train_test_split(
            np.arange(len(pixels)),
            train_size=n_train,
            test_size=n_test,
            stratify=opened.labels,
            random_state=1000 * seed + each,
        )
        clouds = [test[opened.labels[test] == c][:n_counted] for c in range(n_classes)]
        if min(map(len, clouds)) < n_counted:
            raise ValueError(
                f"n_counted is {n_counted}, but a class has {min(map(len, clouds))} test images"
            )
        lengths = [2 * pixels[cloud[0]].norm().item() for cloud in clouds]

        def mean_counts(outputs, clouds=clouds, lengths=lengths):
            """Mean over classes (3,) of the counts of their clouds."""
            return np.mean(
                [
                    count_loops(output.double().numpy(), length, reach, long_bar)
                    for output, length in zip(outputs, lengths, strict=True)
                ],
                axis=0,
            )

        at_input.append(mean_counts([pixels[cloud] for cloud in clouds]))
        for activation in FUNCTIONS:
            for width in widths:
                make = partial(build, pixels.shape[1], n_classes, activation, width)
                for weights in WEIGHTS:
                    network = trained(
                        make,
                        pixels[training],
                        labels[training],
                        epochs=epochs if weights == "trained" else 0,
                        seed=1000 * seed + each,
                        batch_size=64,
                        learning_rate=learning_rate,
                    )
                    if weights == "untrained":
                        calibrate_batch_norm(network, pixels[training])
                    right = (network(pixels[test]).argmax(dim=1) == labels[test]).double().mean()
                    outputs = [pixels[cloud] for cloud in clouds]
                    for layer in (1, 2, 3):
                        outputs = [network[layer - 1](output) for output in outputs]
                        counts = mean_counts(outputs)
                        rows.append(
                            (activation, width, each, weights, layer, right.item(), *counts)
                        )
columns = ["activation", "width", "seed", "weights", "layer", "accuracy", *COUNTS]
by_layer = pd.DataFrame(rows, columns=columns)
# The layer with the fewest bars decides whether all reach the input.
networks = by_layer.groupby(columns[:4], sort=False)[["accuracy", *COUNTS]].min()
of_input = pd.DataFrame(at_input, columns=COUNTS)

# %% [markdown]
# ## Width, accuracy and loops

# %% mystnb={"figure": {"caption": "Above: accuracy by width. Below: scale-free &beta;&#8321; by width, layer by layer, of trained networks (solid) and their untrained twins (dashed); the black line is the input's. Means over seeds.", "name": "fig-layers-width"}, "image": {"alt": "Four charts against the width of the network for the square and the ReLU: accuracy above, and below the numbers of loops of three layers of trained and untrained networks, with a line for the input."}} tags=["hide-input"]
figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.6), sharex=True, sharey="row")
for (above, below), activation in zip(axes.T, FUNCTIONS, strict=True):
    reached = networks.loc[activation].xs("trained", level="weights")["accuracy"]
    above.plot(reached.groupby("width").mean(), marker="o", color="black")
    above.set_title(activation)
    for weights, style in (("trained", "-"), ("untrained", "--")):
        part = by_layer[(by_layer["activation"] == activation) & (by_layer["weights"] == weights)]
        for layer, colour in zip((1, 2, 3), COLOURS, strict=False):
            mean = part[part["layer"] == layer].groupby("width")["scale-free"].mean()
            below.plot(
                mean, style, marker="o", ms=3, color=colour, label=f"layer {layer}, {weights}"
            )
    below.axhline(of_input["scale-free"].mean(), color="black", lw=1, label="input")
    below.set(xscale="log", xlabel="units a layer")
    below.set_xticks(widths, widths, fontsize=8)
    below.minorticks_off()
axes[0, 0].set_ylabel("accuracy")
axes[1, 0].set_ylabel("β₁, mean over classes")
_ = figure.legend(
    *axes[1, 0].get_legend_handles_labels(), ncols=3, fontsize=9, loc="outside upper center"
)


# %% tags=["hide-input"]
def over_networks(*columns):
    """The correlation of two columns, given others, and its interval over networks (95 %)."""
    columns = np.array(columns, dtype=float)
    return bootstrap(
        lambda networks: correlation(*columns[:, networks]),
        columns.shape[1],
        seed=seed,
        vectorised=True,
    )


def share_of(yes):
    """Share of True, and its exact binomial interval (95 %)."""
    found = binomtest(int(yes.sum()), len(yes))
    return Estimate(found.statistic, *found.proportion_ci())


found, table = {}, {}
for activation in FUNCTIONS:
    learned, twin = (networks.loc[activation].xs(w, level="weights") for w in WEIGHTS)
    accuracy = learned["accuracy"].to_numpy()
    width = learned.index.get_level_values("width").to_numpy()
    best = learned.groupby("seed")["accuracy"].transform("max").to_numpy()
    saturated = accuracy >= best - 0.02
    for count in COUNTS:
        needed = of_input[count].to_numpy()[learned.index.get_level_values("seed")]
        b1, b1_twin = learned[count].to_numpy(), twin[count].to_numpy()
        found[activation, count] = here = {
            "saturated": int(saturated.sum()),
            "share": share_of((b1 >= needed)[saturated]),
            "width": over_networks(accuracy, width),
            "b1": over_networks(accuracy, b1),
            "twin": over_networks(accuracy, b1_twin),
            "given width": over_networks(accuracy, b1, width),
            "twin given width": over_networks(accuracy, b1_twin, width),
            "width given b1": over_networks(accuracy, width, b1),
        }
        table[activation, count] = {
            "saturated networks": here["saturated"],
            "of these, all layers reach the input": str(here["share"]),
            "accuracy and width": f"{here['width']:+.2f}",
            "accuracy and β₁": f"{here['b1']:+.2f}",
            "accuracy and β₁, given width": f"{here['given width']:+.2f}",
            "accuracy and width, given β₁": f"{here['width given b1']:+.2f}",
            "accuracy and β₁ of the twin": f"{here['twin']:+.2f}",
            "accuracy and β₁ of the twin, given width": f"{here['twin given width']:+.2f}",
        }
pd.DataFrame(table)

# %% tags=["remove-cell"]
of_square, of_relu = found["x²", "as published"], found["ReLU", "as published"]
widest = max(widths)
at_widest = networks.loc["x²"].xs(widest, level="width").groupby("weights").mean()
glue(
    n_per_function=len(widths) * n_seeds,
    n_counted=n_counted,
    data_name=dataset,
    input_published=of_input["as published"].mean(),
    input_scale_free=of_input["scale-free"].mean(),
    input_long=of_input["long bars"].mean(),
    saturated=of_square["saturated"],
    share=str(of_square["share"]),
    share_scale_free=found["x²", "scale-free"]["share"].value,
    share_relu=of_relu["share"].value,
    share_relu_long=found["ReLU", "long bars"]["share"].value,
    widest=widest,
    widest_accuracy=100 * at_widest.loc["trained", "accuracy"],
    widest_b1=at_widest.loc["trained", "scale-free"],
    widest_b1_twin=at_widest.loc["untrained", "scale-free"],
    by_width=f"{of_square['width']:+.2f}",
    by_b1=f"{of_square['b1']:+.2f}",
    by_twin=f"{of_square['twin']:+.2f}",
    given_width=f"{of_square['given width']:+.2f}",
    width_given_b1=f"{of_square['width given b1']:+.2f}",
    relu_given_width=f"{of_relu['given width']:+.2f}",
    relu_by_twin=f"{of_relu['twin']:+.2f}",
)

# %% [markdown]
# On {glue:text}`data_name`, a class of {glue:text}`n_counted` images has
# {glue:text}`input_published:.1f` loops at the input by the published count,
# {glue:text}`input_scale_free:.1f` by the scale-free one, and {glue:text}`input_long:.1f` long
# bars, mean over classes. Of {glue:text}`n_per_function` networks with x², {glue:text}`saturated`
# come within 2 points of the best one of their split. The share of these in which every layer has
# at least as many loops as the input is {glue:text}`share` by the published count and
# {glue:text}`share_scale_free:.2f` by the scale-free one; for ReLU it is
# {glue:text}`share_relu:.2f` by the published count and {glue:text}`share_relu_long:.2f` if only
# long bars count. The claim expects a share near 1. Networks of {glue:text}`widest` units (x²),
# right for {glue:text}`widest_accuracy:.1f` %, have {glue:text}`widest_b1:.1f` loops in their
# poorest layer (scale-free), their untrained twins {glue:text}`widest_b1_twin:.1f`.
#
# Accuracy goes with width (x², published count): {glue:text}`by_width`. It goes with β₁ by
# {glue:text}`by_b1`, and among networks of equal width by {glue:text}`given_width`; what width has
# left once β₁ is given is {glue:text}`width_given_b1`. For ReLU, the correlation with β₁ given
# width is {glue:text}`relu_given_width`. The loops of the *untrained* twin, of which no training
# can be seen, go with the accuracy of the trained network by {glue:text}`by_twin` (x²) and
# {glue:text}`relu_by_twin` (ReLU): where that is high, β₁ is mostly another name for width.

# %% [markdown]
# ## Verdict
#
# The rule was fixed beforehand, for networks with x² and for the published and the scale-free count
# each. *Inconclusive* with fewer than 20 networks or fewer than 5 whose accuracy saturates, or where
# one of the counts has nothing to correlate (no loop in any network, say). Else a count speaks for the claim if every layer reaches the input in more than 80 % of the saturated
# networks and the interval of the correlation given width lies above 0; it speaks against it if
# that share is below 20 %, or if the interval does not lie above 0. *Reproduced* if both counts
# speak for the claim, *not reproduced* if both speak against it, *reproduced with limits*
# otherwise.


# %% tags=["hide-input"]
def layers_verdict(found, n_networks, n_saturated):
    """Verdict and reason from {count: (share, partial correlation with its interval)}."""
    if n_networks < 20 or n_saturated < 5:
        return "inconclusive", (
            f"{n_networks} networks, {n_saturated} of them saturated; the rule asks for 20 and 5."
        )
    empty = [count for count, (_, interval) in found.items() if not any(interval)]
    if empty:  # as where no loop is counted anywhere
        return "inconclusive", (
            f"{' and '.join(empty)}, β₁ or the accuracy is the same in all networks of one width: "
            "there is nothing to correlate."
        )
    said, votes = [], []
    for count, (share, given_width) in found.items():
        said.append(
            f"{count}, all layers reach the input in {100 * share:.0f} % of the saturated networks, "
            f"and accuracy goes with β₁ given width by {given_width}"
        )
        supported = share > 0.8 and given_width.low > 0
        refuted = share < 0.2 or given_width.low <= 0
        votes.append(1 if supported else -1 if refuted else 0)
    reason = "; ".join(said) + "."
    if min(votes) == 1:
        return "reproduced", reason
    return "not reproduced" if max(votes) == -1 else "reproduced with limits", reason


verdict, reason = layers_verdict(
    {
        count: (found["x²", count]["share"].value, found["x²", count]["given width"])
        for count in COUNTS[:2]
    },
    len(widths) * n_seeds,
    of_square["saturated"],
)
record_finding(
    claim="A network needs a width at which its layers' Betti numbers reach those of the input",
    verdict=verdict,
    reason=reason[0].upper() + reason[1:],
    numbers={
        f"{said}_{'square' if activation == 'x²' else 'relu'}_{count.replace(' ', '_')}": here[key]
        for (activation, count), here in found.items()
        for key, said in (
            ("share", "share_of_saturated_networks_that_reach_the_input"),
            ("given width", "partial_spearman_of_accuracy_and_b1_given_width"),
            ("twin", "spearman_of_accuracy_and_untrained_b1"),
            ("width", "spearman_of_accuracy_and_width"),
        )
        if key != "width" or count == COUNTS[0]
    },
)

# %% [markdown]
# Beside the point clouds of {doc}`simplicial_baseline`, the same counts ask two questions that pull
# in opposite directions: there, whether a trained network *loses* the loops of a class, and here,
# whether it may not.
#
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
