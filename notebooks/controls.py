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
# # Learning, or shrinking volumes?
#
# The paper's abstract {cite}`suresh2023` says of Betti numbers along depth: "The rate of decay in
# topological complexity (as a metric) helps quantify the impact of architectural choices on the
# generalization ability." A rate that stood for learning could do so. But the volumes shrink from
# block to block by architecture alone, and a smaller volume has room for fewer components, tunnels
# and cavities.
#
# How much of the decay is learning, then, and how much is volume? And what is left of the book's
# other findings when each block's Ω is divided by what the same values would give in random order?
#
# This page is a notebook: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters
#
# This page is a notebook, run from its source with the values below. To see it with others, type
# for instance
#
# ```
# topobook run controls -p dataset cifar10_samples -p threshold 0.5
# ```

# %% tags=["parameters"]
from topo_utils.book import AtLeast

# The network: a name that topo_utils.model_names() lists.
model: str = "efficientnet_lite0"
# The images: a name that topo_utils.dataset_names() lists, or folder:PATH.
dataset: str = "imagenet_samples"
# How many images, at least 2; None takes all.
n_images: AtLeast[2] | None = None
# How many of them in the table of findings, at least 2, and of each other data set there.
n_images_findings: AtLeast[2] = 10
# Height and width to which images are resized, in pixels.
image_size: AtLeast[1] = 224
# Other levels eta, for the finding on thresholds.
other_thresholds: list[float] = [-1.5, -0.75, 0.75, 1.5]
# Other sizes, for the finding on input size.
other_sizes: list[AtLeast[1]] = [128, 288]
# The level eta of the sublevel sets, in units of the activations.
threshold: float = 0.0
# Of the untrained weights, the draw of images, the shuffles and the bootstrap.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# Three networks of one architecture: pretrained; untrained, with its random initial weights; and
# untrained but calibrated, its batch-norm statistics set to those of these images. Two nulls: every
# volume with *all* its values shuffled, which keeps their distribution and destroys space and
# channels; and with its values shuffled *within channels*, which keeps each channel's distribution.
# A check: the order of the channels shuffled, which is arbitrary and leaves the network's function
# as it is.
#
# The decay is the slope of log(1 + mean Ω) on relative depth. Relative to a null or a twin it is
# the slope of the logarithm less that of the other, on the same images with the same bootstrap
# resamples (95 %). What remains, divided by the decay itself, is the *share* of the decay that this
# null or twin does not have.

# %%
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from topo_utils import (
    Estimate,
    block_shapes,
    bootstrap,
    calibrate_batch_norm,
    correlation,
    decay,
    embedding_profile,
    invariance,
    load_images,
    load_model,
    model_blocks,
    open_images,
    relative_depth,
    topological_complexity,
)
from topo_utils.book import glue, record_finding
from topo_utils.plotting import COLOURS, plot_curves, use_style

use_style()
NULLS = {
    "volume": "all values shuffled",
    "within_channels": "shuffled within channels",
}


def mean_below(curves):
    """Mean Omega by block, to divide by: NaN where it is 0."""
    mean = curves.mean("image")
    return mean.where(mean > 0)


def measure(
    network=model, images=dataset, size=image_size, n=n_images, **options
):
    """Omega by image and block."""
    profile = embedding_profile(
        network,
        images,
        thresholds=threshold,
        image_size=size,
        n_images=n,
        seed=seed,
        progress=False,
        **options,
    )
    return topological_complexity(profile).sel(threshold=threshold)


blocks = model_blocks(model)
pictures, _ = load_images(dataset, image_size, n_images, seed)
calibrated = calibrate_batch_norm(
    load_model(model, weights="random", seed=seed), pictures
)

kinds = {
    "pretrained": {},
    "untrained": {"weights": "random"},
    "calibrated": {"network": calibrated, "images": pictures, "n": None},
}
with_input = measure(blocks=["input", *blocks])
omega = {("pretrained", None): with_input.sel(block=blocks)}
for kind, options in kinds.items():
    for null in (None, *NULLS):
        if (kind, null) not in omega:
            omega[kind, null] = measure(**options, null=null)
            # The tensor holds the images of the data set, in their order.
            omega[kind, null] = omega[kind, null].assign_coords(
                image=with_input["image"]
            )
order = measure(null="channel_order")
per_image = {
    kind: measure(**kinds[kind], batch_norm="per_image")
    for kind in ("pretrained", "untrained")
}

# %% [markdown]
# ## What the nulls leave

# %% mystnb={"figure": {"caption": "Mean complexity divided by that of the same volumes with their values shuffled: all of them (above) or within channels (below). Flat: the block's &Omega; falls as that of shuffled values. Bands: one standard error over images.", "name": "fig-controls-nulls"}, "image": {"alt": "Two line charts of complexity divided by that of shuffled values against relative depth, for the pretrained, the untrained and the calibrated untrained network."}} tags=["hide-input"]
figure, axes = plt.subplots(2, 1, figsize=(7.2, 7.2), sharex=True)
for ax, (null, title) in zip(axes, NULLS.items(), strict=True):
    quotients = {
        kind: omega[kind, None] / mean_below(omega[kind, null])
        for kind in kinds
    }
    plot_curves(
        ax,
        quotients,
        dashed=["untrained", "calibrated"],
        ylabel="Ω / Ω of shuffled values",
    )
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_title(title, loc="left")
axes[0].set_xlabel("")
axes[1].get_legend().remove()

# %% [markdown]
# ## The decay, relative to each


# %% tags=["hide-input"]
def voxels():
    """Number of voxels by block, as if it were the complexity of every image."""
    shapes, _ = block_shapes(load_model(model), image_size, blocks)
    return omega["pretrained", None] * 0 + np.array(
        [np.prod(shapes[name]) for name in blocks]
    )


def fitted(curves, relative_to=None):
    return decay(curves, relative_to=relative_to, seed=seed)


volume = voxels()
decays = {kind: fitted(omega[kind, None]) for kind in kinds}
relative = {
    (kind, null): fitted(omega[kind, None], omega[kind, null])
    for kind in kinds
    for null in NULLS
}
for twin in ("untrained", "calibrated"):
    relative["pretrained", twin] = fitted(
        omega["pretrained", None], omega[twin, None]
    )
per_voxel = {kind: fitted(omega[kind, None], volume) for kind in kinds}
pd.DataFrame(
    {
        kind: {
            "decay": str(decays[kind]),
            "its values, all shuffled": str(fitted(omega[kind, "volume"])),
            "relative to all shuffled": str(relative[kind, "volume"]),
            "relative to within channels": str(
                relative[kind, "within_channels"]
            ),
            "relative to the untrained": str(relative[kind, "untrained"])
            if kind == "pretrained"
            else "–",
            "relative to the calibrated": str(relative[kind, "calibrated"])
            if kind == "pretrained"
            else "–",
            "relative to the number of voxels": str(per_voxel[kind]),
        }
        for kind in kinds
    }
)

# %% tags=["remove-cell"]
slope = decays["pretrained"].slope
shares = {}
if decays[
    "pretrained"
].falls:  # else there is no decay of which to take a share
    for (kind, of), (value, low, high) in relative.items():
        if (
            kind == "pretrained"
        ):  # the slope is negative: the ends change places
            shares[of] = Estimate(value / slope, high / slope, low / slope)
LABELS = {
    "volume": "the volume null",
    "within_channels": "the null within channels",
}
LABELS |= {
    "untrained": "the untrained twin",
    "calibrated": "the calibrated twin",
}
shares_text = ", ".join(
    f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}] relative to {LABELS[of]}"
    for of, (value, low, high) in shares.items()
)
without_last = fitted(
    omega["pretrained", None][:, :-1], omega["pretrained", "volume"][:, :-1]
)
reorder = fitted(order, omega["pretrained", None])
reordered = (
    order.mean("image") / mean_below(omega["pretrained", None])
).to_series()
per_image_decays = {
    kind: fitted(curves) for kind, curves in per_image.items()
}
per_image_difference = fitted(per_image["pretrained"], per_image["untrained"])
glue(
    network=model,
    used_images=omega["pretrained", None].sizes["image"],
    images_name=dataset,
    eta=threshold,
    decay_text=str(decays["pretrained"]),
    all_shuffled_text=str(fitted(omega["pretrained", "volume"])),
    rest_text=str(relative["pretrained", "volume"]),
    without_last_text=str(without_last),
    shares_text=shares_text or "none, since it is not below 0",
    voxels_text=f"{fitted(volume).slope:.2f}",
    per_voxel_text=str(per_voxel["pretrained"]),
    untrained_rest_text=str(relative["untrained", "volume"]),
    calibrated_rest_text=str(relative["calibrated", "volume"]),
    order_text=str(reorder),
    order_least=reordered.min(),
    order_greatest=reordered.max(),
    per_image_text=str(per_image_decays["pretrained"]),
    per_image_untrained_text=str(per_image_decays["untrained"]),
    per_image_difference_text=str(per_image_difference),
)

# %% [markdown]
# On {glue:text}`used_images` images of {glue:text}`images_name` at η = {glue:text}`eta`, the decay
# of the pretrained {glue:text}`network` is {glue:text}`decay_text`. The very values of its blocks,
# shuffled, have {glue:text}`all_shuffled_text`: that is what a random order gives in volumes that
# become smaller. What remains is {glue:text}`rest_text`, or without
# the last block {glue:text}`without_last_text`. As a share of the decay:
# {glue:text}`shares_text`. (A negative share means that the null or twin falls more steeply.) The
# number of voxels alone has a decay of {glue:text}`voxels_text`; Ω per voxel has
# {glue:text}`per_voxel_text`.
#
# Relative to its own shuffled values, the untrained network has {glue:text}`untrained_rest_text`,
# the calibrated one {glue:text}`calibrated_rest_text`: above 0 it falls *less* than shuffled values
# do, below 0 more. No null is neutral. The distribution of the values, which all nulls keep, is
# learned too; so a null tells what the arrangement of the values adds, and a twin tells what the
# training adds.
#
# Two checks on the size of these numbers. With the channels in another random order Ω changes by
# factors of {glue:text}`order_least:.2f` to {glue:text}`order_greatest:.2f` by block, and the decay
# by {glue:text}`order_text`; nothing smaller can be a property of the network. With the batch-norm
# statistics of each single image, the decay is {glue:text}`per_image_text`, that of the untrained
# network {glue:text}`per_image_untrained_text`, and their difference
# {glue:text}`per_image_difference_text`.

# %% [markdown]
# ## The picture alone
#
# Is Ω of a block just that of the picture that came in? The figure has, block by block, the rank
# correlation over images between Ω of the normalised input image and Ω of the block: 1 where the
# more complicated picture always has the more complicated embedding.


# %% mystnb={"figure": {"caption": "Rank correlation, over images, of the input picture's own &Omega; with &Omega; of each block. Bands: 95 % intervals (bootstrap over images).", "name": "fig-controls-input"}, "image": {"alt": "Line chart of the rank correlation between the complexity of the input image and that of each block, from -1 to 1, against relative depth, for a pretrained and an untrained network."}} tags=["hide-input"]
def with_input_omega(omega):
    """Spearman's correlation of the picture's Omega with that of each block (L,)."""
    return bootstrap(
        lambda images: correlation(
            picture_omega[images], omega.values[images].T
        ),
        len(picture_omega),
        n_bootstrap=1000,
        seed=seed,
    )


picture_omega = with_input.sel(block="input").values
correlations = {
    kind: with_input_omega(omega[kind, None])
    for kind in ("pretrained", "untrained")
}
figure, ax = plt.subplots(figsize=(7.2, 3.8))
for (kind, found), style, colour in zip(
    correlations.items(), ("-", "--"), COLOURS, strict=False
):
    depth = relative_depth(len(blocks))
    ax.plot(
        depth,
        found.value,
        style,
        color=colour,
        marker="o",
        markersize=3,
        label=kind,
    )
    ax.fill_between(
        depth, found.low, found.high, color=colour, alpha=0.18, lw=0
    )
ax.axhline(0, color="black", lw=1)
ax.set(ylim=(-1.05, 1.05), ylabel="rank correlation with the input's Ω")
ax.set_xlabel("relative depth (first block 0, last block 1)")
_ = ax.legend(fontsize=9)

# %% tags=["remove-cell"]
predicted = {
    kind: int((found.low > 0).sum()) for kind, found in correlations.items()
}
glue(
    input_omega=picture_omega.mean(),
    first_correlation=str(
        correlations["pretrained"].map(lambda blocks: blocks[0])
    ),
    last_correlation=str(
        correlations["pretrained"].map(lambda blocks: blocks[-1])
    ),
    n_blocks=len(blocks),
    predicted_pretrained=predicted["pretrained"],
    predicted_untrained=predicted["untrained"],
)

# %% [markdown]
# The pictures themselves have a mean Ω of {glue:text}`input_omega:.0f`. Its correlation with Ω of
# the first block is {glue:text}`first_correlation`, with the last {glue:text}`last_correlation`. The
# interval lies above 0 in {glue:text}`predicted_pretrained` of {glue:text}`n_blocks` blocks of the
# pretrained network and in {glue:text}`predicted_untrained` of the untrained. Where it does, part
# of what differs from image to image was in the picture before any network saw it.

# %% [markdown]
# ## Every finding, divided by each null
#
# The findings of the chapters on invariance again: the distance under the change over the distance
# between what should differ, with the rule of these chapters (*reproduced* below 0.25, *not
# reproduced* above 0.5; *inconclusive* where what should differ does not, beyond its noise). First with Ω
# as it is; then with Ω divided by the mean Ω of shuffled values of the same network, data and size,
# so that what a volume and its values give by themselves is taken out of both the numerator and the
# denominator. The decay at other thresholds has the rule of {doc}`threshold`: *not reproduced* when
# it does not fall at more than half of them. The rate of decay as a measure of architectures is
# divided by the nulls in its own chapter, {doc}`architecture_choices`.

# %% tags=["hide-input"]
few = open_images(dataset, image_size, n_images_findings, seed).indices
LITES = [f"efficientnet_lite{i}" for i in range(3)]
DATA = ["cifar10_samples", "mnist_samples", "imagenet_samples"]
curves = {}  # null -> name -> curve


def curve(
    null, network=model, images=dataset, size=image_size, weights="pretrained"
):
    """Measure a curve unless it is there; its name."""
    name = f"{network} {images} {size} {weights}"
    if name not in curves.setdefault(null, {}):
        known = (
            omega.get((weights, null))
            if (network, images, size) == known_setting
            else None
        )
        if known is not None and np.isin(few, known["image"]).all():
            curves[null][name] = known.sel(image=few)
        else:
            curves[null][name] = measure(
                network,
                images,
                size,
                n_images_findings,
                weights=weights,
                null=null,
            )
    return name


known_setting = (model, dataset, image_size)
for null in (None, *NULLS):
    data = {
        images: curve(null, images=images)
        for images in [*DATA, "cifar100_samples"]
    }
    networks = [curve(null, network=network) for network in LITES]
    networks.append(curve(null, network=LITES[0], weights="random"))
    reference = curve(null)
    sizes = [curve(null, size=size) for size in other_sizes]

claims = {  # finding: changes, what should differ
    "similar data sets": (
        [(data["cifar10_samples"], data["cifar100_samples"])],
        list(combinations([data[name] for name in DATA], 2)),
    ),
    "depth of the network": (
        [(networks[0], networks[1]), (networks[0], networks[2])],
        list(combinations(networks, 2)),
    ),
    "size of the input": (
        [(size, reference) for size in sizes],
        list(combinations(networks, 2)),
    ),
    "part of the images": (
        [("one half", "other half")],
        list(combinations([data[name] for name in DATA], 2)),
    ),
}
if n_images_findings < 4:
    del claims["part of the images"]  # a half needs two


def divided(null):
    """Every curve over that of its shuffled values, times one constant.

    The constant keeps log(1 + x), which the distance takes, close to log x.
    """
    if null is None:
        return dict(curves[None])
    means = {
        name: 1 + each.mean("image") for name, each in curves[null].items()
    }
    scale = float(np.mean([mean.mean() for mean in means.values()]))
    return {
        name: (scale * each / means[name]).assign_attrs(each.attrs)
        for name, each in curves[None].items()
    }


found = {}
for null in (None, *NULLS):
    quotients = divided(null)
    middle = n_images_findings // 2
    quotients["one half"] = quotients[reference][:middle]
    quotients["other half"] = quotients[reference][middle:]
    for claim, (changes, comparisons) in claims.items():
        found[claim, null] = invariance(
            quotients, changes, comparisons, seed=seed
        )
columns = {None: "Ω"} | {
    null: f"Ω / {title}" for null, title in NULLS.items()
}


levels = sorted({threshold, *other_thresholds})
at_levels = {
    null: topological_complexity(
        embedding_profile(
            model,
            dataset,
            thresholds=levels,
            image_size=image_size,
            n_images=n_images_findings,
            null=null,
            seed=seed,
            progress=False,
        )
    )
    for null in (None, *NULLS)
}


def falls(null, eta):
    """Whether the interval of the decay lies below 0, divided by a null."""
    curves, divisor = (
        at_levels[key].sel(threshold=eta) for key in (None, null)
    )
    return fitted(curves, None if null is None else divisor).falls


falling = {
    null: sum(falls(null, eta) for eta in levels) for null in at_levels
}

table = {}
for null, column in columns.items():
    for claim in claims:
        each = found[claim, null]
        table[f"{claim}, {column}"] = {
            "number": str(each),
            "by the rule": each.verdict,
        }
    remaining = (
        decays["pretrained"] if null is None else relative["pretrained", null]
    )
    holds = falling[null]
    survives = (
        "reproduced" if holds == len(levels) else "reproduced with limits"
    )
    table[f"decay, {column}"] = {
        "number": str(remaining),
        "by the rule": "falls" if remaining.falls else "does not fall",
    }
    table[f"decay at other thresholds, {column}"] = {
        "number": f"falls at {holds} of {len(levels)}",
        "by the rule": survives
        if 2 * holds >= len(levels)
        else "not reproduced",
    }
pd.DataFrame(table).T

# %% tags=["remove-cell"]
changed = [
    f"{claim} ({NULLS[null]}: {found[claim, null].verdict})"
    for claim in claims
    for null in NULLS
    if found[claim, null].verdict != found[claim, None].verdict
]
glue(
    n_findings=len(claims),
    few_images=n_images_findings,
    n_changed=len(changed),
    n_cells=len(claims) * len(NULLS),
    changed_names="; ".join(changed) or "none",
)

# %% [markdown]
# On {glue:text}`few_images` images each, {glue:text}`n_changed` of {glue:text}`n_cells` verdicts
# ({glue:text}`n_findings` findings, two nulls) are others after the division:
# {glue:text}`changed_names`. A verdict that changes says that part of the agreement, or of the
# difference that it was measured against, was that of volumes and distributions; with so few images
# it may also be noise, and the chapters' own verdicts rest on more.
#
# The limits of this page: few images (their number is above), one architecture and one seed for the
# untrained weights, one shuffle of each volume.

# %% [markdown]
# ## Verdict
#
# The claim under test: the decay is made by learning, not by the shrinking of volumes. The rule
# takes it at its word, that the larger part is learned. For each null and each untrained twin, the
# share of the decay that remains has an interval (that of the relative decay, divided by the
# decay). *Reproduced* when all of these lie above a half, *not reproduced* when all lie below a
# half, *reproduced with limits* between; *inconclusive* when the pretrained network has no decay
# to explain (its interval is not below 0).

# %% tags=["hide-input"]
left = [of for of in LABELS if relative["pretrained", of].falls]
if not decays["pretrained"].falls:
    verdict, reason = "inconclusive", f"The decay of {model} is not below 0."
else:
    if all(share.low > 0.5 for share in shares.values()):
        verdict = "reproduced"
    elif all(share.high < 0.5 for share in shares.values()):
        verdict = "not reproduced"
    else:
        verdict = "reproduced with limits"
    reason = (
        f"Of the decay {decays['pretrained']} there remains {shares_text}; what "
        f"remains is below 0 relative to {len(left)} of {len(shares)}."
    )
numbers = {
    f"share_of_decay_left_relative_to_{of}": share
    for of, share in shares.items()
}
numbers |= {f"decay_{kind}": each for kind, each in decays.items()}
numbers |= {
    f"decay_{kind}_relative_to_{of}": each
    for (kind, of), each in relative.items()
}
numbers |= {
    f"decay_{kind}_relative_to_voxels": each
    for kind, each in per_voxel.items()
}
numbers |= {
    f"decay_{kind}_statistics_per_image": each
    for kind, each in per_image_decays.items()
}
numbers |= {
    f"ratio_{claim}_{null or 'raw'}".replace(" ", "_"): each
    for (claim, null), each in found.items()
    if np.isfinite(each.ratio)
}
record_finding(
    claim="The decay of complexity is made by learning, not by the shrinking of volumes",
    verdict=verdict,
    reason=reason,
    numbers=numbers,
)

# %% [markdown]
# ## What to try next
#
# - Another draw of the untrained weights and shuffles: `-p seed 1`. How much do the shares change?
# - Other images: `-p dataset mnist_samples`. What does the picture predict there?
# - Another threshold: `-p threshold 0.5`. Is the order of nulls and twins the same?
# - Where there is a network, one of the paper's: `topobook run controls --preset paper`.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} How random is a null?
# :label: ex-controls-1
# ```
#
# A null shuffles once. With two of the images, shuffle all values again from three seeds: by how
# much does Ω of the shuffled volumes vary between shuffles, beside how much it varies along depth?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-controls-1
# :label: sol-controls-1
# :class: dropdown
# ```
#
# The images, the network and so the values are the same; only the shuffles differ. The deviation is
# that of one image; the mean over images varies less.

# %%
shuffles = np.stack(
    [
        topological_complexity(
            embedding_profile(
                model,
                pictures[:2],
                thresholds=threshold,
                null="volume",
                seed=s,
                progress=False,
            )
        )
        .isel(threshold=0)
        .values
        for s in (seed, seed + 1, seed + 2)
    ]
)
deviations = (
    shuffles.std(axis=0, ddof=1) / np.maximum(shuffles.mean(axis=0), 1)
).mean(axis=0)
pd.DataFrame(
    {
        "deviation between shuffles, median block": [
            f"{100 * np.median(deviations):.1f} %"
        ],
        "worst block": [f"{100 * deviations.max():.1f} %"],
        "greatest / least block of the null": [
            f"{shuffles.mean(axis=(0, 1)).max() / max(shuffles.mean(axis=(0, 1)).min(), 1):.1f}"
        ],
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What a shuffled volume knows
# :label: ex-controls-2
#
# With all values of a volume shuffled, on what does the distribution of Ω at η depend? Can two
# networks with different weights have different nulls? Then what has been divided out, and what has
# not, when Ω is divided by this null?
# ```
#
# ```{solution} ex-controls-2
# :label: sol-controls-2
# :class: dropdown
#
# Shuffled, the sublevel set is a random choice of points, and every choice of that many points is
# as likely as any other. So the distribution of Ω depends on two things only: the shape of the
# volume (channels, height, width), and how many of its values are ≤ η. The second is learned:
# weights and biases decide how many activations are negative. So two networks of one architecture
# can have different nulls, and the quotient is what the *arrangement* of the values adds, given how
# many lie below. A training that makes blocks sparse changes the null itself, and that part of its
# effect on Ω is divided out with the rest.
# ```
