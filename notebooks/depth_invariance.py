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
# # Do networks of different depth have the same curve?
#
# > we highlight several invariances such as topological invariance of [...] (2) embedding space of a
# > dataset for architectures of variable depth
# >
# > — the paper's abstract, {cite:t}`suresh2023`

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Distance of two networks of different depth.", "name": "fig-depth-invariance-ratios"}, "image": {"alt": "Dot chart of ratios with intervals, one row a pair of networks, measured and published, with dotted vertical lines at 0.25 and 0.5 and a solid one at 1."}} tags=["remove-input"]
place("fig-depth-invariance-ratios")

# %% [markdown]
# You need to know the curve of topological complexity by depth, which {doc}`depth_decay` introduces,
# and how two curves are compared ({doc}`similar_datasets`).

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from topo_utils.book import AtLeast, NonEmpty

# Networks of different depth, at least two: names that topo_utils.model_names() lists.
models: NonEmpty[str] = [
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
]
# Families of the published table, each a list of its networks; [] leaves them out.
families: list[list[str]] = [
    ["resnet50", "resnet101", "resnet152"],
    ["densenet121", "densenet169", "densenet201"],
]
# The images: a name that topo_utils.dataset_names() lists, or folder:PATH.
dataset: str = "imagenet_samples"
# How many images, at least 2; None takes all.
n_images: AtLeast[2] | None = None
# Height and width to which images are resized, in pixels, the same for all networks.
image_size: AtLeast[1] = 224
# The level eta of the sublevel sets, in units of the activations.
threshold: float = 0.0
# Of the untrained network's weights, and of the draw of images.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# The distance of two curves is the root mean square difference of log(1 + mean Ω) on relative depth,
# each curve minus its own mean: only the shape counts. The median distance between networks with
# different numbers of blocks is divided by that of a comparison set fixed beforehand: all pairs of
# EfficientNet-Lite0, Lite1, Lite2 and the untrained Lite0. The interval (95 %) is a bootstrap over
# images, the same ones in all networks.
#
# Lite1 has the channels of Lite0 and more blocks; Lite2 has as many blocks as Lite1 and is a tenth
# wider. So Lite0 against Lite1 is depth alone. Lite1 against Lite2 is width alone, and counts as no
# change of depth.

# %% tags=["hide-cell"]
from itertools import combinations

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib import pyplot as plt

from topo_utils import (
    Estimate,
    block_shapes,
    embedding_profile,
    invariance,
    load_model,
    model_blocks,
    open_images,
    published_table,
    topological_complexity,
)
from topo_utils.book import fill, record_finding
from topo_utils.distances import NOTHING_TO_COMPARE
from topo_utils.plotting import plot_curves, plot_ratios, use_style

use_style()
COMPARED = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
UNTRAINED = "efficientnet_lite0 (untrained)"
blocks = {model: len(model_blocks(model)) for model in models}
if len({*blocks.values()}) < 2:
    raise ValueError(f"models have {blocks} blocks; needed: different ones")


def curve_in(model, images=dataset, weights="pretrained"):
    """Omega by image and block."""
    n = n_images
    if images != dataset:  # which may have fewer images than were asked for
        n = min(n_images or np.inf, len(open_images(images)))
    options = {"image_size": image_size, "seed": seed, "progress": False}
    options |= {"n_images": n, "thresholds": threshold, "weights": weights}
    profile = embedding_profile(model, images, **options)
    return topological_complexity(profile).sel(threshold=threshold)


# %%
curves = {model: curve_in(model) for model in {*models, *COMPARED}}
curves[UNTRAINED] = curve_in(COMPARED[0], weights="random")
pairs = list(combinations(blocks, 2))
changes = [(a, b) for a, b in pairs if blocks[a] != blocks[b]]
comparison = list(combinations([*COMPARED, UNTRAINED], 2))
found = invariance(curves, changes, comparison)
print(found)  # distance under the change / of the comparison set

# %% [markdown]
# ## Which blocks correspond?
#
# Relative depth counts blocks. A deeper network of a family has its extra blocks in some stages and
# not in others (a stage is a run of blocks whose outputs have one size), so its stages lie elsewhere
# on the axis. The second panel shows every network at the ends of its stages only, where networks of
# one family have the same number of points.


# %% mystnb={"figure": {"caption": "Topological complexity of networks of different depth on the same images: at every block (left) and at the ends of stages only (right). Dashed: untrained. Bands: one standard error over images.", "name": "fig-depth-invariance-curves"}, "image": {"alt": "Two line charts of mean complexity on a logarithmic axis against relative depth, one curve a network: on the left at every block with the untrained network dashed, on the right at the ends of stages."}} tags=["hide-input"]
def stage_ends(model):
    """Positions of the last block of every run of blocks whose outputs have one size."""
    network = load_model(model, weights="random")
    shapes, _ = block_shapes(network, image_size, model_blocks(model))
    sizes = [*shapes.values(), None]
    return [i for i in range(len(shapes)) if sizes[i] != sizes[i + 1]]


STAGES = " (ends of stages)"
for model in blocks:
    curves[model + STAGES] = curves[model].isel(block=stage_ends(model))
stage_changes = [
    (a + STAGES, b + STAGES)
    for a, b in changes
    if curves[a + STAGES].shape == curves[b + STAGES].shape
]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 4.4), sharey=True)
every = {name: curves[name] for name in [*blocks, UNTRAINED]}
at_ends = {name: curves[name + STAGES] for name in blocks}
plot_curves(axes[0], every, dashed=[UNTRAINED])
plot_curves(axes[1], at_ends, ylabel="")
for ax, title in zip(axes, ("every block", "ends of stages"), strict=True):
    ax.set(title=title, xlabel="relative depth")
    ax.legend().remove()
handles = axes[0].get_legend_handles_labels()
_ = figure.legend(*handles, ncols=2, loc="outside upper center")

# %% [markdown]
# ## Do the published families agree?
#
# The authors published Betti numbers of nine torchvision networks on 2,000 CIFAR-10 images, as means
# and standard deviations over images here. Their comparison set is between families: all pairs of
# VGG-16, ResNet-50, MobileNetV2 and DenseNet-121. A ResNet's points are three of its stem and one a
# residual block; a DenseNet's are the same twelve at every depth.
#
# The table has the median ratio for each family, and the measured one over different denominators.
# They matter because the test is partly circular: where a changed pair is in the comparison set as
# well, its distance counts both as one that should vanish and as one that should not.

# %% tags=["hide-cell"]
table = published_table("suresh2023_cifar10_betti").sort_values("block")
table["error"] = table["omega_std_over_images"] / np.sqrt(table["n_images"])
published = {
    name: (rows["omega_mean"].to_numpy(), rows["error"].to_numpy())
    for name, rows in table.groupby("model", sort=False)
}
RESNET_STAGES = {  # points of the stem, then residual blocks by stage
    "resnet18": (3, 2, 2, 2, 2),
    "resnet50": (3, 3, 4, 6, 3),
    "resnet101": (3, 3, 4, 23, 3),
    "resnet152": (3, 3, 8, 36, 3),
}
for name, counts in RESNET_STAGES.items():
    ends = np.cumsum(counts) - 1
    published[name + STAGES] = tuple(part[ends] for part in published[name])
between = list(
    combinations(["vgg16", "resnet50", "mobilenet_v2", "densenet121"], 2)
)
data = ["cifar10_samples", "mnist_samples", "imagenet_samples"]
curves |= {f"on {name}": curve_in(models[0], name) for name in data}
to_untrained = [(name, UNTRAINED) for name in COMPARED]
on_data = list(combinations([f"on {name}" for name in data], 2))
same_depth = [pair for pair in pairs if pair not in changes]
MAIN, TWIN = "the comparison set", "trained against untrained only"
WIDTH = "the comparison set, for a change of width"
# What is compared, by what it is divided by: curves, denominator, and pairs
# at every block and at the ends of stages.
tried = {
    MAIN: (curves, comparison, changes, stage_changes),
    TWIN: (curves, to_untrained, changes, stage_changes),
    "different data": (curves, on_data, changes, stage_changes),
    WIDTH: (curves, comparison, same_depth, []),
}
names = {f"published {' / '.join(family)}": family for family in families}
for name, family in names.items():
    every, known = list(combinations(family, 2)), RESNET_STAGES.keys()
    ends = [(a + STAGES, b + STAGES) for a, b in every if known >= {*family}]
    tried[name] = published, between, every, ends
nothing = Estimate(*[np.nan] * 3)
ratios = {}
for name, (of, by, *both) in tried.items():
    ratios[name] = [invariance(of, p, by) if p else nothing for p in both]

groups = {}
for name in (MAIN, *names):
    for pairs, each in zip(tried[name][2:], ratios[name], strict=True):
        for pair in pairs:
            ends = pair[0].endswith(STAGES)
            kind = ("measured", "published")[name in names] + STAGES * ends
            row = " – ".join(pair).replace(STAGES, "")
            row = row.replace("efficientnet_", "")
            groups.setdefault(kind, {})[row] = each.ratios[pair]
figure, ax = plt.subplots()
plot_ratios(ax, groups)
figure.legend(ncols=2, fontsize=9, loc="outside upper center")
plt.close(figure)
at_stages = ratios[MAIN][1]
fill(
    "fig-depth-invariance-ratios",
    figure,
    caption=f"The median ratio of networks of different depth is {found}; at the ends "
    f"of stages it is {at_stages}. A ratio is a distance divided by the median of the "
    "comparison set: 1 is what networks that should differ show. Bars: 95 % "
    "intervals over images. Dotted: the limits of the rule.",
)

# %% tags=["hide-input"]
pd.DataFrame(
    {name: map(str, each) for name, each in ratios.items()},
    index=["every block", "ends of stages"],
).T

# %% tags=["remove-input"]
of_width = f"A change of width alone comes to {ratios[WIDTH][0]}." * bool(
    same_depth
)
n_shared = len({*comparison} & {*changes, *(pair[::-1] for pair in changes)})
Markdown(f"""
On {curves[models[0]].sizes["image"]} images of `{dataset}` of {image_size} pixels at
η = {threshold:g}, {len(changes)} of {len(pairs)} pairs of measured networks differ in depth. Their
median distance is **{found}** of that of the comparison set. {n_shared} of the {len(comparison)} pairs of that set are
changed pairs themselves. Against the pairs of a trained network and the untrained one alone, the ratio
is {ratios[TWIN][0]}, by the rule "{ratios[TWIN][0].verdict}".

The answer depends on how blocks are matched. At the ends of stages, where the points of both networks
correspond, the changed pairs come to **{at_stages}** of the same denominator ({len(stage_changes)} of
{len(changes)} pairs have as many stages on both sides). {of_width}
""")

# %% [markdown]
# The intervals of published families are narrow because 2,000 images were averaged; they stand for
# these networks and for CIFAR-10 only. The threshold and the batch-norm mode are not recorded (see
# {doc}`depth_decay`), and errors are taken as independent from block to block, since the images are
# not at hand. A DenseNet's points correspond at every depth, so its ratio owes nothing to the axis.

# %% [markdown]
# ## The rule
#
# Fixed beforehand. For one set of pairs it is that of every chapter on invariance: *reproduced* when
# the upper end of the ratio's interval is below 0.25, *not reproduced* when its lower end is above
# 0.5, *reproduced with limits* between.
#
# The claim is about architectures in general, so one family does not decide: the measured networks
# and each published family are judged alone, and where they do not all agree the verdict is
# *reproduced with limits*. It is *inconclusive* where there is nothing to compare, as where the
# threshold lies beyond all values. Different denominators and the ends of stages do not enter.

# %% tags=["hide-cell"]
judged = {"measured networks": found} | {n: ratios[n][0] for n in names}
verdict, *others = {each.verdict: None for each in judged.values()}
if others and "inconclusive" not in (verdict, *others):
    verdict = "reproduced with limits"
reason = (
    "By the rule, each alone: "
    + "; ".join(f"the {n}, {each.verdict}" for n, each in judged.items())
    + f". The measured ratio is {found}; against trained-untrained pairs alone "
    f"{ratios[TWIN][0]}, at the ends of stages {at_stages}."
)
numbers = {"ratio_of_the_measured_networks": found}
for name in names:
    numbers[f"ratio_of_{name}".replace(" / ", " ").replace(" ", "_")] = (
        judged[name]
    )
numbers["ratio_to_trained_against_untrained"] = ratios[TWIN][0]
numbers["ratio_at_the_ends_of_stages"] = at_stages
record_finding(
    claim="The embedding space of a data set is the same for architectures of any depth",
    verdict=verdict,
    reason=NOTHING_TO_COMPARE if verdict == "inconclusive" else reason,
    headline=f"Distance of networks of different depth: {found:.0%} of that of the "
    "comparison set; below 25% counts as the same.",
    numbers={n: x for n, x in numbers.items() if np.isfinite([*x]).all()},
)

# %% [markdown]
# ## What this does not show
#
# - What holds for different networks of the kind, or different random weights of the untrained one:
#   the interval is over images only, and there is one untrained network.
# - What each network does at the input size it was made for: here all get the same.
# - What happens at a different threshold: see {doc}`threshold`.

# %% [markdown]
# ## What to try next
#
# - Another threshold: `-p threshold 0.5`. Which of the two distances changes, that under the change
#   of depth or that to the untrained network?
# - Other images: `-p dataset cifar10_samples`. Is the answer the same?
# - Two networks that are no family: `-p families '[["vgg16", "mobilenet_v2"]]'`.
# - With an internet connection, three ResNets: `topobook run depth_invariance --preset paper`.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} What the axis makes alone
# :label: ex-depth-invariance-1
# ```
#
# Leave out every second block of the first network, but keep the first and the last, and compare
# the rest with the whole, as if it were a different network. What is its ratio to itself?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-depth-invariance-1
# :label: sol-depth-invariance-1
# :class: dropdown
# ```
#
# Both curves are of the same network and images, so interpolating between fewer points makes all of
# the difference, and depth none.

# %%
whole, half = models[0], "every second block"
last = blocks[whole] - 1
kept = sorted({*range(0, last, 2), last})
curves[half] = curves[whole].isel(block=kept)
itself = invariance(curves, [(whole, half)], comparison)
print(f"{itself}, by the rule {itself.verdict}")

# %% [markdown]
# A ratio between networks that is not well above this one says nothing about depth: fewer points do
# not describe a curve that jumps from block to block.
#
# ```{solution-end}
# ```
#
# ```{exercise} A ratio of 1 by construction
# :label: ex-depth-invariance-2
#
# Suppose the comparison set consisted of the changed pairs and nothing else. What would the ratio
# be, whatever the networks are? And if half of its pairs are changed pairs, as far apart as the
# rest? When is it fair that the denominator shares pairs with the numerator?
# ```
#
# ```{solution} ex-depth-invariance-2
# :label: sol-depth-invariance-2
# :class: dropdown
#
# It would be 1: a median divided by itself, for networks that are alike as for networks that are
# not. With half of the pairs shared and all equally far, it is 1 as well, and rightly so. The
# trouble is the case in which the claim is true: then the shared pairs are near, pull the median
# down, and make the ratio larger than it is against pairs that really should differ. So sharing
# works against the claim; a claim that passes in spite of it has passed, and one that fails must be
# looked at with the shared pairs taken out.
# ```
