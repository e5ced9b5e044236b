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
# # Do similar data sets have the same curve?
#
# > we highlight several invariances such as topological invariance of (1) an architecture on similar
# > datasets
# >
# > — the paper's abstract, {cite:t}`suresh2023`

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Distances in the first network.", "name": "fig-similar-datasets-ratios"}, "image": {"alt": "Dot chart of ratios with intervals, one row a pair of data sets: the pairs claimed similar, the controls at reduced resolution and the comparison set in three colours, with dotted lines at 0.25 and 0.5."}} tags=["remove-input"]
place("fig-similar-datasets-ratios")

# %% [markdown]
# You need to know the curve of topological complexity by depth, which {doc}`depth_decay` introduces.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
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
# The distance of two data sets is the root mean square difference of their curves log(1 + mean Ω) on
# relative depth, each minus its own mean: a factor common to all blocks does not count. The median
# distance of the claimed pairs is divided by that of a comparison set fixed beforehand: all pairs of
# CIFAR-10, MNIST and ImageNet samples in the same network.
#
# The interval (95 %) is a bootstrap over images. The difference between two halves of the same images
# is noise and is subtracted. A ratio of 0 means: no difference beyond noise.
#
# The control: pictures of the comparison set that are not in the pair are reduced to the resolution
# of the pair's first data set, enlarged again, and compared with it.

# %% tags=["hide-cell"]
from itertools import chain, combinations

import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
from numpy import inf, isfinite
from PIL import Image

from topo_utils import (
    embedding_profile,
    invariance,
    invariance_verdict,
    normalise,
    open_images,
    profile_distance,
    topological_complexity,
)
from topo_utils.book import fill, record_finding
from topo_utils.distances import NOTHING_TO_COMPARE
from topo_utils.plotting import plot_curves, plot_ratios, use_style

use_style()
COMPARED = ["cifar10_samples", "mnist_samples", "imagenet_samples"]
if any(len(set(pair)) != 2 for pair in pairs):
    raise ValueError(f"pairs are {pairs}; needed: two different data sets")
claimed = [tuple(pair) for pair in pairs]
data = list(dict.fromkeys([*chain(*claimed), *COMPARED]))
n_used = {d: min(n_images or inf, len(open_images(d))) for d in data}


def curve_of(images, model, **options):
    """Omega by image and block, of a data set or of a tensor of images."""
    if isinstance(images, str):
        options |= {"image_size": image_size, "n_images": n_used[images]}
    options |= {"thresholds": threshold, "seed": seed, "progress": False}
    profile = embedding_profile(model, images, **options)
    return topological_complexity(profile).sel(threshold=threshold)


def label_of(a, b):
    return f"{a} – {b}".replace("_samples", "")


# %%
first = models[0]
comparison = list(combinations(COMPARED, 2))
curves = {
    model: {name: curve_of(name, model) for name in data} for model in models
}
found = {
    model: invariance(curves[model], claimed, comparison) for model in models
}
print(found[first])  # distance of the pairs / of the comparison set

# %% [markdown]
# ## Which pair is near, and in which network?

# %% tags=["hide-input"]
pd.DataFrame(
    {
        model: {label_of(*pair): str(each.ratios[pair]) for pair in claimed}
        | {"all pairs (median)": str(each), "by the rule": each.verdict}
        for model, each in found.items()
    }
)

# %% tags=["hide-cell"]
of_first = dict(curves[first])
own_size = {d: min(open_images(d).picture(0).size) for d in data}


def reduced(name, pixels):
    """Measure a data set at few pixels, enlarged again; the name of its curve."""
    label = f"{name} (at {pixels} pixels)"
    if label not in of_first:
        opened = open_images(name, image_size, n_used[name], seed)
        pictures = map(opened.picture, range(len(opened)))
        small = (p.resize((pixels,) * 2, Image.BILINEAR) for p in pictures)
        images = torch.stack([normalise(p, image_size) for p in small])
        of_first[label] = curve_of(images, first)
        of_first[label].attrs["dataset"] = label  # images of their own
    return label


controls = [
    (pair, (pair[0], reduced(name, min(own_size[pair[0]], image_size))))
    for pair in claimed
    for name in COMPARED
    if name not in pair
]
controlled = [control for _, control in controls]
ratios = invariance(of_first, claimed + controlled, comparison).ratios
as_near = [
    f"{b} to {a}"
    for pair, (a, b) in controls
    if ratios[pair].value <= 0.5 and ratios[a, b].value <= ratios[pair].high
]
headline = found[first]
alone = {pair: headline.ratios[pair] for pair in claimed}
verdicts = [invariance_verdict(x.low, x.high) for x in alone.values()]
same, refuted = verdicts.count("reproduced"), verdicts.count("not reproduced")

groups = {"similar": claimed, "blurred": controlled, "comparison": comparison}
figure, ax = plt.subplots()
groups = {
    label: {label_of(*pair): ratios[pair] for pair in group}
    for label, group in groups.items()
}
plot_ratios(ax, groups)
figure.legend(ncols=3, fontsize=9, loc="outside upper center")
plt.close(figure)
fill(
    "fig-similar-datasets-ratios",
    figure,
    caption=f"In {first}, {same} of {len(claimed)} pairs of similar data sets count "
    f"as the same and {refuted} as different; {len(as_near)} of {len(controls)} controls, "
    "other pictures at the same resolution, lie as near. Each distance is divided "
    "by the median of the comparison set. Bars: 95 % intervals over images. "
    "Dotted: the limits of the rule.",
)

# %% tags=["remove-input"]
circular = {*comparison} & {*claimed, *(pair[::-1] for pair in claimed)}
used = " to ".join(
    map(str, sorted({min(n_used.values()), max(n_used.values())}))
)
Markdown(f"""
In `{first}`, with {used} images of {image_size} pixels a data set at η = {threshold:g}, the median
distance of the {len(claimed)} claimed pairs is **{headline}** of that of the comparison set. A median
can hide pairs that disagree. Judged alone by the same limits, {same} of {len(claimed)} pairs would be
reproduced, and {refuted} not reproduced. ({len(circular)} of the pairs belong to the comparison set
themselves, which draws their ratio towards 1.)
""")

# %% [markdown]
# ## Are the pictures alike, or only equally blurred?
#
# CIFAR-10 and CIFAR-100 have 32 × 32 pixels, enlarged to what the network takes. If other pictures
# that are blurred as much lie as near, then nearness does not show that data sets are related.

# %% tags=["remove-input"]
if as_near:
    seen = "Here the curve sees blur, not content."
elif any(ratios[pair].value <= 0.5 for pair in claimed):
    seen = "So resolution alone does not make these data sets alike."
else:
    seen = "No claimed pair is near enough for the question to arise."
Markdown(f"""
Of {len(controls)} sets of other pictures, brought to the same resolution, **{len(as_near)}** lie as
near as the data set that is claimed to be similar: {"; ".join(as_near) or "none"}. {seen} (As near
means: the pair's ratio is at most 0.5, and the control's is not above the upper end of the pair's
interval.)
""")

# %% mystnb={"figure": {"caption": "Topological complexity of every data set in the first network (solid), and of the first pair's controls, images reduced to its resolution and enlarged again (dashed, in the colour of the data set that they come from). The distance ignores a common factor: only shapes count. Bands: one standard error over images.", "name": "fig-similar-datasets-curves"}, "image": {"alt": "Line chart of mean complexity on a logarithmic axis against relative depth in one network: one solid curve a data set, and dashed curves for the images at reduced resolution."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(7.2, 5))
dashed = [b for pair, (_, b) in controls if pair == claimed[0]]
shown = {name: of_first[name] for name in [*data, *dashed]}
plot_curves(ax, shown, dashed=dashed)
_ = ax.legend(ncols=2, fontsize=9)

# %% [markdown]
# ## How near is each data set to the others?
#
# Ratios in the first network: each data set against those of the comparison set.

# %% tags=["hide-input"]
against = [(a, b) for a in data for b in COMPARED if a != b]
each = invariance(of_first, against, comparison).ratios
pd.Series({pair: str(each[pair]) for pair in against}).unstack(fill_value="–")

# %% [markdown]
# ## Does the answer depend on the denominator?
#
# The comparison set mixes contents and resolutions: ImageNet pictures are sharp, the others are
# enlarged. Here is the ratio over two more sets of pairs: the same three data sets, all at the
# resolution of the coarsest; and the networks above, with the first of them also untrained, on the
# first data set.

# %% tags=["hide-input"]
coarsest = min(own_size[name] for name in COMPARED)
coarse = [
    name if own_size[name] == coarsest else reduced(name, coarsest)
    for name in COMPARED
]
networks = {f"in {model}": curves[model][data[0]] for model in curves}
twin = curve_of(data[0], first, weights="random")
networks[f"in {first} (untrained)"] = twin
denominators = {
    "the comparison set": comparison,
    f"the same at {coarsest} pixels": [*combinations(coarse, 2)],
    "between networks": [*combinations(networks, 2)],
}
besides = {
    name: invariance(of_first | networks, claimed, chosen)
    for name, chosen in denominators.items()
}
unit = {
    name: each.pairs.groupby("kind")["distance"].median()["comparison"]
    for name, each in besides.items()
}
pd.DataFrame(
    {
        "median distance": {name: f"{x:.3f}" for name, x in unit.items()},
        "ratio of the claimed pairs": {n: str(e) for n, e in besides.items()},
        "by the rule": {name: each.verdict for name, each in besides.items()},
    }
)

# %% [markdown]
# ## The rule
#
# Fixed beforehand, and the same in every chapter on invariance: *reproduced* when the upper end of
# the ratio's interval is below 0.25, *not reproduced* when its lower end is above 0.5, *reproduced
# with limits* between. It is applied to the median of the pairs in the first network.
#
# Three checks can downgrade *reproduced* to *reproduced with limits*: a control as near as the similar
# data set, a pair that alone is not reproduced, or a network with a different verdict. *Not
# reproduced* needs all networks to agree. Without anything to compare, as where the threshold lies
# beyond all values, it is *inconclusive*.

# %% tags=["hide-cell"]
verdict = headline.verdict
disagreeing = [m for m, each in found.items() if each.verdict != verdict]
limits = {
    "images of another data set at the same resolution lie as near "
    f"({'; '.join(as_near)}), so nearness may be one of resolution": as_near,
    f"{refuted} of {len(claimed)} pairs alone would not be reproduced": refuted,
    f"the verdict differs in {', '.join(disagreeing)}": disagreeing,
}
limits = [limit for limit, there in limits.items() if there]
reason = f"In {first} the claimed pairs lie at {headline} of the distance between dissimilar data sets"
reason = "; ".join([reason, *limits]) + "."
if {"reproduced": limits, "not reproduced": disagreeing}.get(verdict):
    verdict = "reproduced with limits"
if verdict == "inconclusive":
    reason = NOTHING_TO_COMPARE
numbers = (
    {f"ratio_in_{model}": each for model, each in found.items()}
    | {f"ratio_of_{a}_and_{b}": each for (a, b), each in alone.items()}
    | {f"ratio_of_control_{b}_to_{a}": ratios[a, b] for a, b in controlled}
)
record_finding(
    claim="One network gives similar data sets the same profile",
    verdict=verdict,
    reason=reason,
    headline=f"Distance of similar data sets: {headline:.0%} of that between dissimilar ones; "
    "below 25% counts as the same.",
    numbers={n: x for n, x in numbers.items() if isfinite([*x]).all()}
    | {"median_distance_of_the_comparison_set": unit["the comparison set"]},
)

# %% [markdown]
# ## What this does not show
#
# - What larger samples would give: the embedded samples are few images of each data set, and one
#   choice of them.
# - That similar data sets are alike in content: part of what the comparison set differs by is
#   sharpness.
# - What happens at a different threshold: see {doc}`threshold`.

# %% [markdown]
# ## What to try next
#
# - A pair for which the claim should fail: `-p pairs '[["cifar100_samples", "mnist_samples"]]'`.
# - Photographs of your own against CIFAR-10: `-p pairs '[["cifar10_samples", "folder:PATH"]]'`.
# - Another threshold: `-p threshold 0.5`. Does Fashion-MNIST come nearer to MNIST?
# - With an internet connection, the whole test sets: `topobook run similar_datasets --preset paper`.

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
rows = headline.pairs[headline.pairs["kind"] == "change"]
plain = [profile_distance(of_first[a], of_first[b]) for a, b in claimed]
rows = rows.assign(plain=plain).rename(columns={"distance": "left"})
rows[["a", "b", "plain", "floor", "left"]].round(3)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Which likeness is it?
# :label: ex-similar-datasets-2
#
# MNIST and Fashion-MNIST have the same size, no colour, and a black background. Design controls that
# tell whether one of these makes their curves alike, rather than what the pictures show.
# ```
#
# ```{solution} ex-similar-datasets-2
# :label: sol-similar-datasets-2
# :class: dropdown
#
# One property at a time, with the same pictures on both sides where possible, so that the test is
# paired. Size: other pictures brought to 28 × 28 pixels and enlarged again (as the chapter does).
# Colour: photographs made grey, against the same in colour. Background: the grey level inverted, so
# that it is white, or a photograph's background painted black. Each control is divided by the same
# comparison set. If photographs made small and grey, on black, lie as near to MNIST as Fashion-MNIST
# does, the likeness is one of format; if not, what they show has a part in it. The order matters:
# each property is tested on what the ones before it have left.
# ```
