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
# # The rate of decay and generalisation
#
# The claim, in the words of the paper's abstract {cite}`suresh2023`: "The rate of decay in
# topological complexity (as a metric) helps quantify the impact of architectural choices on the
# generalization ability."
#
# If so, networks that differ only in their architecture, trained on the same few labels, should
# come in nearly the same order by their rate of decay as by their accuracy on images that they have
# not seen. And the rate should say more than what is known without any training: how deep the
# network is, how many parameters it has, and how its untrained twin decays.
#
# This page is a notebook: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters
#
# All combinations of the first four lists are trained, each from several seeds. A seed draws the
# labelled images, the initial weights and the order of training.

# %% tags=["parameters"]
from topo_utils.book import AtLeast, NonEmpty

# The images: digits or mnist_5k (or another data set with at least n_test + n_labels images).
dataset: str = "digits"
# The activation functions: some of relu, tanh, gelu.
activations: NonEmpty[str] = ["relu", "tanh", "gelu"]
# The wirings: plain (false) or with skip connections (true).
skips: NonEmpty[bool] = [False, True]
# The numbers of blocks after the stem, from 1.
depths: NonEmpty[AtLeast[1]] = [3, 6]
# The numbers of channels, the same in all blocks.
widths: NonEmpty[AtLeast[1]] = [8, 16]
# How many networks of each configuration, each from its own seed.
n_seeds: AtLeast[1] = 5
# How many labelled images each network is trained on.
n_labels: AtLeast[2] = 200
# How often each of them is seen.
epochs: AtLeast[1] = 15
# How many held-out images give the accuracy.
n_test: AtLeast[1] = 1000
# How many of the held-out images give the decay, at least 2.
n_images: AtLeast[2] = 20
# Height and width to which images are resized, in pixels, at least 4.
image_size: AtLeast[4] = 8
# The level eta of the sublevel sets, in units of the activations.
threshold: float = 0.0
# Of everything that is drawn at random.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# Every network has a stem and blocks of one 3 × 3 convolution with batch norm and activation; the
# image is halved once, midway. With skip connections a block's input is added before the
# activation. Complexity Ω = β₀ + β₁ + β₂ is read at the stem and at every block, on held-out images.
# All three activation functions keep the sign of what they are given, so that at η = 0 the sublevel
# sets are where the sum before the activation is not positive, whichever function follows.
#
# The rate of decay is minus the slope of log(1 + mean Ω) on relative depth ({doc}`depth_decay`). The
# untrained twin has the same initial weights, its batch norm set to the statistics of the same
# training images, and has learned nothing else.

# %%
import itertools
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from torch import nn

from topo_utils import (
    Estimate,
    calibrate_batch_norm,
    correlation,
    decay,
    embedding_profile,
    load_images,
    topological_complexity,
)
from topo_utils.book import glue, record_finding
from topo_utils.intervals import resamples
from topo_utils.plotting import COLOURS, use_style
from topo_utils.training import one_thread, trained

use_style()
FUNCTIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


class Block(nn.Module):
    """With `halve` the image halved; convolution, batch norm, with `skip` the input, activation."""

    def __init__(self, channels, width, activation, skip=False, halve=False):
        super().__init__()
        self.skip, self.halve = skip, halve
        self.convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm, self.activation = nn.BatchNorm2d(width), activation()

    def forward(self, x):
        x = nn.functional.avg_pool2d(x, 2) if self.halve else x
        y = self.norm(self.convolution(x))
        return self.activation(x + y if self.skip else y)


def build(activation, skip, depth, width):
    """The network: its children are the stem (0), the blocks (1 to depth) and the head."""
    function = FUNCTIONS[activation]
    blocks = [Block(width, width, function, skip, halve=i == depth // 2) for i in range(depth)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes)]
    return nn.Sequential(Block(3, width, function), *blocks, *head)


# %% tags=["hide-input"]
unknown = sorted(set(activations) - FUNCTIONS.keys())
configurations = list(itertools.product(activations, skips, depths, widths))
if unknown or len(set(configurations)) < max(4, len(configurations)):
    raise ValueError(
        f"{len(configurations)} configurations, unknown activations: {unknown}; needed: at least 4 "
        f"configurations, none twice, with activations of {', '.join(FUNCTIONS)}"
    )
if min(*depths, *widths, n_seeds, epochs) < 1 or image_size < 4 or not 2 <= n_images <= n_test:
    raise ValueError(
        "accepted: depths, widths, n_seeds, epochs from 1, image_size from 4, n_images from 2 to "
        "n_test"
    )
images, labels = load_images(dataset, image_size, n_images=None, seed=seed)
if labels is None or n_test + n_labels > len(images) or n_labels < 2:
    raise ValueError(
        f"{dataset} has {len(images)} images{' without labels' if labels is None else ''}; needed: "
        f"n_test + n_labels = {n_test + n_labels} with labels, n_labels from 2"
    )
n_classes = int(labels.max()) + 1
shuffled = np.random.default_rng(seed).permutation(len(images))
held_out, pool = shuffled[:n_test], shuffled[n_test:]


def accuracy(network, index):
    return (network(images[index]).argmax(1) == labels[index]).float().mean().item()


NULLS = {"volume": "all values shuffled", "within_channels": "shuffled within channels"}


def rate(network, depth, null=None):
    """Minus the slope of the decay over the stem and the blocks, of Ω or of a null's."""
    profile = embedding_profile(
        network,
        images[held_out[:n_images]],
        thresholds=threshold,
        blocks=[str(i) for i in range(depth + 1)],
        null=null,
        seed=seed,
        device="cpu",
        progress=False,
    )
    return -decay(topological_complexity(profile).sel(threshold=threshold), n_bootstrap=1).slope


rows = []
with one_thread(), torch.no_grad():
    for configuration in configurations:
        activation, skip, depth, width = configuration
        make = partial(build, *configuration)
        for k in range(n_seeds):
            draw = np.random.default_rng([seed, k]).choice(pool, n_labels, replace=False)
            data = images[draw], labels[draw]
            settings = {"seed": 1000 * seed + k, "learning_rate": 0.01}
            twin = trained(make, *data, epochs=0, **settings)
            calibrate_batch_norm(twin, data[0])
            network = trained(make, *data, epochs=epochs, **settings)
            rows.append(
                {
                    "activation": activation,
                    "skip": skip,
                    "depth": depth,
                    "width": width,
                    "parameters": sum(p.numel() for p in network.parameters()),
                    "rate": (measured := rate(network, depth)),
                    # The slope of log Ω less that of the null: the decay of Ω divided by the null's.
                    **{f"rate_over_{n}": measured - rate(network, depth, n) for n in NULLS},
                    "rate_untrained": rate(twin, depth),
                    "accuracy": accuracy(network, held_out),
                    "accuracy_training": accuracy(network, draw),
                }
            )
networks = pd.DataFrame(rows)

# %% [markdown]
# ## Rate of decay and accuracy

# %% mystnb={"figure": {"caption": "Accuracy on held-out images against the rate of decay; one point a configuration, its mean over seeds, with one standard error each way. Larger points: wider networks.", "name": "fig-architecture-scatter"}, "image": {"alt": "Scatter chart of test accuracy against rate of decay, one point for each architecture, coloured by activation function, triangles for skip connections and circles for plain ones."}} tags=["hide-input"]
by_configuration = networks.groupby(["activation", "skip", "depth", "width"], sort=False)
means = by_configuration.mean()
errors = by_configuration.std(ddof=1).fillna(0) / np.sqrt(n_seeds)
colours = dict(zip(FUNCTIONS, COLOURS, strict=False))
figure, ax = plt.subplots()
for name, mean in means.iterrows():
    activation, skip, depth, width = name
    ax.errorbar(
        mean["rate"],
        mean["accuracy"],
        xerr=errors.loc[name, "rate"],
        yerr=errors.loc[name, "accuracy"],
        fmt="^" if skip else "o",
        color=colours[activation],
        markersize=4 + 5 * width / max(widths),
        elinewidth=0.8,
        alpha=0.8,
    )
handles = [Line2D([], [], color=colours[a], marker="s", ls="", label=a) for a in activations]
for skip, marker, label in ((False, "o", "plain"), (True, "^", "skip")):
    if skip in skips:
        handles.append(Line2D([], [], color="#555555", marker=marker, ls="", label=label))
ax.set(
    xlabel="rate of decay (minus the slope of log(1 + mean Ω) on relative depth)",
    ylabel="accuracy on held-out images",
)
_ = figure.legend(handles=handles, ncols=5, fontsize=9, loc="outside upper center")

# %% [markdown]
# ## The correlation, and what it owes to simpler things
#
# Correlations are taken over configurations, each the mean over its seeds. Their intervals (95 %)
# come from a bootstrap that draws configurations and, within each, seeds. A partial rank
# correlation is what is left when the ranks of the control are accounted for on both sides (0 where
# nothing is left; a column that does not vary correlates with nothing). The grid of architectures
# was chosen by us and is no sample of all architectures: the intervals speak of grids like this one.

# %%
CONTROLS = {
    "untrained twin's rate": "rate_untrained",
    "depth": "depth",
    "number of parameters": "parameters",
}
rng = np.random.default_rng(seed)
chosen = resamples(len(configurations), 2000, rng)[:, :, None]
chosen_seeds = rng.integers(n_seeds, size=(2000, len(configurations), n_seeds))


def values(name):
    """Of each configuration, the mean over seeds: as found (first row), and in every resample."""
    table = networks[name].to_numpy(dtype=float).reshape(len(configurations), n_seeds)
    # Rounded, so that sums in another order do not break ties.
    resampled = table[chosen, chosen_seeds].mean(axis=2)
    return np.round(np.vstack([table.mean(axis=1), resampled]), 9)


def over_configurations(x, y, controls=(), **settings):
    """The correlation of two columns, given controls, and its interval."""
    found = correlation(*map(values, (x, y, *controls)), **settings)
    return Estimate.from_draws(found[0], found[1:])


rank = over_configurations("rate", "accuracy")
linear = over_configurations("rate", "accuracy", ranks=False)
partial_rank = over_configurations("rate", "accuracy", tuple(CONTROLS.values()))
alone = {label: over_configurations(name, "accuracy") for label, name in CONTROLS.items()}
given = {
    label: over_configurations("rate", "accuracy", (name,)) for label, name in CONTROLS.items()
}
rank_training = over_configurations("rate", "accuracy_training")
within = over_configurations("rate", "accuracy", ("width",))
over_null = {
    null: [
        over_configurations(f"rate_over_{null}", "accuracy", controls)
        for controls in ((), tuple(CONTROLS.values()))
    ]
    for null in NULLS
}


pd.DataFrame(
    {
        "with accuracy": [*map(str, (rank, *alone.values())), "", ""],
        "decay with accuracy, given it": [
            "",
            *map(str, (*given.values(), partial_rank, within)),
        ],
    },
    index=["rate of decay", *CONTROLS, "all three controls", "width alone"],
)

# %% tags=["remove-cell"]
lowest, highest = means["accuracy"].idxmin(), means["accuracy"].idxmax()


def described(name):
    activation, skip, depth, width = name
    return f"{activation}, {'skip' if skip else 'plain'}, {depth} blocks, {width} channels"


glue(
    n_configurations=len(configurations),
    n_seeds=n_seeds,
    n_labels=n_labels,
    images_name=dataset,
    eta=threshold,
    accuracy_low=means["accuracy"].min(),
    accuracy_high=means["accuracy"].max(),
    lowest=described(lowest),
    highest=described(highest),
    training_low=means["accuracy_training"].min(),
    rank=rank.value,
    rank_low=rank.low,
    rank_high=rank.high,
    linear=linear.value,
    linear_low=linear.low,
    linear_high=linear.high,
    partial=partial_rank.value,
    partial_low=partial_rank.low,
    partial_high=partial_rank.high,
    untrained=alone["untrained twin's rate"].value,
    parameters_rank=alone["number of parameters"].value,
    training_rank=rank_training.value,
    within=within.value,
    within_low=within.low,
    within_high=within.high,
    n_widths=len(widths),
)

# %% [markdown]
# {glue:text}`n_configurations` configurations with {glue:text}`n_seeds` seeds each were trained on
# {glue:text}`n_labels` labelled images of {glue:text}`images_name` and measured at
# η = {glue:text}`eta`. Their mean accuracy on held-out images goes from
# {glue:text}`accuracy_low:.3f` ({glue:text}`lowest`) to {glue:text}`accuracy_high:.3f`
# ({glue:text}`highest`); on the images that they were trained on, the lowest mean is
# {glue:text}`training_low:.3f`.
#
# The rank correlation of the rate of decay with accuracy is {glue:text}`rank:.2f`
# [{glue:text}`rank_low:.2f`, {glue:text}`rank_high:.2f`]; a positive one is what the claim expects.
# Pearson's is {glue:text}`linear:.2f` [{glue:text}`linear_low:.2f`, {glue:text}`linear_high:.2f`].
# For comparison, the decay of the untrained twins has a rank correlation of
# {glue:text}`untrained:.2f` with the accuracy of the networks that were trained, and the number of
# parameters one of {glue:text}`parameters_rank:.2f`. Given all three controls at once,
# {glue:text}`partial:.2f` [{glue:text}`partial_low:.2f`, {glue:text}`partial_high:.2f`] is left of
# the rate's correlation.
#
# Wider networks have more values to count, and more parameters to learn with. Among networks of one
# width ({glue:text}`n_widths` widths here; the rank correlation given the width) the rate's
# correlation is {glue:text}`within:.2f` [{glue:text}`within_low:.2f`,
# {glue:text}`within_high:.2f`]: compare its sign with that of the correlation over all networks
# before reading a steeper decay as the better design.
#
# The rate's rank correlation with the accuracy on the training images is
# {glue:text}`training_rank:.2f`: where this is as strong, the rate tells how well a network fits,
# and not only how well it generalises.

# %% [markdown]
# ## Verdict
#
# The rule was fixed beforehand: *inconclusive* with fewer than 12 configurations or 5 seeds, or where
# all have the same rate of decay, or the same accuracy. Else
# *reproduced* when the interval of the rank correlation lies above 0 (steeper decay goes with
# higher accuracy) and that of the partial one, given all three controls, does too; *reproduced with
# limits* when only the first does; *not reproduced* when the first lies below 0 or within ±0.3;
# *inconclusive* otherwise.


# %% tags=["hide-input"]
def architecture_verdict(rank, partial, n_configurations, n_seeds):
    """Verdict and reason; `rank` and `partial` are correlations with their intervals."""
    if n_configurations < 12 or n_seeds < 5:
        return "inconclusive", (
            f"{n_configurations} configurations with {n_seeds} seeds each; the rule asks for 12 "
            "and 5."
        )
    if rank.low == rank.high == 0:  # as where the threshold lies beyond all values
        return "inconclusive", "the rate of decay, or the accuracy, is the same in all networks."
    if rank.low > 0:
        if partial.low > 0:
            return "reproduced", (
                "steeper decay goes with higher accuracy, also given the untrained twin's decay, "
                "the depth and the number of parameters."
            )
        return "reproduced with limits", (
            "steeper decay goes with higher accuracy, but not beyond what the untrained twin's "
            "decay, the depth and the number of parameters tell."
        )
    if rank.high < 0:
        return "not reproduced", "steeper decay goes with lower accuracy."
    if rank.low > -0.3 and rank.high < 0.3:
        return "not reproduced", "the rate of decay and accuracy are nearly unrelated."
    return "inconclusive", "the interval of the rank correlation contains 0 and is wide."


verdict, reason = architecture_verdict(rank, partial_rank, len(configurations), n_seeds)
record_finding(
    claim="The rate of decay tells how well an architecture generalises",
    verdict=verdict,
    reason=reason[0].upper() + reason[1:],
    numbers={
        "rank_correlation": rank,
        "rank_correlation_given_controls": partial_rank,
        "rank_correlation_given_width": within,
        "pearson_correlation": linear,
        "rank_correlation_of_untrained_twins": alone["untrained twin's rate"],
        "rank_correlation_of_depth": alone["depth"],
        "rank_correlation_of_parameters": alone["number of parameters"],
        "rank_correlation_with_training_accuracy": rank_training,
    }
    | {f"rank_correlation_over_{null}": each[0] for null, each in over_null.items()},
)

# %% [markdown]
# ## The verdict again, divided by each null
#
# Part of a decay is that of the volumes and of the values in them (see {doc}`controls`). Here is the
# same with the decay of Ω divided by what each block's values give when they are shuffled: all of
# them, or within channels.

# %% tags=["hide-input"]
columns = {"Ω": (rank, partial_rank)} | {f"Ω / {NULLS[n]}": over_null[n] for n in NULLS}
pd.DataFrame(
    {
        name: {
            "with accuracy": str(plain),
            "given all three controls": str(given_all),
            "by the rule": architecture_verdict(plain, given_all, len(configurations), n_seeds)[0],
        }
        for name, (plain, given_all) in columns.items()
    }
).T

# %% [markdown]
# ## What to try next
#
# - One width only: `-p widths "[16]" -p depths "[2, 4, 6]"`. What is left when all networks are
#   nearly of one size?
# - Other images: `-p dataset mnist_5k -p image_size 14`.
# - More labels: `-p n_labels 600`. Accuracies come closer; does their order stay?
# - Another threshold: `-p threshold 0.5`. Which of the three activation functions moves?

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} Within one activation function
# :label: ex-architecture-choices-1
# ```
#
# A correlation over all configurations can be made by differences between groups. Compute the rank
# correlation of rate and accuracy, over the means of configurations, within each activation
# function alone.
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-architecture-choices-1
# :label: sol-architecture-choices-1
# :class: dropdown
# ```
#
# With few configurations a group, these numbers are coarse: with two there is nothing between −1
# and 1. They are to be read beside their number, and have no interval here.

# %%
pd.DataFrame(
    {
        activation: {
            "configurations": len(group),
            "rank correlation": group[["rate", "accuracy"]].corr(method="spearman").iloc[0, 1],
        }
        for activation, group in means.groupby(level="activation", sort=False)
    }
).T.round(2)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Opposite in every part
# :label: ex-architecture-choices-2
#
# Can steeper decay go with higher accuracy over all networks, and with lower accuracy among
# networks of every single width? Sketch how, and say which of the two numbers the claim is about.
# ```
#
# ```{solution} ex-architecture-choices-2
# :label: sol-architecture-choices-2
# :class: dropdown
#
# Yes (Simpson's paradox). Let wide networks have both a steeper decay and a higher accuracy than
# narrow ones, and let the accuracy fall with the rate within each width: two clouds that slope
# down, the second one up and to the right of the first. Over all, the line goes up. The claim is
# that the rate tells something about generalisation. If the width, which one knows without
# training, tells the same, the rate adds nothing to it, and within a width it points the wrong way:
# so the number for a fixed width (or given width, depth and number of parameters) is the one to
# look at. Which things to hold fixed has to be said before.
# ```
