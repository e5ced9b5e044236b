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
# # How many images does it take?
#
# > we highlight several invariances such as topological invariance of [...] (4) data sub-sampling.
# >
# > — the paper's abstract, {cite:t}`suresh2023`

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Relative standard error of mean &Omega; against the number of images.", "name": "fig-subsampling-error"}, "image": {"alt": "Chart on two logarithmic axes: straight falling lines of the law one over the square root of n, with points for random subsamples and the bootstrap, and a second line and points for crops of pictures."}} tags=["remove-input"]
place("fig-subsampling-error")

# %% [markdown]
# That the mean over a random part comes close to the mean over all is the law of large numbers, and no
# discovery. The questions are how close, and whether what a handful of images leaves open is small
# beside what differs between data sets. You need the complexity Ω by block from {doc}`depth_decay`.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from typing import Literal

from topo_utils.book import AtLeast, NonEmpty

# The network: a name that topo_utils.model_names() lists.
model: str = "efficientnet_lite0"
# The images: a name that topo_utils.dataset_names() lists, or folder:PATH.
dataset: str = "mnist_5k"
# How many of them count as all; None takes all there are.
n_images: AtLeast[1] | None = 600
# Height and width to which images are resized, in pixels.
image_size: AtLeast[1] = 96
# The level eta of the sublevel sets, in units of the activations.
threshold: float = 0.0
# Sizes of the subsamples, at least 2 images each.
subsample_sizes: NonEmpty[AtLeast[2]] = [20, 50, 100]
# How many subsamples of each size; no two share an image, and some images must be left over.
repeats: AtLeast[1] = 2
# What the verdict is about: random subsamples, or one that holds a single class (which is unfair).
subsamples: Literal["random", "one class"] = "random"
# The class of the unfair subsample: a label of the data set.
only_class: AtLeast[0] = 1
# Natural pictures, of which random crops are taken: a name as for dataset.
pictures: str = "imagenet_samples"
# How many crops of every picture, at least 2.
crops_per_picture: AtLeast[2] = 10
# Of the draws of images, crops and subsamples, and of the untrained network's weights.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# Disjoint random subsamples are compared with the images in none of them. The **ratio** is the median
# of their distances (`profile_distance`: the shape of log(1 + Ω) along depth, without its level) over
# the median distance between CIFAR-10, MNIST and ImageNet samples, with a bootstrap interval over
# images (95 %; `invariance`).
#
# The level has a law of its own: mean Ω over n images has the standard error σ/√n, where σ is the
# standard deviation of Ω over images. It is given relative to the mean, for the *median* block (half of
# the blocks are worse) and the *worst*.

# %% tags=["hide-cell"]
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
from PIL import ImageOps

from topo_utils import (
    bootstrap,
    embedding_profile,
    invariance,
    invariance_verdict,
    normalise,
    open_images,
    published_table,
    topological_complexity,
)
from topo_utils.book import fill, record_finding
from topo_utils.distances import NOTHING_TO_COMPARE
from topo_utils.plotting import COLOURS, use_style

use_style()
rng = np.random.default_rng(seed)
settings = {"thresholds": threshold, "image_size": image_size, "seed": seed}


def measure(network, images, n=None, weights="pretrained"):
    """Omega by image and block."""
    options = {"n_images": n, "weights": weights, "progress": False}
    profile = embedding_profile(network, images, **settings, **options)
    return topological_complexity(profile).sel(threshold=threshold)


def random_crop(picture):
    """A square part of a picture, and sometimes its mirror image."""
    side = int(rng.uniform(0.5, 1) * min(picture.size))
    left, top = (
        int(rng.integers(length - side + 1)) for length in picture.size
    )
    part = picture.crop((left, top, left + side, top + side))
    return ImageOps.mirror(part) if rng.random() < 0.5 else part


def quotient(above, below):
    """The quotient, 0 where there is nothing to divide by."""
    return above / np.where(below > 0, below, np.inf)


def deviation(values):
    """Standard deviation over mean, by block, of Omega (images, blocks); 0 where all are 0."""
    return quotient(values.std(axis=0, ddof=1), values.mean(axis=0))


def median_error(values, n):
    """Standard error of n images in the median block, in per cent of the mean."""
    return 100 * np.median(deviation(values)) / np.sqrt(n)


def needed(deviation, error=0.01):
    """How many images bring the relative standard error down to `error`."""
    return (deviation / error) ** 2


whole = measure(model, dataset, n_images)
n_whole, values = whole.sizes["image"], whole.values
ends = np.cumsum(np.repeat(subsample_sizes, repeats))
if ends[-1] > n_whole - 2:
    raise ValueError(
        f"{ends[-1]} of {n_whole} images in subsamples; at least 2 must be left over"
    )

opened = open_images(pictures, image_size)
cropped = [
    normalise(random_crop(opened.picture(i)), image_size)
    for i in range(len(opened))
    for _ in range(crops_per_picture)
]
crops = measure(model, torch.stack(cropped)).values
by_picture = crops.reshape(len(opened), crops_per_picture, -1)

counts = np.unique(np.geomspace(5, max(n_whole // 2, 6), 9).astype(int))
counts = counts[counts < n_whole]
observed, reported = [], []  # errors, and what a bootstrap says of them
for n in counts:
    draws = [rng.permutation(n_whole)[:n] for _ in range(300)]
    means = np.stack([values[draw].mean(axis=0) for draw in draws])
    off = means - values.mean(axis=0)
    error = quotient(np.sqrt((off**2).mean(axis=0)), values.mean(axis=0))
    # Of n_whole images without repetition: the part of the error that a finite whole hides.
    observed.append(100 * np.median(error) / np.sqrt(1 - n / n_whole))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=300) / n
    boots = [weights @ values[draw] for draw in draws[:20]]
    errors = [quotient(boot.std(axis=0), boot.mean(axis=0)) for boot in boots]
    reported.append(100 * np.median(errors, axis=1).mean())
cost = bootstrap(
    lambda images: np.median(deviation(values[images])),
    n_whole,
    n_bootstrap=500,
    seed=rng,
).map(needed)

data = ("cifar10_samples", "mnist_samples", "imagenet_samples")
curves = {name: measure(model, name) for name in data}
between_data = list(combinations(data, 2))
one_class = {}  # each class against all others; fewer than five images show nothing
labels = np.zeros(n_whole)
if "label" in whole.coords:
    labels = whole["label"].values
for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
    if 5 <= count <= n_whole - 5:
        pair = f"only class {label} ({count})", f"all but class {label}"
        curves[pair[0]] = whole.isel(image=labels == label)
        curves[pair[1]] = whole.isel(image=labels != label)
        one_class[int(label)] = pair
if subsamples == "one class" and only_class not in one_class:
    raise ValueError(f"only_class is {only_class}; accepted: {[*one_class]}")
names = [
    f"{n} at random ({i + 1})"
    for n in subsample_sizes
    for i in range(repeats)
]

# %%
parts = np.split(rng.permutation(n_whole), ends)
for name, part in zip([*names, "the rest"], parts, strict=True):
    curves[name] = whole.isel(image=np.sort(part))
random = [(name, "the rest") for name in names]
judged = random if subsamples == "random" else [one_class[only_class]]
ruling = invariance(curves, judged, between_data, seed=seed)
print(ruling)

# %% tags=["hide-cell"]
each = np.arange(1, crops_per_picture + 1)
n_crops = len(opened) * each
independent = median_error(crops, n_crops)
clustered = [
    median_error(by_picture[:, :k].mean(axis=1), len(opened)) for k in each
]
law = np.array([counts[0], n_whole])
median = median_error(values, law)
worst = 100 * deviation(values).max() / np.sqrt(law)
figure, ax = plt.subplots(figsize=(7.2, 4.8))
ax.plot(law, median, color=COLOURS[0], label=f"{dataset}: law σ/√n")
ax.plot(law, worst, "--", color=COLOURS[0], label="the same, worst block")
ax.plot(counts, observed, "o", color=COLOURS[0], label="random subsamples")
ax.plot(counts, reported, "x", color="black", ms=8, label="bootstrap says")
label = f"crops of {len(opened)} pictures: as if independent"
ax.plot(n_crops, independent, color=COLOURS[1], label=label)
ax.plot(
    n_crops, clustered, ".", color=COLOURS[1], label="the same, by picture"
)
ax.set(xscale="log", yscale="log", xlabel="number of images")
ax.set_ylabel("relative standard error (%)")
ticks = [digit * 10.0**power for power in range(-1, 4) for digit in (1, 2, 5)]
for axis in (ax.xaxis, ax.yaxis):
    axis.set_major_locator(plt.FixedLocator(ticks))
    axis.set_minor_locator(plt.NullLocator())
    axis.set_major_formatter("{x:,g}")
figure.legend(fontsize=9, ncols=2, loc="outside upper left")
plt.close(figure)
fill(
    "fig-subsampling-error",
    figure,
    caption=f"An error of 1 % in the median block takes {cost:.0f} images of {dataset}. "
    "Blue: the law from all images (solid: median block, dashed: worst), and the error that random "
    "subsamples really have; black: what a bootstrap of the subsample alone reports. Orange: crops "
    "of the pictures, as if all were independent (line) and counted by picture (dots).",
)

# %% [markdown]
# ## What do 5, 2 and 1 % cost?
#
# The number of images that brings the standard error of mean Ω down to 5, 2 and 1 % in the median
# block, and to 1 % in the worst. For crops the unit is a picture, with all its crops. The nine
# published networks are predicted from the standard deviations that come with their means over
# 2,000 CIFAR-10 images.

# %% tags=["hide-input"]
table = published_table("suresh2023_cifar10_betti")
published = {
    name: (rows["omega_std_over_images"] / rows["omega_mean"]).to_numpy()
    for name, rows in table.groupby("model", sort=False)
}
deviations = {
    f"{model}: {dataset}": deviation(values),
    f"{model}: {pictures}": deviation(measure(model, pictures).values),
    f"{model}: crops, in pictures": deviation(by_picture.mean(axis=1)),
} | {
    f"{name}: CIFAR-10 (published)": found
    for name, found in published.items()
}
errors = np.array([0.05, 0.02, 0.01])
costs = {
    label: [*needed(np.median(found), errors), needed(found.max())]
    for label, found in deviations.items()
}
table = pd.DataFrame(costs, index=["5 %", "2 %", "1 %", "1 %, worst block"])
np.ceil(table).T.map("{:,.0f}".format)

# %% tags=["remove-input"]
low, *_, high = sorted(np.median(found) for found in published.values())
Markdown(f"""
On {n_whole} images of `{dataset}` at {image_size} pixels in `{model}`, η = {threshold:g}, an error of
1 % in the median block costs **{cost:.0f} images**. Twenty images carry
{median_error(values, 20):.1f} % in the median block and
{100 * deviation(values).max() / np.sqrt(20):.1f} % in the worst: smaller differences of mean Ω say nothing. At {counts[0]} images the law says
{median[0]:.1f} %, random subsamples are off by {observed[0]:.1f} %, and the bootstrap reports
{reported[0]:.1f} %: of so few images it sees too little of their spread, by a factor of √(1 − 1/n) in
σ, and more where Ω is skewed.

The published standard deviations (their threshold is not recorded) predict errors of
{100 * low / np.sqrt(20):.1f} to {100 * high / np.sqrt(20):.1f} % at 20 images for the median blocks of the
{len(published)} networks, {np.ceil(needed(low)):.0f} to {np.ceil(needed(high)):.0f} images for 1 %, and
at most {100 * high / np.sqrt(2000):.2f} % for the 2,000 that the authors used.
""")

# %% [markdown]
# ## Do crops make more images?
#
# Where pictures are few, random crops (50 to 100 % of the shorter side, mirrored half of the time) make
# more images, but not more pictures: two crops of one picture are alike. Their error is taken over
# pictures (a cluster estimate).

# %% tags=["remove-input"]
worth = quotient(independent[-1], clustered[-1]) ** 2 * len(crops)
Markdown(f"""
Taken as independent, the {len(crops)} crops of {len(opened)} pictures would have an error of
{independent[-1]:.1f} %. Counted by picture it is **{clustered[-1]:.1f} %**, what {worth:.0f} independent
crops would give. More crops of the same pictures cannot go below the error that the pictures themselves
leave.
""")

# %% [markdown]
# ## Does the rule notice an unfair sample?
#
# Each random subsample against the rest, each single class against all other classes, and one half of
# the cropped pictures against the other. A ratio of 0 means: no difference beyond noise; the upper end
# of its interval is what the test could have overlooked. *Beyond noise* asks only whether the interval
# leaves 0 out.

# %% tags=["hide-input"]
# Pictures are what is drawn: every one counts with the mean of its crops.
halves = ("one half of the pictures", "the other half")
curves |= zip(
    halves, np.split(by_picture.mean(axis=1), [len(opened) // 2]), strict=True
)
pairs = [*random, *one_class.values(), halves]
ratios = invariance(curves, pairs, between_data, seed=seed).ratios
found = pd.Series({a: ratios[a, b] for a, b in pairs})
table = pd.DataFrame(
    {
        "ratio": found,
        "by the rule": [
            invariance_verdict(each.low, each.high) for each in found
        ],
        "beyond noise": ["yes" if each.low > 0 else "no" for each in found],
    }
)
table

# %% tags=["remove-input"]
networks = [f"efficientnet_lite{i}" for i in range(3)]
curves |= {
    name: measure(name, dataset, min(20, n_whole)) for name in networks
}
curves["untrained"] = measure(
    networks[0], dataset, min(20, n_whole), "random"
)
between_networks = list(combinations([*networks, "untrained"], 2))
over_networks = invariance(curves, judged, between_networks, seed=seed)
fair, unfair = table.loc[names], table.loc[[a for a, _ in one_class.values()]]
rules = unfair["by the rule"].tolist()
passing = rules.count("reproduced")
Markdown(f"""
Of {len(random)} random subsamples {(fair["beyond noise"] == "yes").sum()} differ from the rest beyond
noise; the highest upper end of an interval is **{max(each.high for each in fair["ratio"]):.2f}** of the
distance between data sets. Half of the cropped pictures against the other half gives {ratios[halves]}.

Of {len(one_class)} single classes **{(unfair["beyond noise"] == "yes").sum()}** differ from the
rest beyond noise; the rule withholds *reproduced* from **{len(rules) - passing}** and says *not
reproduced* to {rules.count("not reproduced")}. It asks whether a difference is small beside that
between data sets, so an unfair sample can be wrong well beyond its error bar and still pass.

Divided by a different unit, the median distance between Lite0, Lite1, Lite2 and an untrained Lite0 on
`{dataset}`, the ratio of the verdict (subsamples: {subsamples}) is {over_networks}.
""")

# %% [markdown]
# ## The rule
#
# Fixed beforehand, and the same in every chapter on invariance: *reproduced* when the upper end of the
# ratio's interval is below 0.25, *not reproduced* when its lower end is above 0.5, *reproduced with
# limits* between; *inconclusive* without anything to compare, as where the threshold lies beyond all
# values. The ratio is the median distance of the subsamples from the rest, over the median distance
# between data sets.

# %% tags=["hide-cell"]
which = f"A subsample of class {only_class} alone differs"
if subsamples == "random":
    which = f"Random subsamples of {', '.join(map(str, subsample_sizes))} images differ"
reason, headline = NOTHING_TO_COMPARE, ""
passed = f", and the rule would let {passing} of {len(rules)} single classes pass as the whole"
if ruling.verdict != "inconclusive":
    reason = (
        f"{which} from the other images by {ruling} of the distance between data sets; with 20 images "
        f"the standard error of mean Ω is {median_error(values, 20):.1f} % (median block)"
        f"{passed if rules else ''}."
    )
    headline = (
        f"{100 * ruling.ratio:.0f} % of the distance between data sets; below 25 % counts as the same. "
        f"An error of 1 % takes {cost:.0f} images."
    )
numbers = {
    "distance_of_subsamples_over_data_sets": ruling,
    "same_over_networks": over_networks,
    "images_for_1_percent": cost,
    "halves_of_the_pictures_over_data_sets": ratios[halves],
} | {
    f"only_class_{label}_over_data_sets": ratios[pair]
    for label, pair in one_class.items()
}
record_finding(
    claim="Ω by block of a part of the images is that of all of them",
    verdict=ruling.verdict,
    reason=reason,
    headline=headline,
    numbers={
        name: number
        for name, number in numbers.items()
        if np.isfinite([*number]).all()
    },
)

# %% [markdown]
# ## What this does not show
#
# - That a sample is fair: the rule is coarser than the data, as the single classes show.
# - That the intervals of the smallest subsamples are wide enough: a bootstrap of a few images sees too
#   little of their spread.
# - How it is in a different network, at a different threshold, or with different subsamples: there is
#   one of each.

# %% [markdown]
# ## What to try next
#
# - An unfair subsample: `-p subsamples "one class" -p image_size 64 -p threshold -1`.
# - Fewer and smaller: `-p subsample_sizes "[5, 10]" -p repeats 5`.
# - Other images: `-p dataset digits`, or `folder:PATH` with a folder for each class.
# - With an internet connection, the paper's own: `topobook run subsampling_invariance --preset paper`.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} Enough images to tell two data sets apart
# :label: ex-subsampling-invariance-1
# ```
#
# Mean Ω of two data sets differs by 2 % in a block. How many images of each does it take until an
# interval (95 %) of the difference leaves 0 out, if both scatter like the median block of the data
# set above? And how many if the two sides are the same images, before and after a change, whose
# differences scatter a third as much?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-subsampling-invariance-1
# :label: sol-subsampling-invariance-1
# :class: dropdown
# ```
#
# The difference of two independent means has twice the variance of one, and the interval reaches
# 1.96 standard errors to each side. Paired, the standard error is that of the differences, once.

# %%
spread, effect = float(np.median(deviation(values))), 0.02
unpaired = 2 * (1.96 * spread / effect) ** 2
paired = (1.96 * (spread / 3) / effect) ** 2
pd.DataFrame(
    {"images a side": [int(np.ceil(unpaired)), int(np.ceil(paired))]},
    index=["unpaired", "paired"],
)

# %% [markdown]
# This is where the interval just touches 0 on average, so that half of all such studies would miss
# the difference; to find it four times in five takes (1.96 + 0.84)² / 1.96² times as many, about
# twice.
#
# ```{solution-end}
# ```
#
# ```{exercise} More crops of the same pictures
# :label: ex-subsampling-invariance-2
#
# Ω of a crop varies between pictures with variance a and between crops of one picture with variance
# b. What is the variance of the mean over P pictures with K crops each? To what does it fall when K
# grows, and what is the best use of a budget of P × K crops?
# ```
#
# ```{solution} ex-subsampling-invariance-2
# :label: sol-subsampling-invariance-2
# :class: dropdown
#
# a / P + b / (P K). With many crops it falls to a / P and no further: the pictures themselves are a
# sample, and crops do not add to them. For a fixed number of crops P K the second term is fixed and
# the first is least with K = 1: one crop of as many pictures as there are. More crops are worth
# their cost only where pictures are scarce and b is large beside a. To take all P K crops as
# independent claims (a + b) / (P K), which is too small whenever K > 1 and a > 0.
# ```
