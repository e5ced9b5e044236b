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
# # How many images it takes
#
# The claim, in the words of the paper's abstract {cite}`suresh2023`: "we highlight several
# invariances such as topological invariance of [...] (4) data sub-sampling."
#
# That the mean over a random part of the images comes close to the mean over all of them is the
# law of large numbers, and no discovery. What can be asked is how close: how many images buy an
# error of 5, 2 or 1 %, and is what a handful leaves open small beside what differs between data
# sets (all pairs of CIFAR-10, MNIST and ImageNet samples, in the same network and size)? And a
# part that is *not* random: does the same rule notice it?
#
# This page is a notebook: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters
#
# This page is a notebook, run from its source with the values below. To see it with others, type
# for instance
#
# ```
# topobook run subsampling_invariance -p image_size 64 -p subsample_sizes "[5, 10, 20]"
# ```

# %% tags=["parameters"]
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
# Mean Ω at a block over n images has the standard error σ/√n, where σ is the standard deviation of
# Ω over images. It is given relative to the mean, and summed up over blocks by the *median* block
# (half of the blocks are worse) and the *worst* one. Beside this law stand the error that random
# subsamples really have, and the error that a bootstrap reports to somebody who has only the
# subsample.
#
# For natural pictures there are few; random crops (50 to 100 % of the shorter side, mirrored half
# of the time) make more images, but not more pictures: two crops of one picture are alike. Their
# error is taken over pictures (a cluster estimate), and beside it the one that would hold if all
# crops were independent.

# %%
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from PIL import ImageOps

from topo_utils import (
    Estimate,
    bootstrap,
    embedding_profile,
    invariance,
    invariance_verdict,
    normalise,
    open_images,
    published_table,
    topological_complexity,
)
from topo_utils.book import glue, record_finding
from topo_utils.distances import NOTHING_TO_COMPARE
from topo_utils.plotting import COLOURS, use_style

use_style()
rng = np.random.default_rng(seed)


def measure(network, images, n_images=None, weights="pretrained"):
    """Omega by image and block."""
    profile = embedding_profile(
        network,
        images,
        thresholds=threshold,
        n_images=n_images,
        image_size=image_size,
        weights=weights,
        seed=seed,
        progress=False,
    )
    return topological_complexity(profile).sel(threshold=threshold)


def random_crop(picture):
    """A square part of a picture, and sometimes its mirror image."""
    side = int(rng.uniform(0.5, 1) * min(picture.size))
    left, top = (int(rng.integers(length - side + 1)) for length in picture.size)
    part = picture.crop((left, top, left + side, top + side))
    return ImageOps.mirror(part) if rng.random() < 0.5 else part


whole = measure(model, dataset, n_images)
n_whole = whole.sizes["image"]
n_used = repeats * sum(subsample_sizes)
if min(subsample_sizes, default=0) < 2 or repeats < 1 or n_used > n_whole - 2:
    raise ValueError(
        f"{repeats} subsamples each of sizes {subsample_sizes} out of {n_whole} images: needed are "
        "sizes of at least 2, and at least 2 images left over"
    )
if crops_per_picture < 2:
    raise ValueError(f"crops_per_picture is {crops_per_picture}; at least 2 are needed")

opened = open_images(pictures, image_size)
natural = measure(model, pictures)
crops = measure(
    model,
    torch.stack(
        [
            normalise(random_crop(opened.picture(i)), image_size)
            for i in range(len(opened))
            for _ in range(crops_per_picture)
        ]
    ),
)
crops = crops.values.reshape(len(opened), crops_per_picture, -1)  # (pictures, crops, blocks)


def relative_deviation(values):
    """Standard deviation over mean, by block, of Omega (images, blocks); 0 where all are 0."""
    return quotient(values.std(axis=0, ddof=1), values.mean(axis=0))


def quotient(above, below):
    """The quotient, 0 where there is nothing to divide by."""
    return np.divide(above, below, out=np.zeros(np.shape(below)), where=np.asarray(below) > 0)


# %% [markdown]
# ## The error against the number of images

# %% mystnb={"figure": {"caption": "Relative standard error of mean &Omega; against the number of images. Blue: the data set; the law from all images (solid: median block, dashed: worst block), the error of random subsamples, and the error that a bootstrap of the subsample reports (both: median block). Orange: crops of the pictures, as if all were independent (line) and counted by picture (dots).", "name": "fig-subsampling-error"}, "image": {"alt": "Chart on two logarithmic axes: straight falling lines of the law one over the square root of n, with points for random subsamples and the bootstrap, and a second line and points for crops of pictures."}} tags=["hide-input"]
deviation = relative_deviation(whole.values)


def relative_error(means):
    """Root mean square error, by block, of means (draws, blocks), over the mean of all images."""
    of_all = whole.values.mean(axis=0)
    return quotient(np.sqrt(((means - of_all) ** 2).mean(axis=0)), of_all)


counts = np.unique(np.geomspace(5, max(n_whole // 2, 6), 9).astype(int))
counts = counts[counts < n_whole]
observed, reported = [], []
for n in counts:
    draws = [rng.permutation(n_whole)[:n] for _ in range(300)]
    means = np.stack([whole.values[draw].mean(axis=0) for draw in draws])
    off = relative_error(means)
    # Of n_whole images without repetition: the part of the error that a finite whole hides.
    observed.append(np.median(off) / np.sqrt(1 - n / n_whole))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=300) / n
    boots = [weights @ whole.values[draw] for draw in draws[:20]]
    errors = [quotient(boot.std(axis=0), boot.mean(axis=0)) for boot in boots]
    reported.append(np.median(errors, axis=1).mean())

n_crops = len(crops) * np.arange(1, crops_per_picture + 1)
as_if_independent = np.median(relative_deviation(crops.reshape(-1, crops.shape[-1])))
by_picture = [
    np.median(relative_deviation(crops[:, :k].mean(axis=1))) / np.sqrt(len(crops))
    for k in range(1, crops_per_picture + 1)
]

figure, ax = plt.subplots(figsize=(7.2, 4.8))
law = np.array([counts[0], n_whole])
percent = 100 / np.sqrt(law)
ax.plot(law, np.median(deviation) * percent, color=COLOURS[0], label=f"{dataset}: law σ/√n")
ax.plot(law, deviation.max() * percent, "--", color=COLOURS[0], label="the same, worst block")
ax.plot(counts, 100 * np.array(observed), "o", color=COLOURS[0], label="random subsamples")
ax.plot(counts, 100 * np.array(reported), "x", color="black", ms=8, label="bootstrap says")
ax.plot(
    n_crops,
    100 * as_if_independent / np.sqrt(n_crops),
    color=COLOURS[1],
    label=f"crops of {len(crops)} pictures: as if independent",
)
ax.plot(n_crops, 100 * np.array(by_picture), ".", color=COLOURS[1], label="the same, by picture")
ax.set(xscale="log", yscale="log", xlabel="number of images", ylabel="relative standard error (%)")
for axis, ticks in (
    (ax.xaxis, [5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]),
    (ax.yaxis, [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]),
):
    axis.set_major_locator(plt.FixedLocator(ticks))
    axis.set_minor_locator(plt.NullLocator())
    axis.set_major_formatter("{x:,g}")
_ = figure.legend(fontsize=9, ncols=2, loc="outside upper left")

# %% [markdown]
# ## What 1, 2 and 5 % cost
#
# The number of images that brings the standard error of mean Ω down to 5, 2 and 1 % in the median
# block, and to 1 % in the worst. For the crops the unit is a picture, with all its crops. The nine
# published networks are predicted from the standard deviations that come with their means over
# 2,000 CIFAR-10 images.

# %% tags=["hide-input"]
table = published_table("suresh2023_cifar10_betti")
published = {
    name: (rows["omega_std_over_images"] / rows["omega_mean"]).to_numpy()
    for name, rows in table.groupby("model", sort=False)
}
deviations = {
    f"{model}: {dataset}": deviation,
    f"{model}: {pictures}": relative_deviation(natural.values),
    f"{model}: crops, in pictures": relative_deviation(crops.mean(axis=1)),
} | {f"{name}: CIFAR-10 (published)": found for name, found in published.items()}


def needed(deviation, error):
    """How many images bring the relative standard error down to `error`."""
    return int(np.ceil((deviation / error) ** 2))


pd.DataFrame(
    {
        label: {
            "σ / mean": f"{100 * np.median(found):.0f} %",
            "5 %": f"{needed(np.median(found), 0.05):,}",
            "2 %": f"{needed(np.median(found), 0.02):,}",
            "1 %": f"{needed(np.median(found), 0.01):,}",
            "1 %, worst": f"{needed(found.max(), 0.01):,}",
        }
        for label, found in deviations.items()
    }
).T

# %% tags=["remove-cell"]


def images_for_one_percent(deviation):
    return (deviation / 0.01) ** 2


cost = bootstrap(
    lambda images: np.median(relative_deviation(whole.values[images])),
    n_whole,
    n_bootstrap=500,
    seed=rng,
).map(images_for_one_percent)
median_published = [np.median(found) for found in published.values()]
glue(
    n_whole=n_whole,
    images_name=dataset,
    model_name=model,
    eta=threshold,
    size=image_size,
    cost=cost.value,
    cost_low=cost.low,
    cost_high=cost.high,
    error_20=100 * np.median(deviation) / np.sqrt(20),
    error_20_worst=100 * deviation.max() / np.sqrt(20),
    error_law=100 * np.median(deviation) / np.sqrt(counts[0]),
    error_observed=100 * observed[0],
    error_reported=100 * reported[0],
    fewest=int(counts[0]),
    n_pictures=len(crops),
    n_crops=len(crops) * crops_per_picture,
    crops_naive=100 * as_if_independent / np.sqrt(n_crops[-1]),
    crops_clustered=100 * by_picture[-1],
    crops_worth=quotient(as_if_independent, by_picture[-1]).item() ** 2,
    published_20_low=100 * min(median_published) / np.sqrt(20),
    published_20_high=100 * max(median_published) / np.sqrt(20),
    published_1_low=needed(min(median_published), 0.01),
    published_1_high=needed(max(median_published), 0.01),
    published_2000=100 * max(median_published) / np.sqrt(2000),
    n_published=len(published),
)

# %% [markdown]
# On {glue:text}`n_whole` images of {glue:text}`images_name` at {glue:text}`size` pixels in
# {glue:text}`model_name`, η = {glue:text}`eta`, an error of 1 % in the median block costs
# {glue:text}`cost:.0f` images [{glue:text}`cost_low:.0f`, {glue:text}`cost_high:.0f`]. Twenty images
# carry {glue:text}`error_20:.1f` % in the median block and {glue:text}`error_20_worst:.1f` % in the
# worst: differences of mean Ω below that say nothing. At {glue:text}`fewest` images the law says
# {glue:text}`error_law:.1f` %, random subsamples are off by {glue:text}`error_observed:.1f` %, and
# the bootstrap reports {glue:text}`error_reported:.1f` % (of so few images it sees too little of
# their spread, by a factor of √(1 − 1/n) in σ and more where Ω is skewed).
#
# The published standard deviations (their threshold is not recorded) predict errors of
# {glue:text}`published_20_low:.1f` to {glue:text}`published_20_high:.1f` % at 20 images for the
# median blocks of the {glue:text}`n_published` networks, {glue:text}`published_1_low` to
# {glue:text}`published_1_high` images for 1 %, and at most {glue:text}`published_2000:.2f` % for the
# 2,000 that the authors used.
#
# The {glue:text}`n_crops` crops come from {glue:text}`n_pictures` pictures. Taken as independent
# they would have an error of {glue:text}`crops_naive:.1f` %; counted by picture it is
# {glue:text}`crops_clustered:.1f` %, what {glue:text}`crops_worth:.0f` independent crops would give.
# More crops of the same pictures cannot go below the error that the pictures themselves leave.

# %% [markdown]
# ## Part against rest
#
# Disjoint random subsamples against the images in none of them, each single class against all other
# classes, and one half of the natural pictures against the other: the distance
# (`profile_distance`, on log(1 + Ω), less its own mean) over the median distance between data sets,
# with a bootstrap interval over images (95 %; `invariance`). It compares the shape of the curves and
# leaves out their level, which the standard errors above are about.

# %% tags=["hide-input"]
data = {
    name: measure(model, name) for name in ("cifar10_samples", "mnist_samples", "imagenet_samples")
}
lites = [f"efficientnet_lite{i}" for i in range(3)]
networks = {name: measure(name, dataset, min(20, n_whole)) for name in lites}
networks["untrained"] = measure(lites[0], dataset, min(20, n_whole), weights="random")
curves = data | networks
comparisons = {
    "data sets": list(combinations(data, 2)),
    "networks": list(combinations(networks, 2)),
}

order, start, random = rng.permutation(n_whole), 0, []
curves["the rest"] = whole.isel(image=np.sort(order[n_used:]))
for n in subsample_sizes:
    for i in range(repeats):
        name = f"{n} at random ({i + 1})"
        curves[name] = whole.isel(image=np.sort(order[start : start + n]))
        random.append((name, "the rest"))
        start += n

one_class = {}  # each class against all others; fewer than five images show nothing
labels = whole.coords["label"].values if "label" in whole.coords else np.zeros(n_whole)
for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
    if 5 <= count <= n_whole - 5:
        pair = f"only class {label} ({count})", f"all but class {label}"
        curves[pair[0]] = whole.isel(image=labels == label)
        curves[pair[1]] = whole.isel(image=labels != label)
        one_class[int(label)] = pair
if subsamples == "one class" and only_class not in one_class:
    raise ValueError(
        f"only_class is {only_class}; classes with at least 5 of the {n_whole} images: "
        f"{', '.join(map(str, one_class)) or 'none'}"
    )

# Pictures are what is drawn: every one counts with the mean of its crops.
half = len(crops) // 2
curves["one half of the pictures"] = crops[:half].mean(axis=1)
curves["the other half"] = crops[half:].mean(axis=1)

judged = random if subsamples == "random" else [one_class[only_class]]
pairs = [*random, *one_class.values(), ("one half of the pictures", "the other half")]
single = invariance(curves, pairs, comparisons["data sets"], seed=seed).pairs
single = single[single["kind"] == "change"].set_index("a")
found = {
    name: invariance(curves, judged, against, seed=seed) for name, against in comparisons.items()
}
ruling = found["data sets"]


columns = ["ratio", "ratio_low", "ratio_high"]
pd.DataFrame(
    {
        "ratio": [str(Estimate(*row)) for row in single[columns].to_numpy()],
        "by the rule": [
            invariance_verdict(low, high) for low, high in single[columns[1:]].to_numpy()
        ],
        "beyond noise": ["yes" if low > 0 else "no" for low in single["low"]],
    },
    index=single.index.rename(None),
)

# %% [markdown]
# A distance has the noise of both sides subtracted, and 0.00 means that nothing was left of it; the
# upper end of the interval is what the test could have overlooked. *Beyond noise* asks only whether
# the interval of the distance leaves 0 out. What the verdict is about, by what it is divided by
# (the rule uses the first row; the second divides by the median distance between Lite0, Lite1, Lite2
# and an untrained Lite0 on the data set):

# %% tags=["hide-input"]
pd.DataFrame(
    {
        f"median ratio, {subsamples}": {
            f"between {against}": str(result) for against, result in found.items()
        }
    }
)

# %% tags=["remove-cell"]
unfair = single.loc[[a for a, _ in one_class.values()]]
fair = single.loc[[a for a, _ in random]]
by_crops = single.loc["one half of the pictures"]
noticed = [
    invariance_verdict(low, high) != "reproduced" for low, high in unfair[columns[1:]].to_numpy()
]
glue(
    n_random=len(random),
    random_beyond=int((fair["low"] > 0).sum()),
    random_highest=fair["ratio_high"].max(),
    n_classes=len(one_class),
    classes_beyond=int((unfair["low"] > 0).sum()),
    classes_noticed=sum(noticed),
    classes_refused=int((unfair["ratio_low"] > 0.5).sum()),
    crops_ratio=by_crops["ratio"],
    crops_low=by_crops["ratio_low"],
    crops_high=by_crops["ratio_high"],
)

# %% [markdown]
# Of {glue:text}`n_random` random subsamples {glue:text}`random_beyond` differ from the rest beyond
# noise; the highest upper end of an interval is {glue:text}`random_highest:.2f` of the distance between
# data sets. For the cropped pictures, half of them against the other half, each
# with all its crops, the ratio is {glue:text}`crops_ratio:.2f` [{glue:text}`crops_low:.2f`,
# {glue:text}`crops_high:.2f`].
#
# The negative: subsamples of one class against all other classes. There are {glue:text}`n_classes`
# classes with at least five images; {glue:text}`classes_beyond` differ beyond noise, the rule
# withholds *reproduced* from {glue:text}`classes_noticed` and says *not reproduced* to
# {glue:text}`classes_refused`. Where the first number is larger than the second, the rule is
# coarser than the data: it asks whether a difference is small beside that between data sets, and
# an unfair sample can be wrong well beyond its error bar and still pass.
#
# The limits: one network, one threshold, one draw of subsamples. A bootstrap of a few images sees
# too little of their spread (above), so the intervals of the smallest subsamples are too narrow.

# %% [markdown]
# ## Verdict
#
# The rule, the same in every chapter on invariance: *reproduced* when the upper end of the ratio's
# interval is below 0.25, *not reproduced* when its lower end is above 0.5, *reproduced with limits*
# between; *inconclusive* without anything to compare, as where the threshold lies beyond all values.
# The ratio is the median distance of the subsamples from the rest, over the median distance between
# data sets.

# %% tags=["hide-input"]
which = (
    f"Random subsamples of {', '.join(map(str, subsample_sizes))} images differ"
    if subsamples == "random"
    else f"A subsample of class {only_class} alone differs"
)
passed = ""
if noticed:
    passing = len(noticed) - sum(noticed)
    passed = (
        f", and the rule would let {passing} of {len(noticed)} single classes pass as the whole"
    )
if ruling.verdict == "inconclusive":
    reason = NOTHING_TO_COMPARE
else:
    reason = (
        f"{which} from the other images by {ruling} of the distance between "
        f"data sets; with 20 images the standard error of mean Ω is "
        f"{100 * np.median(deviation) / np.sqrt(20):.1f} % (median block){passed}."
    )
numbers = {
    "distance_of_subsamples_over_data_sets": ruling,
    "same_over_networks": found["networks"],
    "images_for_1_percent": cost,
    "halves_of_the_pictures_over_data_sets": Estimate(*by_crops[columns]),
} | {
    f"only_class_{label}_over_data_sets": Estimate(*single.loc[a, columns])
    for label, (a, _) in one_class.items()
}
record_finding(
    claim="Ω by block of a part of the images is that of all of them",
    verdict=ruling.verdict,
    reason=reason,
    numbers={name: number for name, number in numbers.items() if np.isfinite([*number]).all()},
)

# %% [markdown]
# ## What to try next
#
# - An unfair subsample: `-p subsamples "one class" -p image_size 64 -p threshold -1`.
# - Fewer and smaller: `-p subsample_sizes "[5, 10]" -p repeats 5`.
# - Other images: `-p dataset digits`, or `folder:PATH` with a folder for each class.
# - Where there is a network, the paper's own: `topobook run subsampling_invariance --preset paper`.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} Enough images to tell two data sets apart
# :label: ex-subsampling-invariance-1
# ```
#
# Mean Ω of two data sets differs by 2 % in a block. How many images of each does it take until a
# 95 % interval of the difference leaves 0 out, if both scatter like the median block of the data set
# above? And how many if the two sides are the same images, before and after a change, whose
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
spread, effect = float(np.median(deviation)), 0.02
unpaired = 2 * (1.96 * spread / effect) ** 2
paired = (1.96 * (spread / 3) / effect) ** 2
pd.DataFrame(
    {"images a side": [int(np.ceil(unpaired)), int(np.ceil(paired))]}, index=["unpaired", "paired"]
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
