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
# # Similar data sets, one network
#
# The claim, in the words of the paper's abstract {cite}`suresh2023`: "we highlight several
# invariances such as topological invariance of (1) an architecture on similar datasets".
#
# The comparison set, fixed beforehand: the median distance over all pairs of CIFAR-10, MNIST and
# ImageNet samples in the same network. Similar data sets must lie much nearer to each other than
# that. And if they do, one question remains: is it the *pictures* that are alike, or only
# how blurred they are? CIFAR-10 and CIFAR-100 both have 32 × 32 pixels, enlarged to what the network
# takes.
#
# This page is a notebook: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
from topo_utils.book import AtLeast, NonEmpty

# Networks that topo_utils.model_names() lists; the first gives the number, all must agree.
models: NonEmpty[str] = ["efficientnet_lite0", "efficientnet_lite1"]
# Pairs of data sets claimed to be similar: names of topo_utils.dataset_names(), or folder:PATH.
pairs: NonEmpty[list[str]] = [
    ["cifar10_samples", "cifar100_samples"],
    ["mnist_samples", "fashion_mnist_samples"],
]
# How many images of each data set, at least 2; where there are fewer, and with None, all.
n_images: AtLeast[2] | None = None
# Height and width to which images are resized, in pixels.
image_size: AtLeast[1] = 224
# The level eta of the sublevel sets, in units of the activations.
threshold: float = 0.0
# Of the draw of images, and of the untrained network's weights.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# The distance of two data sets is the root mean square difference of their curves log(1 + mean Ω)
# on relative depth, each minus its own mean: a factor common to all blocks does not count. The
# median distance of the claimed pairs is divided by that of the comparison set; the interval (95 %)
# is a bootstrap over images, and what two halves of the same images differ by is subtracted: a ratio
# of 0 means no more than that, and what is smaller than this noise cannot be told from 0. The
# embedded samples are few images of each data set, and one choice of them.
#
# The control: the pictures of the comparison set that are not in the pair are reduced to the
# resolution of the pair's first data set, enlarged again, and compared with it. If one of them lies
# as near as the other half of the pair, then nearness does not show that data sets are similar.

# %%
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from PIL import Image

from topo_utils import (
    Estimate,
    embedding_profile,
    invariance,
    invariance_verdict,
    normalise,
    open_images,
    topological_complexity,
)
from topo_utils.book import glue, record_finding
from topo_utils.distances import NOTHING_TO_COMPARE
from topo_utils.plotting import COLOURS, plot_curves, use_style

use_style()
COMPARED = ["cifar10_samples", "mnist_samples", "imagenet_samples"]
if not models:
    raise ValueError("models is empty; needed: at least one network")
if not pairs or any(len(set(pair)) != 2 for pair in pairs):
    raise ValueError(f"pairs are {pairs}; needed: at least one list of two different data sets")
claimed = [tuple(pair) for pair in pairs]
comparison = list(combinations(COMPARED, 2))
data = list(dict.fromkeys([name for pair in claimed for name in pair] + COMPARED))
available = {name: open_images(name) for name in data}
n_used = {
    name: len(these) if n_images is None else min(n_images, len(these))
    for name, these in available.items()
}
own_size = {name: min(these.picture(0).size) for name, these in available.items()}


def omega(model, images, **options):
    """Omega by image and block."""
    profile = embedding_profile(
        model, images, thresholds=threshold, seed=seed, progress=False, **options
    )
    return topological_complexity(profile).sel(threshold=threshold)


def reduced(name, pixels):
    """Images of a data set at a resolution of a few pixels, enlarged again."""
    opened = open_images(name, image_size, n_used[name], seed)
    pictures = (opened.picture(i) for i in range(len(opened)))
    small = (picture.resize((pixels, pixels), Image.Resampling.BILINEAR) for picture in pictures)
    return torch.stack([normalise(picture, image_size) for picture in small])


found, curves = {}, {}
for model in dict.fromkeys(models):
    curves[model] = {
        name: omega(model, name, image_size=image_size, n_images=n_used[name]) for name in data
    }
    found[model] = invariance(curves[model], claimed, comparison)

first = models[0]
of_first = dict(curves[first])
controls = {}  # pair -> the names of its controls
for pair in claimed:
    pixels = min(own_size[pair[0]], image_size)
    for name in COMPARED:
        if name not in pair:
            label = f"{name} (at {pixels} pixels)"
            controls.setdefault(pair, []).append(label)
            if label not in of_first:
                of_first[label] = omega(first, reduced(name, pixels))
                of_first[label].attrs["dataset"] = label  # images of their own

# %% [markdown]
# ## The curves

# %% mystnb={"figure": {"caption": "Topological complexity of every data set in the first network (solid), and of the first pair's controls, images reduced to its resolution and enlarged again (dashed, in the colour of the data set that they come from). The distance ignores a common factor: only shapes count. Bands: one standard error over images.", "name": "fig-similar-datasets-curves"}, "image": {"alt": "Line chart of mean complexity on a logarithmic axis against relative depth in one network: one solid curve a data set, and dashed curves for the images at reduced resolution."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(7.2, 5))
dashed = controls[claimed[0]]
shown = {name.replace("_samples", ""): of_first[name] for name in [*data, *dashed]}
plot_curves(ax, shown, dashed=[label.replace("_samples", "") for label in dashed])
handles = ax.get_legend_handles_labels()
ax.legend().remove()
_ = figure.legend(*handles, ncols=3, fontsize=9, loc="outside upper center")

# %% [markdown]
# ## How near is near

# %%
controlled = [(pair[0], label) for pair in claimed for label in controls[pair]]
rows = invariance(of_first, claimed + controlled, comparison).pairs
kinds = ["claimed similar"] * len(claimed) + ["control"] * len(controlled)
rows["what"] = kinds + ["comparison set"] * len(comparison)
rows["pair"] = (rows["a"] + " – " + rows["b"]).str.replace("_samples", "")

# %% mystnb={"figure": {"caption": "Distances in the first network, divided by the median of the comparison set. Bars: 95 % intervals over images. Dotted: the limits of the rule, 0.25 and 0.5.", "name": "fig-similar-datasets-ratios"}, "image": {"alt": "Dot chart of ratios with intervals, one row a pair of data sets: the pairs claimed similar, the controls at reduced resolution and the comparison set in three colours, with dotted lines at 0.25 and 0.5."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(7.2, 1.6 + 0.36 * len(rows)))
for colour, (what, group) in zip(COLOURS, rows.groupby("what", sort=False), strict=False):
    ax.hlines(group.index, group["ratio_low"], group["ratio_high"], color=colour, lw=2)
    ax.plot(group["ratio"], group.index, "o", color=colour, label=what)
for limit, style in ((0.25, ":"), (0.5, ":"), (1, "-")):
    ax.axvline(limit, color="#555555", lw=1, ls=style)
ax.set(yticks=rows.index, yticklabels=rows["pair"], xlim=(-0.02, None))
ax.set(ylim=(len(rows) - 0.4, -0.6), xlabel="distance / median distance of the comparison set")
_ = figure.legend(ncols=3, fontsize=9, loc="outside upper center")


# %% tags=["hide-input"]
def ratio_of(row):
    """The ratio of a pair, with its interval."""
    return Estimate(row.ratio, row.ratio_low, row.ratio_high)


def change_rows(each):
    return each.pairs[each.pairs["kind"] == "change"]


table = {
    model: {
        f"{row.a} – {row.b}".replace("_samples", ""): str(ratio_of(row))
        for row in change_rows(each).itertuples()
    }
    | {"all pairs (median)": str(each), "by the rule": each.verdict}
    for model, each in found.items()
}
pd.DataFrame(table)

# %% [markdown]
# And each data set against each of the comparison set, in the first network:

# %% tags=["hide-input"]
against = [(name, other) for name in data for other in COMPARED if name != other]
each_against = change_rows(invariance(of_first, against, comparison))
each_against = each_against.assign(
    text=[str(ratio_of(row)) for row in each_against.itertuples()]
).pivot(index="a", columns="b", values="text")
each_against.fillna("–").rename_axis(index=None, columns=None)

# %% [markdown]
# ## Other denominators
#
# The comparison set mixes contents and resolutions: ImageNet pictures are sharp, the others are
# enlarged. So here is the ratio over other sets of pairs: the same three data sets all at the
# resolution of the coarsest of them, and all pairs of the networks above, the first of them also
# untrained, on the first data set.

# %% tags=["hide-input"]
coarsest = min(own_size[name] for name in COMPARED)
coarse = []
for name in COMPARED:
    coarse.append(name if own_size[name] == coarsest else f"{name} (at {coarsest} pixels)")
    if coarse[-1] not in of_first:
        of_first[coarse[-1]] = omega(first, reduced(name, coarsest))
        of_first[coarse[-1]].attrs["dataset"] = coarse[-1]
subject = data[0]
of_networks = {f"in {model}": curves[model][subject] for model in curves}
of_networks[f"in {first} (untrained)"] = omega(
    first, subject, weights="random", image_size=image_size, n_images=n_used[subject]
)
denominators = {
    "the comparison set": comparison,
    f"the same at {coarsest} pixels": list(combinations(coarse, 2)),
    "between networks": list(combinations(of_networks, 2)),
}
besides = {
    name: invariance(of_first | of_networks, claimed, chosen)
    for name, chosen in denominators.items()
}


def median_comparison(each):
    return each.pairs.loc[each.pairs["kind"] == "comparison", "distance"].median()


pd.DataFrame(
    {
        name: {
            "median distance": f"{median_comparison(each):.3f}",
            "ratio of the claimed pairs": str(each),
            "by the rule": each.verdict,
        }
        for name, each in besides.items()
    }
).T

# %% tags=["remove-cell"]
of_pair = {(row.a, row.b): row for row in rows.itertuples()}
as_near = [
    f"{label} to {pair[0]}"
    for pair in claimed
    for label in controls[pair]
    if of_pair[pair].ratio <= 0.5 and of_pair[pair[0], label].ratio <= of_pair[pair].ratio_high
]
circular = [pair for pair in claimed if pair in comparison or pair[::-1] in comparison]
headline = found[first]
alone = change_rows(headline)
verdicts_alone = [invariance_verdict(row.ratio_low, row.ratio_high) for row in alone.itertuples()]
refuted_alone = verdicts_alone.count("not reproduced")
glue(
    first_model=first,
    size=image_size,
    eta=threshold,
    images_used=" to ".join(map(str, sorted({min(n_used.values()), max(n_used.values())}))),
    n_pairs=len(claimed),
    ratio=headline.ratio,
    low=headline.low,
    high=headline.high,
    reproduced_alone=verdicts_alone.count("reproduced"),
    refuted_alone=refuted_alone,
    n_controls=len(controlled),
    n_near=len(as_near),
    near_names="; ".join(as_near) or "none",
    n_circular=len(circular),
    coarsest=coarsest,
)

# %% [markdown]
# ## What it comes to
#
# In {glue:text}`first_model`, with images of {glue:text}`size` pixels at η = {glue:text}`eta` and
# {glue:text}`images_used` images a data set, the median distance of the {glue:text}`n_pairs`
# claimed pairs is {glue:text}`ratio:.2f` [{glue:text}`low:.2f`, {glue:text}`high:.2f`] of that of
# the comparison set. A median can hide pairs that disagree: by the same limits each alone,
# {glue:text}`reproduced_alone` of {glue:text}`n_pairs` pairs would be reproduced and
# {glue:text}`refuted_alone` not reproduced; the table has each pair, in every network.
# ({glue:text}`n_circular` of the pairs belong to the comparison set themselves; the ratio of such a
# pair is drawn towards 1 by construction.)
#
# The control: of {glue:text}`n_controls` sets of images from elsewhere, brought to the same
# resolution, {glue:text}`n_near` lie as near as the data set that is claimed to be similar (the
# pair's ratio is 0.5 or less, and the control's is not above the upper end of the pair's interval):
# {glue:text}`near_names`. Where that happens the curve cannot tell a similar data set from another
# one that is equally blurred, and nearness does not say that data sets are related. Where a control
# stays far away, resolution alone is not enough to make two data sets alike.
#
# The same caution holds for the comparison set: part of what its data sets differ by is sharpness.
# The table above has what is left of it when all pictures are brought to {glue:text}`coarsest`
# pixels.

# %% [markdown]
# ## Verdict
#
# The rule is that of every chapter: *reproduced* when the upper end of the ratio's interval is below
# 0.25, *not reproduced* when its lower end is above 0.5, *reproduced with limits* between. It is
# applied to the median of the pairs in the first network. Three limits go with it, each of which
# turns *reproduced* into *reproduced with limits*: a control as near as the similar data set, a pair
# that alone is not reproduced, another network with another verdict. Nor is it *not reproduced*
# unless all networks say so. Without anything to compare, as where the threshold lies beyond all
# values, it is *inconclusive*.

# %% tags=["hide-input"]
disagreeing = [model for model, each in found.items() if each.verdict != headline.verdict]
limits = []
if as_near:
    limits.append(
        f"images of another data set at the same resolution lie as near ({'; '.join(as_near)}), so "
        "nearness may be one of resolution"
    )
if refuted_alone:
    limits.append(f"{refuted_alone} of {len(claimed)} pairs alone would not be reproduced")
if disagreeing:
    limits.append(f"the verdict is another in {', '.join(disagreeing)}")
verdict = headline.verdict
if (verdict == "reproduced" and limits) or (verdict == "not reproduced" and disagreeing):
    verdict = "reproduced with limits"
if verdict == "inconclusive":
    reason = NOTHING_TO_COMPARE
else:
    reason = (
        f"In {first} the claimed pairs differ by {headline} of what data sets "
        "differ by" + "".join(f"; {limit}" for limit in limits) + "."
    )
numbers = {f"ratio_in_{model}": each for model, each in found.items()}
numbers |= {f"ratio_of_{row.a}_and_{row.b}": ratio_of(row) for row in alone.itertuples()}
numbers |= {
    f"ratio_of_control_{label}_to_{name}": ratio_of(of_pair[name, label])
    for name, label in controlled
}
numbers = {name: number for name, number in numbers.items() if np.isfinite([*number]).all()}
numbers["median_distance_of_the_comparison_set"] = median_comparison(headline)
record_finding(
    claim="One network gives similar data sets the same profile",
    verdict=verdict,
    reason=reason,
    numbers=numbers,
)

# %% [markdown]
# ## What to try next
#
# - A pair for which the claim should fail: `-p pairs '[["cifar100_samples", "mnist_samples"]]'`.
# - Photographs of your own against CIFAR-10: `-p pairs '[["cifar10_samples", "folder:PATH"]]'`.
# - Another threshold: `-p threshold 0.5`. Does Fashion-MNIST come nearer to MNIST?
# - Where there is a network, the whole test sets: `topobook run similar_datasets --preset paper`.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} What the floor takes away
# :label: ex-similar-datasets-1
# ```
#
# A distance between two noisy means is never 0. For the claimed pairs in the first network, put
# side by side the plain distance, the split-half floor, and the distance that is left. Where is the
# floor the larger part?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-similar-datasets-1
# :label: sol-similar-datasets-1
# :class: dropdown
# ```
#
# `profile_distance` gives the plain distance. The squares of the floor and of what is left add up
# to its square, unless the floor is the larger of the two: then nothing is left, and the pair
# cannot be told from two samples of the same thing.

# %%
from topo_utils import profile_distance

pd.DataFrame(
    {
        f"{row.a} – {row.b}": {
            "plain distance": profile_distance(of_first[row.a], of_first[row.b]),
            "floor": row.floor,
            "left": row.distance,
        }
        for row in alone.itertuples()
    }
).T.round(3)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Which likeness is it?
# :label: ex-similar-datasets-2
#
# MNIST and Fashion-MNIST have the same size, no colour, and a black ground. Design the controls
# that tell which of these makes their curves alike or different, if not the things that they show.
# ```
#
# ```{solution} ex-similar-datasets-2
# :label: sol-similar-datasets-2
# :class: dropdown
#
# One property at a time, with the same pictures on both sides where possible, so that the test is
# paired. Size: other pictures brought to 28 × 28 pixels and enlarged again (as the chapter does).
# Colour: photographs made grey, against the same in colour. Ground: the grey level inverted, so
# that the ground is white, or a photograph's background painted black. Each control is divided by
# the same comparison set. If photographs made small, grey and black-grounded lie as near to MNIST
# as Fashion-MNIST does, the likeness is one of format; if not, what they show has a part in it. The
# order matters: a property that is tested last is tested on what the others have left.
# ```
