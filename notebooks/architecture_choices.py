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
# # Does the rate of decay tell how well a network generalises?
#
# > The rate of decay in topological complexity (as a metric) helps quantify the impact of architectural
# > choices on the generalization ability.
# >
# > — the paper's abstract, {cite:t}`suresh2023`

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Accuracy on held-out images against the rate of decay, one point a configuration.", "name": "fig-architecture-scatter"}, "image": {"alt": "Scatter chart of test accuracy against rate of decay, one point for each architecture, coloured by activation function, triangles for skip connections and circles for plain ones."}} tags=["remove-input"]
place("fig-architecture-scatter")

# %% [markdown]
# If so, networks that differ only in their architecture, trained on the same few labels, should come in
# nearly the same order by their rate of decay ({doc}`depth_decay`) as by their accuracy on images that
# they have not seen. And the rate should say more than what is known without any training: how deep the
# network is, how many parameters it has, and how its untrained twin decays.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
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
# All combinations of activations, wirings, depths and widths are trained, each from several seeds. Every
# network has a stem and blocks of one 3 × 3 convolution with batch norm and activation; the image is
# halved once, midway. With skip connections a block's input is added before the activation. Ω is read at
# the stem and at every block, on held-out images.
#
# The rate of decay is minus the slope of log(1 + mean Ω) on relative depth. The untrained twin has the
# same initial weights, with batch norm set to the statistics of the same training images.

# %% tags=["hide-cell"]
import itertools
from functools import partial

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
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
from topo_utils.book import fill, record_finding
from topo_utils.intervals import resamples
from topo_utils.plotting import COLOURS, use_style
from topo_utils.training import one_thread, trained

use_style()
FUNCTIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
CHOICES = ["activation", "skip", "depth", "width"]
NULLS = ["volume", "within_channels"]
CONTROLS = {
    "untrained twin's rate": "rate_untrained",
    "depth": "depth",
    "number of parameters": "parameters",
}


class Block(nn.Module):
    """With `halve` the image halved; convolution, batch norm, with `skip` the input, activation."""

    def __init__(self, channels, width, activation, skip=False, halve=False):
        super().__init__()
        self.skip, self.halve = skip, halve
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm, self.activation = nn.BatchNorm2d(width), activation()

    def forward(self, x):
        x = nn.functional.avg_pool2d(x, 2) if self.halve else x
        y = self.norm(self.conv(x))
        return self.activation(x + y if self.skip else y)


def build(activation, skip, depth, width):
    """The network: its children are the stem (0), the blocks (1 to depth) and the head."""
    function = FUNCTIONS[activation]
    halves = [i == depth // 2 for i in range(depth)]
    blocks = [Block(width, width, function, skip, half) for half in halves]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes)
    return nn.Sequential(Block(3, width, function), *blocks, *head)


grid = itertools.product(activations, skips, depths, widths)
configurations = list(dict.fromkeys(grid))
n_configurations = len(configurations)
if set(activations) - FUNCTIONS.keys() or n_configurations < 4:
    accepted = (
        f"at least 4 configurations with some of {', '.join(FUNCTIONS)}"
    )
    raise ValueError(f"activations {activations}; accepted: {accepted}")
images, labels = load_images(dataset, image_size, n_images=None, seed=seed)
needed = n_test + n_labels
if labels is None or needed > len(images) or n_images > n_test:
    raise ValueError(
        f"{dataset} has {len(images)} images; needed: {needed} with labels, "
        "and n_images up to n_test"
    )
n_classes = int(labels.max()) + 1
shuffled = np.random.default_rng(seed).permutation(len(images))
held_out, pool = shuffled[:n_test], shuffled[n_test:]
few = images[held_out[:n_images]]


def accuracy(network, index):
    right = network(images[index]).argmax(1) == labels[index]
    return right.float().mean().item()


def rate(network, depth, null=None):
    """Minus the slope of the decay over the stem and the blocks, of Ω or of a null's."""
    blocks = [str(i) for i in range(depth + 1)]
    options = {"seed": seed, "device": "cpu", "progress": False, "null": null}
    profile = embedding_profile(
        network, few, thresholds=threshold, blocks=blocks, **options
    )
    omega = topological_complexity(profile).sel(threshold=threshold)
    return -decay(omega, n_bootstrap=1).slope


def measured(configuration, k):
    """One row of the table: a network trained from seed k, and its untrained twin."""
    make, depth = partial(build, *configuration), configuration[2]
    rng = np.random.default_rng([seed, k])
    draw = rng.choice(pool, n_labels, replace=False)
    data = images[draw], labels[draw]
    settings = {"seed": 1000 * seed + k, "learning_rate": 0.01}
    twin = trained(make, *data, epochs=0, **settings)
    calibrate_batch_norm(twin, data[0])
    network = trained(make, *data, epochs=epochs, **settings)
    found = rate(network, depth)
    return {
        **dict(zip(CHOICES, configuration, strict=True)),
        "rate": found,
        # The slope of log Ω less that of the null: the decay of Ω divided by the null's.
        **{f"rate_over_{n}": found - rate(network, depth, n) for n in NULLS},
        "parameters": sum(p.numel() for p in network.parameters()),
        "rate_untrained": rate(twin, depth),
        "accuracy": accuracy(network, held_out),
        "accuracy_training": accuracy(network, draw),
    }


rng = np.random.default_rng(seed)
chosen = resamples(n_configurations, 2000, rng)[:, :, None]
chosen_seeds = rng.integers(n_seeds, size=(2000, n_configurations, n_seeds))


def means_over_seeds(name):
    """Of each configuration: as found (first row), and in every resample."""
    table = networks[name].to_numpy(float).reshape(-1, n_seeds)
    # Rounded, so that sums in another order do not break ties.
    resampled = table[chosen, chosen_seeds].mean(axis=2)
    return np.round(np.vstack([table.mean(axis=1), resampled]), 9)


def over_configurations(x, y, *given, **settings):
    """The correlation of two columns, given others, and its interval."""
    found = correlation(*map(means_over_seeds, (x, y, *given)), **settings)
    return Estimate.from_draws(found[0], found[1:])


# %%
with one_thread(), torch.no_grad():
    rows = itertools.product(configurations, range(n_seeds))
    networks = pd.DataFrame([measured(*row) for row in rows])

rank = over_configurations("rate", "accuracy")
print(rank)
partial_rank = over_configurations("rate", "accuracy", *CONTROLS.values())
print(partial_rank, "given what is known without training")

# %% tags=["hide-cell"]
by_configuration = networks.groupby(CHOICES, sort=False)
means = by_configuration.mean()
errors = by_configuration.std(ddof=1).fillna(0) / np.sqrt(n_seeds)
colours = dict(zip(FUNCTIONS, COLOURS, strict=False))
figure, ax = plt.subplots()
for (activation, skip), group in means.groupby(CHOICES[:2], sort=False):
    at, error = (group["rate"], group["accuracy"]), errors.loc[group.index]
    look = {"color": colours[activation], "alpha": 0.8}
    bars = {"fmt": "none", "elinewidth": 0.8, **look}
    ax.errorbar(*at, error["accuracy"], error["rate"], **bars)
    size = (4 + 5 * group.index.get_level_values("width") / max(widths)) ** 2
    label = f"{activation}, {'skip' if skip else 'plain'}"
    ax.scatter(*at, size, marker="^" if skip else "o", label=label, **look)
ax.set_xlabel("rate of decay (minus the slope of log(1 + mean Ω))")
ax.set_ylabel("accuracy on held-out images")
figure.legend(ncols=3, fontsize=9, loc="outside upper center")
plt.close(figure)
fill(
    "fig-architecture-scatter",
    figure,
    caption=f"Rate of decay and accuracy on held-out images have a rank correlation of {rank} over "
    f"{n_configurations} configurations. Each point is the mean over {n_seeds} seeds, with one "
    "standard error each way; larger points are wider networks.",
)

# %% [markdown]
# ## What does the correlation owe to simpler things?
#
# Correlations are taken over configurations, each the mean over its seeds. Their intervals (95 %) come
# from a bootstrap that draws configurations and, within each, seeds. A partial rank correlation is what
# is left when the ranks of the control are accounted for on both sides (0 where nothing is left; a column
# that does not vary correlates with nothing).

# %% tags=["hide-input"]
within = over_configurations("rate", "accuracy", "width")
table = {"rate of decay": [rank, "–"]}
for label, name in CONTROLS.items():
    given = over_configurations("rate", "accuracy", name)
    table[label] = [over_configurations(name, "accuracy"), given]
table["all three controls"] = ["–", partial_rank]
table["width alone"] = ["–", within]
columns = ["with accuracy", "rate of decay with accuracy, given it"]
pd.DataFrame(table, index=columns).T

# %% tags=["remove-input"]
of_untrained, of_depth, of_parameters = (table[name][0] for name in CONTROLS)
linear = over_configurations("rate", "accuracy", ranks=False)
rank_training = over_configurations("rate", "accuracy_training")
order = means["accuracy"].sort_values()
lowest, *_, highest = (
    f"{value:.3f} (`{activation}`, {'skip' if skip else 'plain'}, {depth} blocks, {width} channels)"
    for (activation, skip, depth, width), value in order.items()
)
sign = "opposite to" if within.value * rank.value < 0 else "not opposite to"
Markdown(f"""
{n_configurations} configurations with {n_seeds} seeds each were trained on {n_labels} labelled images of
`{dataset}` and measured at η = {threshold:g}. Their mean accuracy on held-out images goes from {lowest}
to {highest}; on the images that they were trained on, the lowest mean is
{means["accuracy_training"].min():.3f}.

The rank correlation of the rate of decay with accuracy is **{rank}**; the claim expects a positive one.
Pearson's is {linear}. For comparison, the decay of the untrained twins has a rank correlation of
{of_untrained} with the accuracy of the networks that were trained, and the number of
parameters one of {of_parameters}. Given all three controls at once, **{partial_rank}**
is left of the rate's correlation.

Wider networks have more values to count, and more parameters to learn with. Among networks of one width
({len(widths)} widths here; the rank correlation given the width) the rate's correlation is **{within}**: its sign is
{sign} that over all networks. Where it is opposite, a steeper decay is not by itself the better design.

The rate's rank correlation with the accuracy on the training images is {rank_training}. Where this is as
strong, the rate tells how well a network fits, and not only how well it generalises.
""")

# %% [markdown]
# ## The rule
#
# Fixed beforehand: *inconclusive* with fewer than 12 configurations or 5 seeds, or where all have the
# same rate of decay, or the same accuracy. Else *reproduced* when the interval of the rank correlation
# lies above 0 (steeper decay goes with higher accuracy) and that of the partial one, given all three
# controls, does too; *reproduced with limits* when only the first does; *not reproduced* when the first
# lies below 0 or within ±0.3; *inconclusive* otherwise.


# %% tags=["hide-cell"]
def architecture_verdict(rank, partial, n_configurations, n_seeds):
    """Verdict and reason; `rank` and `partial` are correlations with their intervals."""
    verdict = "inconclusive"
    reason = "the interval of the rank correlation contains 0 and is wide."
    steeper = "steeper decay goes with higher accuracy"
    known = (
        "the untrained twin's decay, the depth and the number of parameters"
    )
    if n_configurations < 12 or n_seeds < 5:
        grid = f"{n_configurations} configurations with {n_seeds} seeds each"
        reason = f"{grid}; the rule asks for 12 and 5."
    elif rank.low == rank.high == 0:
        # As where the threshold lies beyond all values.
        reason = (
            "the rate of decay, or the accuracy, is the same in all networks."
        )
    elif rank.low > 0 and partial.low > 0:
        verdict, reason = "reproduced", f"{steeper}, also given {known}."
    elif rank.low > 0:
        verdict = "reproduced with limits"
        reason = f"{steeper}, but not beyond what {known} tell."
    elif rank.high < 0:
        verdict = "not reproduced"
        reason = "steeper decay goes with lower accuracy."
    elif rank.low > -0.3 and rank.high < 0.3:
        verdict = "not reproduced"
        reason = "the rate of decay and accuracy are nearly unrelated."
    return verdict, reason


size = n_configurations, n_seeds
over_null = {}
for null in NULLS:
    pair = "rate_over_" + null, "accuracy"
    given = over_configurations(*pair, *CONTROLS.values())
    over_null[null] = over_configurations(*pair), given
verdict, reason = architecture_verdict(rank, partial_rank, *size)
record_finding(
    claim="The rate of decay tells how well an architecture generalises",
    verdict=verdict,
    reason=f"{reason[0].upper()}{reason[1:]} Among networks of one width the rank correlation is {within}.",
    headline=f"Rank correlation of rate and accuracy: {rank}; given what is known without training: "
    f"{partial_rank}.",
    numbers={
        "rank_correlation": rank,
        "rank_correlation_given_controls": partial_rank,
        "rank_correlation_given_width": within,
        "pearson_correlation": linear,
        "rank_correlation_of_untrained_twins": of_untrained,
        "rank_correlation_of_depth": of_depth,
        "rank_correlation_of_parameters": of_parameters,
        "rank_correlation_with_training_accuracy": rank_training,
        **{
            f"rank_correlation_over_{n}": each[0]
            for n, each in over_null.items()
        },
    },
)

# %% [markdown]
# ## Does the verdict survive a division by shuffled values?
#
# Part of a decay is that of the volumes and of the values in them (see {doc}`controls`). Here is the same
# with the decay of Ω divided by what each block's values give when they are shuffled: all of them, or
# within channels.

# %% tags=["hide-input"]
rows = {"Ω": (rank, partial_rank)}
for null, pair in over_null.items():
    rows[f"Ω / shuffled ({null.replace('_', ' ')})"] = pair
columns = ["with accuracy", "given all three controls"]
again = pd.DataFrame(rows, index=columns).T
rules = [architecture_verdict(*row, *size)[0] for row in rows.values()]
again.assign(**{"by the rule": rules})

# %% [markdown]
# ## What this does not show
#
# - That it holds for all architectures: the grid was chosen by us and is no sample of them, so the
#   intervals speak of grids like this one.
# - That a steeper decay makes a network generalise: a wider network has both.
# - What holds at a different threshold. All three activation functions keep the sign of what they are
#   given, so that at η = 0 the sublevel sets are where the sum before the activation is not positive,
#   whichever function follows; at a different η they differ.

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
groups = means.groupby(level="activation", sort=False)
found = groups.apply(
    lambda group: group["rate"].corr(group["accuracy"], method="spearman")
)
table = {"configurations": groups.size(), "rank correlation": found.round(2)}
pd.DataFrame(table)

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
