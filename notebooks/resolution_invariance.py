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
# # Does the size of the input matter?
#
# > we highlight several invariances such as topological invariance of [...] (3) embedding space to
# > input resolution/size
# >
# > — the paper's abstract, {cite:t}`suresh2023`

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "The same pictures in several sizes. Above: mean complexity as counted. Below: each curve divided by its own mean.", "name": "fig-resolution-curves"}, "image": {"alt": "Two line charts on logarithmic axes against relative depth, with one curve for each image size: above the raw mean complexity, below each curve divided by its own mean."}} tags=["remove-input"]
place("fig-resolution-curves")

# %% [markdown]
# A larger picture makes larger volumes, with room for more components, tunnels and cavities, so the
# complexity Ω ({doc}`depth_decay`) cannot itself stay the same. What may stay is the *normalised*
# curve: the shape of Ω along depth, whatever its level.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
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
# Every size is compared with the reference size, on the same images. The distance between two curves
# is the root mean square, along relative depth, of the difference of log(1 + Ω), each curve less its
# own mean (`profile_distance`): a factor that all blocks share makes no difference.
#
# The **ratio** is the median of these distances over the median distance between networks, which
# should differ: all pairs of EfficientNet-Lite0, Lite1, Lite2 and an untrained Lite0, at the reference
# size. Its interval (95 %) is a bootstrap over images, and the distance that noise alone makes is
# subtracted (`invariance`).

# %% tags=["hide-cell"]
from itertools import combinations

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib import pyplot as plt

from topo_utils import (
    Estimate,
    embedding_profile,
    invariance,
    relative_depth,
    topological_complexity,
)
from topo_utils.book import fill, record_finding
from topo_utils.distances import NOTHING_TO_COMPARE
from topo_utils.plotting import plot_curves, plot_estimates, use_style

use_style()
sizes = sorted({*image_sizes, reference_size})
others = [size for size in sizes if size != reference_size]
if not others:
    raise ValueError(
        f"image_sizes is {image_sizes}; needed: one beside {reference_size}"
    )
settings = {"thresholds": threshold, "n_images": n_images, "seed": seed}
omega = {}  # by the name of the curve


def measure(model, images, size, weights="pretrained"):
    """Measure Omega by image and block; the name of the curve."""
    options = {"image_size": size, "weights": weights, "progress": False}
    profile = embedding_profile(model, images, **settings, **options)
    name = f"{model} {weights} {images} {size}"
    omega[name] = topological_complexity(profile).sel(threshold=threshold)
    return name


def by_size(model, images):
    return {size: measure(model, images, size) for size in sizes}


def changes_of(curves):
    return [(curves[size], curves[reference_size]) for size in others]


first = models[0]
lites = [f"efficientnet_lite{i}" for i in range(3)]

# %%
networks = [measure(model, dataset, reference_size) for model in lites]
networks.append(measure(lites[0], dataset, reference_size, "random"))
between_networks = list(combinations(networks, 2))

detail = {model: by_size(model, dataset) for model in models}
changes = [pair for curves in detail.values() for pair in changes_of(curves)]
ruling = invariance(omega, changes, between_networks, seed=seed)
print(ruling)

# %% tags=["hide-cell"]
raw = {f"{size} px": omega[name] for size, name in detail[first].items()}
# The geometric mean of 1 + Ω, as the distance takes it: there is one for any curve.
normalised = {
    label: curve / np.exp(np.log1p(curve.mean("image")).mean())
    for label, curve in raw.items()
}
figure, (above, below) = plt.subplots(2, 1, figsize=(7.2, 6.4), sharex=True)
plot_curves(above, raw, ylabel="Ω, mean over images")
plot_curves(below, normalised, ylabel="Ω / its mean over blocks")
above.set_xlabel("")
above.legend(fontsize=9, ncols=2)
below.get_legend().remove()
below.yaxis.set_major_formatter("{x:,g}")
plt.close(figure)

sums = [1 + curve.mean("image").sum().item() for curve in raw.values()]
growth = sums[-1] / sums[0]
nothing = ruling.verdict == "inconclusive"
compared = f"the curves differ by {ruling} of the distance between networks"
if nothing:
    compared = "there is nothing to compare"
fill(
    "fig-resolution-curves",
    figure,
    caption=f"From {sizes[0]} to {sizes[-1]} px, Ω of {first} grows {growth:.1f}-fold (above). "
    f"Each divided by its mean over blocks (below), {compared}. Bands: one standard error over images.",
)

# %% [markdown]
# ## How fast do the raw numbers grow?
#
# A block's volume has as many voxels as its channels times the pixels of the input over the square
# of its stride (up to rounding), so that the number of voxels grows like the number of pixels. The
# **exponent** is the slope of log(1 + mean Ω) on the logarithm of the number of pixels: 1 where Ω grows
# with the volume, ½ where it grows with the side. If all blocks of a network had the same exponent,
# its normalised curves would lie on each other.

# %% mystnb={"figure": {"caption": "The exponent of &Omega; in the number of input pixels, block by block, with its 95 % interval (bootstrap over images); dashed: the small images. At 1 (dotted) &Omega; grows with the volume.", "name": "fig-resolution-exponents"}, "image": {"alt": "Line chart of the exponent of complexity in the number of pixels against relative depth, a solid line for each network on the images with detail and a dashed one for the small images."}} tags=["hide-input"]
small = by_size(first, small_images)
pixels = 2 * np.log(sizes)
centred = pixels - pixels.mean()


def exponents(curves):
    """The exponent by block, that of the sum over blocks, and how far the sum is from its line."""
    by_image = np.stack([omega[curves[size]].values for size in sizes])
    n = by_image.shape[1]
    # Every row draws the images anew: how often each of them counts, the same for all sizes.
    draws = np.random.default_rng(seed).multinomial(
        n, np.full(n, 1 / n), 1000
    )
    means = np.vstack([np.ones(n), draws]) / n @ by_image
    sums = means.sum(axis=-1, keepdims=True)
    logs = np.log1p(np.concatenate([means, sums], axis=-1))
    slopes = np.tensordot(centred / (centred @ centred), logs, axes=1)
    off = logs[:, 0, -1] - logs[:, 0, -1].mean() - slopes[0, -1] * centred
    found = Estimate.from_draws(slopes[0], slopes[1:])
    return (
        found.map(lambda x: x[:-1]),
        found.map(lambda x: x[-1]),
        np.abs(off).max(),
    )


fits = {f"{model} on {dataset}": exponents(detail[model]) for model in models}
fits[f"{first} on {small_images} (small)"] = exponents(small)
figure, ax = plt.subplots()
for label, (by_block, *_) in fits.items():
    depth = relative_depth(len(by_block.value))
    plot_estimates(
        ax, depth, by_block, label, dashed=label.endswith("(small)")
    )
ax.axhline(1, color="black", ls=":", lw=1)
ax.set_xlabel("relative depth (first block 0, last block 1)")
ax.set_ylabel("exponent of Ω in the number of pixels")
_ = figure.legend(fontsize=9, loc="outside upper left")

# %% tags=["remove-input"]
by_block, of_sum, misfit = fits[f"{first} on {dataset}"]
small_blocks, small_sum, _ = fits[f"{first} on {small_images} (small)"]
Markdown(f"""
On {omega[changes[0][0]].sizes["image"]} images of `{dataset}` at η = {threshold:g}, from {sizes[0]} to
{sizes[-1]} pixels, the number of pixels grows by a factor of {(sizes[-1] / sizes[0]) ** 2:.1f} and Ω of
`{first}`, summed over its blocks, by {growth:.1f}: an exponent of **{of_sum}**, with the sum within
{100 * np.expm1(misfit):.0f} % of the fitted line. It is mostly that of the blocks where Ω is large: block
by block, the exponent goes from {by_block.value.min():.2f} to {by_block.value.max():.2f}. The wider this
range, the less a single factor for the whole network can make the curves of two sizes lie on each
other. On `{small_images}` the exponent of the sum is {small_sum}, those of the blocks go from
{small_blocks.value.min():.2f} to {small_blocks.value.max():.2f}.
""")

# %% [markdown]
# ## Does every size agree?
#
# Each cell is the distance from the reference size, divided by the median distance between networks,
# with its 95 % interval. At 1, a change of size matters as much as a change of network.

# %% tags=["hide-input"]
small_changes = changes_of(small)
control = invariance(omega, small_changes, between_networks, seed=seed)
ratios = ruling.ratios | control.ratios
columns = {f"{model}, {dataset}": detail[model] for model in models}
columns[f"{first}, {small_images}"] = small
rows = [f"{size} px" for size in others]
table = {
    label: [ratios[pair] for pair in changes_of(curves)]
    for label, curves in columns.items()
}
pd.DataFrame(table, index=rows)

# %% tags=["remove-input"]
far = [
    row
    for i, row in enumerate(rows)
    if any(table[f"{model}, {dataset}"][i].low > 0.5 for model in models)
]
Markdown(f"""
As a median over sizes and networks, the normalised curves of `{dataset}` differ from those at
{reference_size} pixels by **{ruling}** of the distance between networks. A median hides single
sizes. Those that alone lie above half of that distance in some network: {", ".join(far) or "none"}. In
a small input the last blocks see maps of a few points a side (the side over 32), most of which lie at
the border.
""")

# %% [markdown]
# ## Is it the number of pixels, or the detail?
#
# A picture enlarged beyond its own size gains no detail: it only becomes smoother. The small images
# were enlarged to each of these sizes.

# %% tags=["remove-input"]
data = [
    measure(first, images, reference_size)
    for images in ("cifar10_samples", "mnist_samples", "imagenet_samples")
]
over_data, small_over_data = (
    invariance(omega, pairs, list(combinations(data, 2)), seed=seed)
    for pairs in (changes, small_changes)
)
if ruling.high < 0.5 < control.low:
    told = "Only pictures with real detail show the invariance."
elif control.low > ruling.high:
    told = "Enlarged pictures change more than pictures with detail do."
else:
    told = "The two intervals leave open whether detail matters."
Markdown(f"""
For `{small_images}` the ratio is **{control}**, for `{dataset}` it is {ruling}. {told} In a different
unit, the median distance between CIFAR-10, MNIST and ImageNet samples in `{first}`, the two are
{small_over_data} and {over_data}.
""")

# %% [markdown]
# ## The rule
#
# Fixed beforehand, and the same in every chapter on invariance: *reproduced* when the upper end of the
# ratio's interval is below 0.25, *not reproduced* when its lower end is above 0.5, *reproduced with
# limits* between; *inconclusive* without anything to compare, as where the threshold lies beyond all
# values. The ratio is that of the images with detail, over the distances between networks. Two checks
# can downgrade the verdict to *reproduced with limits*: the small images' own ratio has its lower end
# above 0.5, or a single size does in some network.

# %% tags=["hide-cell"]
told = [f"The distance between sizes is {ruling} of that between networks"]
if far:
    told.append(
        f"{', '.join(far)} alone against {reference_size} px lies above half of it"
    )
if control.low > 0.5:
    told.append(
        f"for {small_images}, to which enlargement adds no detail, the ratio is {control}"
    )
verdict = ruling.verdict
if verdict == "reproduced" and len(told) > 1:
    verdict = "reproduced with limits"
headline = (
    f"A different size moves the curve {100 * ruling.ratio:.0f} % as far as a "
    "different network does; below 25 % counts as the same."
)
numbers = {
    "distance_between_sizes_over_networks": ruling,
    "same_for_small_images": control,
    "distance_between_sizes_over_data_sets": over_data,
    "same_for_small_images_over_data_sets": small_over_data,
} | {
    f"exponent_{model}": fits[f"{model} on {dataset}"][1] for model in models
}
record_finding(
    claim="Ω by block, normalised, does not depend on the size of the input",
    verdict=verdict,
    reason=NOTHING_TO_COMPARE if nothing else f"{'; '.join(told)}.",
    headline="" if nothing else headline,
    numbers={
        name: number
        for name, number in numbers.items()
        if np.isfinite([*number]).all()
    },
)

# %% [markdown]
# ## What this does not show
#
# - That Ω itself is invariant: it grows with the number of pixels.
# - That other families behave alike: the comparison set is one family of networks, with few images,
#   one threshold and one order of the channels ({doc}`controls`).
# - That a network still recognises what is in the picture: see {doc}`architecture_choices` for
#   accuracy.

# %% [markdown]
# ## What to try next
#
# - Small images only: `-p dataset cifar10_samples` (or `mnist_samples`, `digits`).
# - Sizes nearer to the reference: `-p image_sizes "[160, 192, 256]"`. Where does the limit begin?
# - Another threshold: `-p threshold 0.5`. Do the exponents stay as they are?
# - With an internet connection, the paper's own: `topobook run resolution_invariance --preset paper`.

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
smallest, largest = (
    1 + omega[detail[first][size]].mean("image")
    for size in (sizes[0], sizes[-1])
)
quotients = largest / smallest / (sizes[-1] / sizes[0]) ** 2
label = f"{sizes[0]} to {sizes[-1]} pixels"
quotients.to_series().agg(["min", "median", "max"]).round(2).to_frame(label).T

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
