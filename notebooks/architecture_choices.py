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
# # Does the rate of decay tell how well an architecture generalises?
#
# > The rate of decay in topological complexity (as a metric) helps quantify the impact of
# > architectural choices on the generalization ability.
# >
# > — the paper's abstract, {cite:t}`suresh2023`

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Accuracy against rate of decay.", "name": "fig-architecture-scatter"}, "image": {"alt": "Scatter chart of test accuracy against rate of decay, one point for each architecture, coloured by activation function, triangles for skip connections and circles for plain ones."}} tags=["remove-input"]
place("fig-architecture-scatter")

# %% [markdown]
# You need to know what the decay of a network is: {doc}`depth_decay` fits it. Its *rate* here is minus
# that slope, so that a larger rate is a steeper fall of complexity with depth.

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
# All combinations of the first four lists are trained, each from several seeds. A seed draws the
# labelled images, the initial weights and the order of training. A network has a stem and blocks: one
# 3 × 3 convolution each, batch norm, activation. The image is halved once, midway. With a skip
# connection, a block's input is added before the activation.
#
# Complexity Ω = β₀ + β₁ + β₂ is counted at the stem and at every block, on held-out images. The
# untrained twin has the same initial weights and the batch-norm statistics of the same images.
#
# Correlations are taken over architectures, each the mean over its seeds. Intervals (95 %) come from a
# bootstrap that draws architectures and, within each, seeds.

# %% tags=["hide-cell"]
from functools import partial
from itertools import product

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
NULLS = {"volume": "shuffled", "within_channels": "shuffled in channels"}
CHOICES = ["activation", "skip", "depth", "width"]
configurations = list(product(activations, skips, depths, widths))
n = len(set(configurations))
if n < max(4, len(configurations)) or set(activations) - FUNCTIONS.keys():
    raise ValueError(
        f"accepted: at least 4 configurations, none twice, activations of {', '.join(FUNCTIONS)}"
    )
images, labels = load_images(dataset, image_size, n_images=None, seed=seed)
if labels is None or n_images > n_test or n_test + n_labels > len(images):
    raise ValueError(
        f"{dataset} has {len(images)} images; needed: n_test + n_labels = {n_test + n_labels} with "
        "labels, and n_images up to n_test"
    )
n_classes = int(labels.max()) + 1
shuffled = np.random.default_rng(seed).permutation(len(images))
held_out, pool = shuffled[:n_test], shuffled[n_test:]


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
    block = partial(Block, width=width, activation=FUNCTIONS[activation])
    blocks = [
        block(width, skip=skip, halve=i == depth // 2) for i in range(depth)
    ]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes)
    return nn.Sequential(block(3), *blocks, *head)


def share_correct(network, index):
    """Accuracy on the images of an index."""
    right = network(images[index]).argmax(1) == labels[index]
    return right.float().mean().item()


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
    omega = topological_complexity(profile).sel(threshold=threshold)
    return -decay(omega, n_bootstrap=1).slope


rows = []
with one_thread(), torch.no_grad():
    for configuration, k in product(configurations, range(n_seeds)):
        row = dict(zip(CHOICES, configuration, strict=True))
        make = partial(build, *configuration)
        rate_of = partial(rate, depth=row["depth"])
        random = np.random.default_rng([seed, k])
        draw = random.choice(pool, n_labels, replace=False)
        data = images[draw], labels[draw]
        settings = {"seed": 1000 * seed + k, "learning_rate": 0.01}
        network = trained(make, *data, epochs=epochs, **settings)
        twin = trained(make, *data, epochs=0, **settings)
        calibrate_batch_norm(twin, data[0])
        row["untrained twin's rate"] = rate_of(twin)
        row["rate"] = rate_of(network)
        for null in NULLS:  # the decay of Ω divided by the null's Ω
            of_null = rate_of(network, null=null)
            row[f"rate_over_{null}"] = row["rate"] - of_null
        sizes = [weights.numel() for weights in network.parameters()]
        row["number of parameters"] = sum(sizes)
        row["accuracy"] = share_correct(network, held_out)
        row["accuracy_training"] = share_correct(network, draw)
        rows.append(row)
networks = pd.DataFrame(rows)

rng = np.random.default_rng(seed)
chosen = resamples(n, 2000, rng)[:, :, None]
chosen_seeds = rng.integers(n_seeds, size=(2000, n, n_seeds))


def of_configurations(column):
    """A column's means over seeds: as found (first row), and in every resample."""
    table = networks[column].to_numpy(dtype=float).reshape(n, n_seeds)
    resampled = table[chosen, chosen_seeds].mean(axis=2)
    # Rounded, so that sums in another order do not break ties.
    return np.round(np.vstack([table.mean(axis=1), resampled]), 9)


# %%
def correlated(x, y, *given, ranks=True):
    """Correlation of two columns over architectures, given others."""
    columns = map(of_configurations, (x, y, *given))
    found = correlation(*columns, ranks=ranks)
    return Estimate.from_draws(found[0], found[1:])


rank = correlated("rate", "accuracy")
print(rank)

# %% [markdown]
# ## What does the correlation owe to simpler things?
#
# The rate should say more than what is known without any training: how deep the network is, how many
# parameters it has, and how its untrained twin decays. A rank correlation *given* such a control is
# what is left when the ranks of the control are accounted for on both sides.

# %% tags=["hide-input"]
CONTROLS = ["untrained twin's rate", "depth", "number of parameters"]
alone, given = {"rate": rank}, {}
for name in CONTROLS:
    alone[name] = correlated(name, "accuracy")
    given[name] = correlated("rate", "accuracy", name)
given["all three"] = correlated("rate", "accuracy", *CONTROLS)
given["width"] = correlated("rate", "accuracy", "width")
columns = {"with accuracy": alone, "rate with accuracy, given it": given}
table = pd.DataFrame(columns, index=["rate", *given])
table.map(str).replace("nan", "")

# %% tags=["remove-input"]
linear = correlated("rate", "accuracy", ranks=False)
rank_training = correlated("rate", "accuracy_training")


def direction(found):
    """What a correlation of rate and accuracy says, as far as its interval goes."""
    if found.low <= 0 <= found.high:
        return "steeper decay may go with higher or with lower accuracy"
    return f"steeper decay goes with {'higher' if found.low > 0 else 'lower'} accuracy"


Markdown(f"""
Over all {n} architectures, {direction(rank)}: the rank correlation is **{rank}**, and Pearson's is
{linear}. The claim expects a positive one. The number of parameters alone has
{alone["number of parameters"].value:.2f}, and the rate of the untrained twins
{alone["untrained twin's rate"].value:.2f}. Given all three controls at once, {given["all three"]} is
left of the rate's correlation.

With the accuracy on the images that the networks were trained on, the rate has a rank correlation of
{rank_training.value:.2f}. Where this is as strong, the rate tells how well a network fits, and not only
how well it generalises.
""")

# %% [markdown]
# ## Does it hold among networks of one width?
#
# Wider networks have more values to count, and more parameters to learn with.

# %% tags=["remove-input"]
within = given["width"]
turned = (
    "Its sign is the opposite of that over all networks: do not take steeper decay for better design."
    if rank.value * within.value < 0
    else ""
)
Markdown(f"""
Given the width ({len(widths)} here), {direction(within)}: the rank correlation is **{within}**. {turned}
""")

# %% [markdown]
# ## How well did the networks learn?

# %% tags=["remove-input"]
by_configuration = networks.groupby(CHOICES, sort=False)
means = by_configuration.mean()
accuracy = means["accuracy"]


def described(name):
    activation, skip, depth, width = name
    wiring = "skip" if skip else "plain"
    return f"{activation}, {wiring}, {depth} blocks, {width} channels"


Markdown(f"""
Each architecture was trained from {n_seeds} seeds on {n_labels} labelled images of `{dataset}` and
measured at η = {threshold:g}. Its mean accuracy on held-out images goes from {accuracy.min():.3f}
({described(accuracy.idxmin())}) to {accuracy.max():.3f} ({described(accuracy.idxmax())}); on the
training images the lowest mean is {means["accuracy_training"].min():.3f}.
""")

# %% tags=["hide-cell"]
errors = by_configuration.std(ddof=1).fillna(0) / np.sqrt(n_seeds)
colours = dict(zip(FUNCTIONS, COLOURS, strict=False))
figure, ax = plt.subplots()
for name, mean in means.iterrows():
    activation, skip, _, width = name
    ax.errorbar(
        *mean[["rate", "accuracy"]],
        *errors.loc[name, ["accuracy", "rate"]],
        "^" if skip else "o",
        color=colours[activation],
        markersize=4 + 5 * width / max(widths),
        elinewidth=0.8,
        alpha=0.8,
    )
keys = [(name, colours[name], "s") for name in activations]
keys += [
    ("skip", "#555555", "^") if skip else ("plain", "#555555", "o")
    for skip in skips
]
for label, colour, marker in keys:
    ax.plot([], [], marker, color=colour, label=label)
ax.set_xlabel(
    "rate of decay (minus the slope of log(1 + mean Ω) on relative depth)"
)
ax.set_ylabel("accuracy on held-out images")
figure.legend(ncols=5, fontsize=9, loc="outside upper center")
plt.close(figure)
fill(
    "fig-architecture-scatter",
    figure,
    caption=f"{direction(rank).capitalize()} over {n} architectures. One point an architecture, its "
    "mean over seeds, with one standard error each way; larger points are wider networks.",
)

# %% [markdown]
# ## The rule
#
# Fixed beforehand: *inconclusive* with fewer than 12 architectures or 5 seeds, or where all have the
# same rate of decay, or the same accuracy. Otherwise *reproduced* when the interval of the rank
# correlation lies above 0 (steeper decay goes with higher accuracy) and that of the partial one, given
# all three controls, does too; *reproduced with limits* when only the first does; *not reproduced* when
# the first lies below 0 or within ±0.3; *inconclusive* if none of this holds.


# %% tags=["hide-cell"]
def architecture_verdict(rank, partial, n_configurations, n_seeds):
    """Verdict and reason; `rank` and `partial` are correlations with their intervals."""
    if n_configurations < 12 or n_seeds < 5:
        return "inconclusive", (
            f"{n_configurations} configurations with {n_seeds} seeds each; the rule asks for 12 "
            "and 5."
        )
    # As where the threshold lies beyond all values.
    if rank.low == rank.high == 0:
        reason = (
            "The rate of decay, or the accuracy, is the same in all networks."
        )
        return "inconclusive", reason
    if rank.low > 0:
        reason = "Steeper decay goes with higher accuracy,"
        controls = "the untrained twin's decay, the depth and the number of parameters"
        if partial.low > 0:
            return "reproduced", f"{reason} also given {controls}."
        return (
            "reproduced with limits",
            f"{reason} but not beyond what {controls} tell.",
        )
    if rank.high < 0:
        return "not reproduced", "Steeper decay goes with lower accuracy."
    if rank.low > -0.3 and rank.high < 0.3:
        reason = "The rate of decay and accuracy are nearly unrelated."
        return "not reproduced", reason
    reason = "The interval of the rank correlation contains 0 and is wide."
    return "inconclusive", reason


over_null = {k: correlated(f"rate_over_{k}", "accuracy") for k in NULLS}
verdict, reason = architecture_verdict(rank, given["all three"], n, n_seeds)
record_finding(
    claim="The rate of decay tells how well an architecture generalises",
    verdict=verdict,
    reason=f"{reason} Given the width, the rank correlation is {within}.",
    headline=f"Rank correlation of rate and accuracy over {n} architectures: {rank}, where 1 is the "
    "same order and 0 is no relation.",
    numbers={
        "rank_correlation": rank,
        "rank_correlation_given_controls": given["all three"],
        "rank_correlation_given_width": within,
        "pearson_correlation": linear,
        "rank_correlation_of_untrained_twins": alone["untrained twin's rate"],
        "rank_correlation_of_depth": alone["depth"],
        "rank_correlation_of_parameters": alone["number of parameters"],
        "rank_correlation_with_training_accuracy": rank_training,
    }
    | {f"rank_correlation_over_{k}": v for k, v in over_null.items()},
)

# %% [markdown]
# ## Does the verdict stay when shuffled values are divided out?
#
# Part of a decay is that of the volumes and of the values in them (see {doc}`controls`). Here the rule
# is applied to the decay of Ω divided by what each block's values give when they are shuffled: all of
# them, or within channels.

# %% tags=["hide-input"]
table = {}
for null in NULLS:
    both = (
        over_null[null],
        correlated(f"rate_over_{null}", "accuracy", *CONTROLS),
    )
    table[f"Ω / {NULLS[null]}"] = {
        "with accuracy": str(both[0]),
        "given all three controls": str(both[1]),
        "by the rule": architecture_verdict(*both, n, n_seeds)[0],
    }
pd.DataFrame(table).T

# %% [markdown]
# ## What this does not show
#
# - That the same holds for all architectures: the grid was chosen by us and is no sample of them. The
#   intervals speak of grids like this one.
# - That a steeper decay makes a network better: networks with different rates differ in other ways, too.
# - What each activation function does at its own level: all three keep the sign of what they are
#   given, so that at η = 0 the sublevel sets do not depend on which one follows.
# - Whether decay ranks pretrained networks for a new task: see {doc}`ranking`.

# %% [markdown]
# ## What to try next
#
# - One width only: `-p widths "[16]" -p depths "[2, 4, 6]"`. What is left when all networks have
#   nearly the same size?
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
# A correlation over all architectures may come from differences between groups. Compute the rank
# correlation of rate and accuracy, over the means of architectures, within each activation function.
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-architecture-choices-1
# :label: sol-architecture-choices-1
# :class: dropdown
# ```
#
# With few architectures in a group these numbers are coarse: with two, only −1 and 1 are possible.
# Read each beside its number of architectures; they have no interval here.

# %%
pd.DataFrame(
    {
        activation: {
            "architectures": len(group),
            "rank correlation": group[["rate", "accuracy"]]
            .corr(method="spearman")
            .iloc[0, 1],
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
# narrow ones, and let accuracy fall with the rate within each width: two clouds that slope down, the
# second one above and to the right of the first. Over all networks the line goes up. The claim is
# that the rate tells something about generalisation. If the width, which is known without training,
# tells as much, the rate adds nothing to it, and within a width it points the wrong way. So look at
# the number for a fixed width (or given width, depth and number of parameters), and say beforehand
# what is held fixed.
# ```
