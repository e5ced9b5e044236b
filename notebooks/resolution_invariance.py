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
# # The size of the input
#
# The claim, in the words of the paper's abstract {cite}`suresh2023`: "we highlight several
# invariances such as topological invariance of [...] (3) embedding space to input
# resolution/size".
#
# The numbers themselves cannot be invariant: a larger picture makes larger volumes, with room for
# more components, tunnels and cavities. What may be invariant is the *normalised* curve: the shape
# of Ω along depth, whatever its level. So the question is: do two sizes of the same pictures give
# curves of one shape? The distance between sizes is compared with the distance between networks
# (all pairs of EfficientNet-Lite0, Lite1, Lite2 and an untrained Lite0, at one size), which should
# differ.
#
# This page is a notebook: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters
#
# This page is a notebook, run from its source with the values below. To see it with others, type
# for instance
#
# ```
# topobook run resolution_invariance -p dataset cifar10_samples -p threshold 0.5
# ```

# %% tags=["parameters"]
from topo_utils.book import AtLeast, NonEmpty

# The networks: names that topo_utils.model_names() lists.
models: NonEmpty[str] = ["efficientnet_lite0", "efficientnet_lite1"]
# The images that the verdict is about: a name that topo_utils.dataset_names() lists, or folder:PATH.
dataset: str = "imagenet_samples"
# Small images, which every size enlarges: the control, measured with the first network.
small_images: str = "cifar10_samples"
# How many images of each, at least 2; None takes all.
n_images: AtLeast[2] | None = None
# Heights and widths to which images are resized, in pixels, at least 32 (the networks' stride);
# the figure has colours for seven.
image_sizes: list[AtLeast[32]] = [96, 128, 160, 192, 224, 320]
# The size that all others are compared with, in pixels.
reference_size: AtLeast[32] = 224
# The level eta of the sublevel sets, in units of the activations.
threshold: float = 0.0
# Of the untrained network's weights, the draw of images and the bootstrap.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# The distance between two curves is the root mean square, along relative depth, of the difference
# of log(1 + Ω), each curve less its own mean (`profile_distance`): a factor that all blocks share
# makes no difference. Every size is compared with the reference size, on the same images. The
# ratio is the median of these distances over the median distance between networks; its interval
# (95 %) is a bootstrap over images, and the noise of halves is subtracted (`invariance`).

# %%
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from topo_utils import (
    Estimate,
    embedding_profile,
    invariance,
    invariance_verdict,
    relative_depth,
    topological_complexity,
)
from topo_utils.book import glue, record_finding
from topo_utils.distances import NOTHING_TO_COMPARE
from topo_utils.plotting import COLOURS, plot_curves, use_style

use_style()
sizes = sorted({*image_sizes, reference_size})
if len(sizes) < 2 or sizes[0] < 32:
    raise ValueError(
        f"image_sizes {image_sizes} and reference_size {reference_size}: needed are two different "
        "sizes, all at least 32 pixels; below, the last blocks have no height and width left"
    )

omega = {}  # by (network, images, size), and of the untrained network


def measure(model, images, size, weights="pretrained"):
    """Measure Omega by image and block, unless it is there already; the name of the curve."""
    name = f"{model} {weights} {images} {size}"
    if name not in omega:
        profile = embedding_profile(
            model,
            images,
            thresholds=threshold,
            n_images=n_images,
            image_size=size,
            weights=weights,
            seed=seed,
            progress=False,
        )
        omega[name] = topological_complexity(profile).sel(threshold=threshold)
    return name


first = models[0]
lites = [f"efficientnet_lite{i}" for i in range(3)]
networks = [measure(model, dataset, reference_size) for model in lites]
networks.append(measure(lites[0], dataset, reference_size, weights="random"))
data = [
    measure(first, images, reference_size)
    for images in ("cifar10_samples", "mnist_samples", "imagenet_samples")
]
detail = {model: {size: measure(model, dataset, size) for size in sizes} for model in models}
small = {size: measure(first, small_images, size) for size in sizes}

# %% [markdown]
# ## Raw and normalised

# %% mystnb={"figure": {"caption": "The first network on the same pictures in several sizes. Above: mean complexity as counted. Below: the same curves, each divided by its own geometric mean over blocks. Bands: one standard error over images.", "name": "fig-resolution-curves"}, "image": {"alt": "Two line charts on logarithmic axes against relative depth, with one curve for each image size: above the raw mean complexity, below each curve divided by its own mean."}} tags=["hide-input"]
raw = {f"{size} px": omega[detail[first][size]].values for size in sizes}
# The geometric mean of 1 + Ω, as the distance takes it: there is one for any curve.
normalised = {
    label: values / np.exp(np.log1p(values.mean(axis=0)).mean()) for label, values in raw.items()
}
figure, (above, below) = plt.subplots(2, 1, figsize=(7.2, 7.6), sharex=True)
plot_curves(above, raw, ylabel="Ω, mean over images")
plot_curves(below, normalised, ylabel="Ω / its mean over blocks")
above.set_xlabel("")
for ax in (above, below):
    ax.get_legend().remove()
    ax.yaxis.set_major_formatter("{x:,g}")
above.legend(fontsize=9, ncols=2)
_ = below.set_title(f"{first} on {dataset}, each curve normalised", loc="left")

# %% [markdown]
# ## How the raw numbers grow
#
# A block's volume has as many voxels as its channels times the pixels of the input over the square
# of its stride (up to rounding), so that the number of voxels grows like the number of pixels. The
# exponent is the slope of log(1 + mean Ω) on the logarithm of the number of pixels: 1 where Ω
# grows with the volume, ½ where it grows with the side. If all blocks of a network had the same
# exponent, its normalised curves would lie on each other.


# %% mystnb={"figure": {"caption": "The exponent of &Omega; in the number of input pixels, block by block, with its 95 % interval (bootstrap over images); dashed: the small images. At 1 (dotted) &Omega; grows with the volume.", "name": "fig-resolution-exponents"}, "image": {"alt": "Line chart of the exponent of complexity in the number of pixels against relative depth, a solid line for each network on the images with detail and a dashed one for the small images."}} tags=["hide-input"]
def exponents(curves, n_bootstrap=1000):
    """Exponents by block and of the sum over blocks (last), (L + 1,); the misfit of the sum."""
    means = np.stack([omega[curves[size]].values for size in sizes])  # (S, N, L)
    n = means.shape[1]
    # Every row draws the images anew: how often each of them counts, the same for all sizes.
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_bootstrap) / n
    weights = np.concatenate([np.full((1, n), 1 / n), weights])
    means = weights @ means
    logs = np.log1p(np.concatenate([means, means.sum(axis=-1, keepdims=True)], axis=-1))
    pixels = 2 * np.log(sizes)
    centred = pixels - pixels.mean()
    slopes = np.tensordot(centred / (centred @ centred), logs, axes=1)
    total = logs[:, 0, -1]
    misfit = np.abs(total - total.mean() - slopes[0, -1] * centred).max()
    return Estimate.from_draws(slopes[0], slopes[1:]), misfit


def of_sum(exponents):
    return exponents[-1]


fits = {model: exponents(curves) for model, curves in detail.items()}
labels = {f"{model} on {dataset}": fit for model, fit in fits.items()}
labels[f"{first} on {small_images} (small)"] = exponents(small)
figure, ax = plt.subplots()
for (label, (fit, _)), colour in zip(labels.items(), COLOURS * len(labels), strict=False):
    depth = relative_depth(len(fit.value) - 1)
    style = "--" if label.endswith("(small)") else "-"
    ax.plot(depth, fit.value[:-1], style, color=colour, marker="o", markersize=3, label=label)
    ax.fill_between(depth, fit.low[:-1], fit.high[:-1], color=colour, alpha=0.18, lw=0)
ax.axhline(1, color="black", ls=":", lw=1)
ax.set(
    xlabel="relative depth (first block 0, last block 1)",
    ylabel="exponent of Ω in the number of pixels",
)
_ = figure.legend(fontsize=9, loc="outside upper left")

# %% tags=["hide-input"]
pd.DataFrame(
    {
        label: {
            "exponent, sum of all blocks": str(fit.map(of_sum)),
            "exponent, least block": f"{fit.value[:-1].min():.2f}",
            "exponent, greatest block": f"{fit.value[:-1].max():.2f}",
            "furthest from the line, sum": f"{100 * np.expm1(misfit):.0f} %",
        }
        for label, (fit, misfit) in labels.items()
    }
).T

# %% [markdown]
# ## Size against network
#
# Each cell below is the distance from the reference size, divided by the median distance between
# networks, with its 95 % interval: at 1 another size makes as much of a difference as another
# network does.

# %% tags=["hide-input"]
others = [size for size in sizes if size != reference_size]
changes = {
    "with detail": [
        (curves[size], curves[reference_size]) for curves in detail.values() for size in others
    ],
    "small": [(small[size], small[reference_size]) for size in others],
}
comparisons = {
    "networks": list(combinations(networks, 2)),
    "data sets": list(combinations(data, 2)),
}
found = {
    (kind, against): invariance(omega, changes[kind], pairs, seed=seed)
    for kind in changes
    for against, pairs in comparisons.items()
}
ruling, control = found["with detail", "networks"], found["small", "networks"]


single = pd.concat([ruling.pairs, control.pairs]).query("kind == 'change'").set_index("a")
single = single[~single.index.duplicated()]  # the small images may be the same as the others
cells = {
    a: str(Estimate(*single.loc[a, ["ratio", "ratio_low", "ratio_high"]])) for a in single.index
}
columns = {f"{model}, {dataset}": curves for model, curves in detail.items()}
columns[f"{first}, {small_images}"] = small
pd.DataFrame(
    {
        label: {f"{size} px": cells[curves[size]] for size in others}
        for label, curves in columns.items()
    }
)

# %% [markdown]
# The medians over sizes (and networks), by what they are divided by. The rule uses the first row;
# the second divides by the median distance between CIFAR-10, MNIST and ImageNet samples in the
# first network.

# %% tags=["hide-input"]
pd.DataFrame(
    {
        name: {f"between {against}": str(found[kind, against]) for against in comparisons}
        for kind, name in (("with detail", dataset), ("small", f"{small_images} (enlarged)"))
    }
)

# %% tags=["remove-cell"]
far = single.loc[[curves[size] for curves in detail.values() for size in others]]
far_sizes = [
    size for size in others if any(far.loc[c[size], "ratio_low"] > 0.5 for c in detail.values())
]
fit, misfit = fits[first]
summed = {size: 1 + omega[name].mean("image").sum().item() for size, name in detail[first].items()}
glue(
    used_images=omega[detail[first][reference_size]].sizes["image"],
    images_name=dataset,
    small_name=small_images,
    first_model=first,
    eta=threshold,
    smallest=sizes[0],
    largest=sizes[-1],
    reference=reference_size,
    growth=summed[sizes[-1]] / summed[sizes[0]],
    pixel_factor=(sizes[-1] / sizes[0]) ** 2,
    exponent=fit.value[-1],
    exponent_low=fit.low[-1],
    exponent_high=fit.high[-1],
    block_least=fit.value[:-1].min(),
    block_greatest=fit.value[:-1].max(),
    ratio=ruling.ratio,
    ratio_low=ruling.low,
    ratio_high=ruling.high,
    small_ratio=control.ratio,
    small_low=control.low,
    small_high=control.high,
    far_text=", ".join(f"{size} px" for size in far_sizes) or "none of them",
)

# %% [markdown]
# On {glue:text}`used_images` images of {glue:text}`images_name` at η = {glue:text}`eta`, from
# {glue:text}`smallest` to {glue:text}`largest` pixels, the number of pixels grows by a factor of
# {glue:text}`pixel_factor:.1f` and Ω of {glue:text}`first_model`, summed over its blocks, by
# {glue:text}`growth:.1f`: an exponent of {glue:text}`exponent:.2f` [{glue:text}`exponent_low:.2f`,
# {glue:text}`exponent_high:.2f`]. The raw numbers are not invariant, and the sum is mostly that of
# the blocks where Ω is large. Block by block the exponent goes from
# {glue:text}`block_least:.2f` to {glue:text}`block_greatest:.2f`; the wider this range, the less
# one factor for the whole network can make the curves of two sizes lie on each other.
#
# The normalised curves differ from the one at {glue:text}`reference` pixels by
# {glue:text}`ratio:.2f` [{glue:text}`ratio_low:.2f`, {glue:text}`ratio_high:.2f`] of the distance
# between networks, as a median over sizes and networks. A median hides single sizes: those whose
# own interval lies above 0.5 in some network are {glue:text}`far_text`. In a small input the last
# blocks see maps of a few points a side (the side over 32), most of which lie at the border.
#
# For {glue:text}`small_name`, enlarged to each of these sizes, the ratio is
# {glue:text}`small_ratio:.2f` [{glue:text}`small_low:.2f`, {glue:text}`small_high:.2f`]. A size
# above a picture's own adds no detail to it, it only makes it smoother. Where
# this ratio is larger than the one above, invariance, as far as there is any, is that of pictures
# with enough detail to fill their pixels, and not one of resizing as such.
#
# The limits of this test: the number of images (above), a comparison set of one family of networks,
# one order of the channels, and one threshold.

# %% [markdown]
# ## Verdict
#
# The rule, the same in every chapter on invariance: *reproduced* when the upper end of the ratio's
# interval is below 0.25, *not reproduced* when its lower end is above 0.5, *reproduced with limits*
# between. The ratio is that of the images with detail, over the distances between networks. Two
# things can only lower it, to *reproduced with limits* at best: the small images' own ratio has its
# lower end above 0.5, or so has a single size in some network, which a median would hide. Without
# anything to compare, as where the threshold lies beyond all values, it is *inconclusive*.

# %% tags=["hide-input"]
verdict = invariance_verdict(ruling.low, ruling.high)
limits = []
if far_sizes:
    limits.append(
        f"{', '.join(f'{size} px' for size in far_sizes)} alone against {reference_size} px lies "
        "above half of it"
    )
if control.low > 0.5:
    limits.append(
        f"for {small_images}, to which enlargement adds no detail, the ratio is {control}"
    )
if limits and verdict == "reproduced":
    verdict = "reproduced with limits"
if verdict == "inconclusive":
    reason = NOTHING_TO_COMPARE
else:
    reason = (
        f"The distance between sizes is {ruling} of that between networks"
        + "".join(f"; {limit}" for limit in limits)
        + "."
    )
numbers = {
    "distance_between_sizes_over_networks": ruling,
    "same_for_small_images": control,
    "distance_between_sizes_over_data_sets": found["with detail", "data sets"],
    "same_for_small_images_over_data_sets": found["small", "data sets"],
} | {f"exponent_{model}": fit.map(of_sum) for model, (fit, _) in fits.items()}
record_finding(
    claim="Ω by block, normalised, does not depend on the size of the input",
    verdict=verdict,
    reason=reason,
    numbers={name: number for name, number in numbers.items() if np.isfinite([*number]).all()},
)

# %% [markdown]
# ## What to try next
#
# - Small images only: `-p dataset cifar10_samples` (or `mnist_samples`, `digits`).
# - Sizes nearer to the reference: `-p image_sizes "[160, 192, 256]"`. Where does the limit begin?
# - Another threshold: `-p threshold 0.5`. Do the exponents stay as they are?
# - Where there is a network, the paper's own: `topobook run resolution_invariance --preset paper`.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} If Ω grew with the volume
# :label: ex-resolution-invariance-1
# ```
#
# If Ω of every block grew in proportion to the number of pixels, its value at the largest size
# would be known from that at the smallest. For the first network, divide what was measured by that
# prediction, block by block.
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-resolution-invariance-1
# :label: sol-resolution-invariance-1
# :class: dropdown
# ```
#
# A quotient of 1 is a block that grows with the volume. If all quotients were equal, the normalised
# curves of both sizes would lie on each other, whatever the quotient is.

# %%
at_size = {size: 1 + omega[name].mean("image") for size, name in detail[first].items()}
growth = at_size[sizes[-1]] / at_size[sizes[0]]
quotients = pd.Series(
    growth.values / (sizes[-1] / sizes[0]) ** 2, index=growth["block"].values, name="quotient"
)
quotients.agg(["min", "median", "max"]).to_frame(f"{sizes[0]} to {sizes[-1]} pixels").round(2).T

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Resolution without enlarging
# :label: ex-resolution-invariance-2
#
# A picture of 32 × 32 pixels that is enlarged to 224 has the size of a photograph, and not its
# detail. Design a test of invariance to resolution in which the *detail* stays the same while the
# number of pixels changes, and one in which only the detail changes.
# ```
#
# ```{solution} ex-resolution-invariance-2
# :label: sol-resolution-invariance-2
# :class: dropdown
#
# The same detail: reduce every photograph to 32 × 32 pixels once, and enlarge that to all sizes
# under test; the curves then differ by the number of pixels (and by the way of enlarging), never by
# what is on the picture. Only the detail: keep the size at which the network sees the picture, and
# reduce the picture to 32, 64, 128, ... pixels before it is enlarged to that size. Comparing
# photographs at 128 and 224 pixels, as one usually does, changes both at once. The two tests need
# one unit: the same networks or data sets in the denominator, at the one size that both share.
# ```
