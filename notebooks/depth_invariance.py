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
# # The same data at another depth
#
# The claim, in the words of the paper's abstract {cite}`suresh2023`: "we highlight several
# invariances such as topological invariance of [...] (2) embedding space of a dataset for
# architectures of variable depth".
#
# The comparison set, fixed beforehand: the median distance over all pairs of EfficientNet-Lite0,
# Lite1, Lite2 and the untrained Lite0, on the same images. A change of depth must make much less
# difference than that. Two questions go with it: which points of a shallow and a deep network
# belong together, and what is left of the answer when the changed pairs are taken out of the
# comparison set?
#
# This page is a notebook: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
from topo_utils.book import AtLeast, NonEmpty

# Networks of different depth, at least two: names that topo_utils.model_names() lists.
models: NonEmpty[str] = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
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
# The distance of two curves is the root mean square difference of log(1 + mean Ω) on relative
# depth, each curve minus its own mean: only the shape counts. The distances between networks of
# another number of blocks are divided by the median of the comparison set. The interval (95 %) is a
# bootstrap over images, the same ones in all networks; it says nothing of other networks of the
# kind, nor of other random weights of the untrained one, of which there is one.
#
# The EfficientNet-Lites differ in more than depth. Lite1 has the channels of Lite0 and more blocks;
# Lite2 has as many blocks as Lite1 and is a tenth wider. So Lite0 against Lite1 is depth alone, and
# Lite1 against Lite2 is width alone, which counts as no change of depth. Each was made for an input
# size of its own; here all get the same.

# %%
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from topo_utils import (
    block_shapes,
    embedding_profile,
    invariance,
    load_model,
    model_blocks,
    open_images,
    published_table,
    topological_complexity,
)
from topo_utils.book import glue, record_finding
from topo_utils.distances import NOTHING_TO_COMPARE
from topo_utils.plotting import COLOURS, plot_curves, use_style

use_style()
COMPARED = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
UNTRAINED = "efficientnet_lite0 (untrained)"


def omega(model, images=dataset, weights="pretrained"):
    """Omega by image and block."""
    # The data sets of the other denominator may have fewer images than were asked for.
    few = n_images is not None and images != dataset
    profile = embedding_profile(
        model,
        images,
        thresholds=threshold,
        n_images=min(n_images, len(open_images(images))) if few else n_images,
        image_size=image_size,
        weights=weights,
        seed=seed,
        progress=False,
    )
    return topological_complexity(profile).sel(threshold=threshold)


curves = {model: omega(model) for model in dict.fromkeys([*models, *COMPARED])}
curves[UNTRAINED] = omega(COMPARED[0], weights="random")
blocks = {model: curves[model].sizes["block"] for model in models}
changes = [(a, b) for a, b in combinations(blocks, 2) if blocks[a] != blocks[b]]
if not changes:
    raise ValueError(f"models have the blocks {blocks}; needed: at least two different numbers")
comparison = list(combinations([*COMPARED, UNTRAINED], 2))
found = invariance(curves, changes, comparison)

# %% [markdown]
# ## Which blocks belong together
#
# Relative depth counts blocks. A deeper network of a family has its extra blocks in some stages
# and not in others (a stage is a run of blocks whose outputs have one size), so block by block its
# stages lie elsewhere on the axis. The second panel shows every network at the ends of its stages
# only, where networks of one family have the same number of points.


# %%
def stage_ends(model):
    """Positions of the last block of every run of blocks whose outputs have one size."""
    shapes, _ = block_shapes(load_model(model, weights="random"), image_size, model_blocks(model))
    sizes = list(shapes.values())
    return [i for i, size in enumerate(sizes) if i + 1 == len(sizes) or sizes[i + 1] != size]


STAGES = " (ends of stages)"
curves |= {model + STAGES: curves[model].isel(block=stage_ends(model)) for model in blocks}
stage_changes = [
    (a + STAGES, b + STAGES)
    for a, b in changes
    if curves[a + STAGES].sizes["block"] == curves[b + STAGES].sizes["block"]
]

# %% mystnb={"figure": {"caption": "Topological complexity of networks of different depth on the same images: at every block (left) and at the ends of stages only (right). Dashed: untrained. Bands: one standard error over images.", "name": "fig-depth-invariance-curves"}, "image": {"alt": "Two line charts of mean complexity on a logarithmic axis against relative depth, one curve a network: on the left at every block with the untrained network dashed, on the right at the ends of stages."}} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 4.4), sharey=True)
plot_curves(axes[0], {name: curves[name] for name in [*blocks, UNTRAINED]}, dashed=[UNTRAINED])
plot_curves(axes[1], {name: curves[name + STAGES] for name in blocks}, ylabel="")
for ax, title in zip(axes, ("every block", "ends of stages"), strict=True):
    ax.set(title=title, xlabel="relative depth")
    ax.legend().remove()
_ = figure.legend(*axes[0].get_legend_handles_labels(), ncols=2, loc="outside upper center")

# %% [markdown]
# ## The published families
#
# The authors published Betti numbers of nine torchvision networks on 2,000 CIFAR-10 images, as
# means and standard deviations over images here. Their comparison set is between families: all
# pairs of VGG-16, ResNet-50, MobileNetV2 and DenseNet-121. A ResNet's points are three of its stem
# and one a residual block; a DenseNet's are the same twelve at every depth.

# %%
published = {
    name: (
        rows["omega_mean"].to_numpy(),
        (rows["omega_std_over_images"] / np.sqrt(rows["n_images"])).to_numpy(),  # standard error
    )
    for name, rows in published_table("suresh2023_cifar10_betti")
    .sort_values("block")
    .groupby("model", sort=False)
}
between = list(combinations(["vgg16", "resnet50", "mobilenet_v2", "densenet121"], 2))
RESNET_STAGES = {  # points of the stem, then residual blocks in each of the four stages
    "resnet18": (3, 2, 2, 2, 2),
    "resnet50": (3, 3, 4, 6, 3),
    "resnet101": (3, 3, 4, 23, 3),
    "resnet152": (3, 3, 8, 36, 3),
}
for name, counts in RESNET_STAGES.items():
    ends = np.cumsum(counts) - 1
    published[name + STAGES] = tuple(part[ends] for part in published[name])

family_found, family_pairs, family_stages = {}, {}, {}
for family in families:
    name, pairs = " / ".join(family), list(combinations(family, 2))
    known = pairs if set(family) <= RESNET_STAGES.keys() else []
    family_found[name] = invariance(published, pairs, between)
    family_stages[name] = [(a + STAGES, b + STAGES) for a, b in known]
    family_pairs[name] = invariance(published, pairs + family_stages[name], between).pairs

# %% [markdown]
# ## Ratios

# %% mystnb={"figure": {"caption": "Distance of two networks of different depth, divided by the median of the comparison set: 1 is what networks that should differ show. Bars: 95 % intervals over images. Dotted: the limits of the rule, 0.25 and 0.5.", "name": "fig-depth-invariance-ratios"}, "image": {"alt": "Dot chart of ratios with intervals, one row a pair of networks, measured and published, with dotted vertical lines at 0.25 and 0.5 and a solid one at 1."}} tags=["hide-input"]
shown = {"measured": invariance(curves, changes + stage_changes, comparison).pairs}
shown |= {f"published, {name.partition(' / ')[0]} …": rows for name, rows in family_pairs.items()}
figure, ax = plt.subplots(figsize=(7.2, 1.7 + 0.4 * (len(changes) + 3 * len(families))))
rows = []
for i, (label, pairs) in enumerate(shown.items()):
    colour = COLOURS[i % len(COLOURS)]
    for pair in pairs[pairs["kind"] == "change"].itertuples():
        row = f"{pair.a} – {pair.b}".replace(STAGES, "").replace("efficientnet_l", "L")
        rows += [row] if row not in rows else []
        at_ends = pair.a.endswith(STAGES)
        y = rows.index(row) + 0.25 * at_ends
        ax.plot([pair.ratio_low, pair.ratio_high], [y, y], color=colour, lw=2)
        ax.plot(pair.ratio, y, "s" if at_ends else "o", color=colour, label=label)
        label = None  # once in the legend
for marker, label in (("o", "every block"), ("s", "ends of stages")):
    ax.plot([], [], marker, color="#555555", label=label)
for limit, style in ((0.25, ":"), (0.5, ":"), (1, "-")):
    ax.axvline(limit, color="#555555", lw=1, ls=style)
ax.set(yticks=range(len(rows)), yticklabels=rows, xlim=(0, None), ylim=(len(rows) - 0.4, -0.6))
ax.set_xlabel("distance / median distance of the comparison set")
_ = figure.legend(ncols=3, fontsize=9, loc="outside upper center")

# %% [markdown]
# The test is partly circular: where a changed pair is in the comparison set as well, its distance
# counts both as one that should vanish and as one that should not, and if depth makes little
# difference the denominator is too small. So here is the median ratio against other denominators
# too: trained against untrained only, and other data (the median over all pairs of CIFAR-10, MNIST
# and ImageNet samples in the first network). In the second column the distances under the change
# are taken at the ends of stages; the denominators stay as they are. The row "same depth" is a
# change of width instead.

# %% tags=["hide-input"]
data = ["cifar10_samples", "mnist_samples", "imagenet_samples"]
curves |= {f"on {name}": omega(models[0], name) for name in data}
to_untrained = [(name, UNTRAINED) for name in COMPARED]
denominators = {
    "all pairs of the comparison set": comparison,
    "trained against untrained only": to_untrained,
    "other data": list(combinations([f"on {name}" for name in data], 2)),
}


def median_ratio(pairs, denominator, of=curves):
    """The median ratio of the pairs as text."""
    return str(invariance(of, pairs, denominator)) if pairs else "–"


table = {
    name: {
        "every block": median_ratio(changes, chosen),
        "ends of stages": median_ratio(stage_changes, chosen),
    }
    for name, chosen in denominators.items()
}
same_depth = [pair for pair in combinations(blocks, 2) if pair not in changes]
table["same depth, over the comparison set"] = {
    "every block": median_ratio(same_depth, comparison),
    "ends of stages": "–",
}
for name, each in family_found.items():
    table[f"published: {name}"] = {
        "every block": f"{each.ratio:.2f} [{each.low:.3f}, {each.high:.3f}]",
        "ends of stages": median_ratio(family_stages[name], between, published),
    }
pd.DataFrame(table).T

# %% tags=["remove-cell"]
untrained_only = invariance(curves, changes, to_untrained)
glue(
    used_images=curves[models[0]].sizes["image"],
    images_name=dataset,
    eta=threshold,
    size=image_size,
    n_changes=len(changes),
    n_comparison=len(comparison),
    n_shared=sum(pair in changes or pair[::-1] in changes for pair in comparison),
    ratio=found.ratio,
    ratio_low=found.low,
    ratio_high=found.high,
    ratio_untrained=untrained_only.ratio,
    untrained_low=untrained_only.low,
    untrained_high=untrained_only.high,
    untrained_rule=untrained_only.verdict,
    at_stages=median_ratio(stage_changes, comparison),
    n_stage_changes=len(stage_changes),
    of_width=median_ratio(same_depth, comparison),
)

# %% [markdown]
# On {glue:text}`used_images` images of {glue:text}`images_name` of {glue:text}`size` pixels at
# η = {glue:text}`eta`, {glue:text}`n_changes` pairs of measured networks differ in depth. The median
# of their distances is {glue:text}`ratio:.2f` [{glue:text}`ratio_low:.2f`,
# {glue:text}`ratio_high:.2f`] of the median of the comparison set. Of the
# {glue:text}`n_comparison` pairs of that set {glue:text}`n_shared` are changed pairs themselves.
# Against the pairs of a trained network and the untrained one alone, the ratio is
# {glue:text}`ratio_untrained:.2f` [{glue:text}`untrained_low:.2f`, {glue:text}`untrained_high:.2f`],
# by the rule "{glue:text}`untrained_rule`".
#
# Taken at the ends of stages, where the points of both networks correspond, the changed pairs come
# to {glue:text}`at_stages` of the same denominator ({glue:text}`n_stage_changes` of
# {glue:text}`n_changes` pairs have as many stages on both sides). The two readings differ only in
# which blocks are held against each other: relative depth, as the claim has to be read for want of
# a better axis, is part of the answer. Pairs of the same depth and another width, for scale, come
# to {glue:text}`of_width` (– where there is none).
#
# The intervals of published families are narrow because 2,000 images were averaged; they stand for
# these networks and for CIFAR-10 only. The threshold and the batch-norm mode are not recorded (see
# {doc}`depth_decay`), and errors are taken as independent from block to block, since the images are
# not at hand. A DenseNet's points correspond at every depth, so its ratio owes nothing to the axis.

# %% [markdown]
# ## Verdict
#
# The rule for one set of pairs is that of every chapter: *reproduced* when the upper end of the
# ratio's interval is below 0.25, *not reproduced* when its lower end is above 0.5, *reproduced with
# limits* between. The claim is about architectures in general, so one family alone can neither save
# nor sink it: the measured networks and each published family are judged alone, and where they do
# not all agree the verdict is *reproduced with limits*; it is *inconclusive* where there is nothing to
# compare, as where the threshold lies beyond all values. The other denominators, and the ends of
# stages, were looked at besides; they do not enter.

# %% tags=["hide-input"]
verdicts = {"the measured networks": found.verdict}
verdicts |= {f"the published {name}": each.verdict for name, each in family_found.items()}
verdict = found.verdict
if len(set(verdicts.values())) > 1 and "inconclusive" not in verdicts.values():
    verdict = "reproduced with limits"
numbers = {"ratio_of_the_measured_networks": found}
numbers |= {
    f"ratio_of_published_{name.replace(' / ', '_')}": each for name, each in family_found.items()
}
numbers["ratio_to_trained_against_untrained"] = untrained_only
if stage_changes:
    numbers["ratio_at_the_ends_of_stages"] = invariance(curves, stage_changes, comparison)
if verdict == "inconclusive":
    reason = NOTHING_TO_COMPARE
else:
    reason = (
        "By the rule, each alone: "
        + "; ".join(f"{name}, {each}" for name, each in verdicts.items())
        + f". The measured ratio is {median_ratio(changes, comparison)}; against trained-untrained "
        f"pairs alone {median_ratio(changes, to_untrained)}, at the ends of stages "
        f"{median_ratio(stage_changes, comparison)}."
    )
record_finding(
    claim="The embedding space of a data set is the same for architectures of any depth",
    verdict=verdict,
    reason=reason,
    numbers={name: number for name, number in numbers.items() if np.isfinite([*number]).all()},
)

# %% [markdown]
# ## What to try next
#
# - Another threshold: `-p threshold 0.5`. Which of the two distances changes, that under the change
#   of depth or that to the untrained network?
# - Other images: `-p dataset cifar10_samples`. Is the answer the same?
# - Families that are none: `-p families '[["vgg16", "mobilenet_v2"]]'`.
# - Where there is a network, three ResNets: `topobook run depth_invariance --preset paper`.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} What the axis makes alone
# :label: ex-depth-invariance-1
# ```
#
# Leave out every second block of the first network, but keep the first and the last, and compare
# the rest with the whole, as if it were another network. Which ratio does the same network have to
# itself?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-depth-invariance-1
# :label: sol-depth-invariance-1
# :class: dropdown
# ```
#
# Both curves are of the same network and images: whatever is left is made by interpolating between
# fewer points, and not by depth.

# %%
n_blocks = curves[models[0]].sizes["block"]
kept = sorted({*range(0, n_blocks, 2), n_blocks - 1})
thinned = curves | {"every second block": curves[models[0]].isel(block=kept)}
itself = invariance(thinned, [(models[0], "every second block")], comparison)
pd.DataFrame(
    {
        f"{models[0]} against its every second block": {
            "ratio": str(itself),
            "by the rule": itself.verdict,
        }
    }
).T

# %% [markdown]
# A ratio between networks that is not well above this one says nothing about depth: a curve that
# jumps from block to block is not well described by fewer points.
#
# ```{solution-end}
# ```
#
# ```{exercise} A ratio of 1 by construction
# :label: ex-depth-invariance-2
#
# Suppose the comparison set consisted of the changed pairs and nothing else. What would the ratio
# be, whatever the networks are? And what if half of its pairs are changed pairs, as far from one
# another as the rest? When is a denominator that shares pairs with the numerator a fair one?
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
