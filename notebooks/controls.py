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
# # Is it learning, or shrinking volumes?
#
# > The rate of decay in topological complexity (as a metric) helps quantify the impact of architectural
# > choices on the generalization ability.
# >
# > — the paper's abstract, {cite:t}`suresh2023`

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Mean complexity divided by that of the same volumes with their values shuffled.", "name": "fig-controls-nulls"}, "image": {"alt": "Two line charts of complexity divided by that of shuffled values against relative depth, for the pretrained, the untrained and the calibrated untrained network."}} tags=["remove-input"]
place("fig-controls-nulls")

# %% [markdown]
# A rate of decay ({doc}`depth_decay`) that stood for learning could do what the paper says. But volumes
# shrink from block to block by architecture alone, and a smaller volume has room for fewer components,
# tunnels and cavities.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
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
# Three networks of one architecture: pretrained; untrained; and untrained but calibrated, its batch-norm
# statistics set to those of these images. Two nulls: every volume with *all* its values shuffled, which
# keeps only their distribution; and shuffled *within channels*, which keeps each channel's.
#
# The decay is the slope of log(1 + mean Ω) on relative depth. Relative to a null or a twin it is the
# slope of the logarithm less that of the other, on the same images and bootstrap resamples (95 %). What
# remains, divided by the decay itself, is the **share** of the decay that this null or twin does not
# have.

# %% tags=["hide-cell"]
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
from IPython.display import Markdown
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
from topo_utils.book import fill, record_finding
from topo_utils.plotting import plot_curves, plot_estimates, use_style

use_style()
NULLS = {
    "volume": "all values shuffled",
    "within_channels": "shuffled within channels",
}
fitted = partial(decay, seed=seed)


def measure(network=model, images=dataset, size=image_size, **options):
    """Omega by image, block and threshold."""
    options = {"thresholds": threshold, "n_images": n_images, **options}
    options |= {"image_size": size, "seed": seed, "progress": False}
    profile = embedding_profile(network, images, **options)
    return topological_complexity(profile).sel(
        threshold=options["thresholds"]
    )


def mean_below(curves):
    """Mean Omega by block, to divide by: NaN where it is 0."""
    return curves.mean("image").where(lambda mean: mean > 0)


blocks = model_blocks(model)
pictures, _ = load_images(dataset, image_size, n_images, seed)
untrained = load_model(model, weights="random", seed=seed)
calibrated = calibrate_batch_norm(untrained, pictures)
kinds = {
    "pretrained": {},
    "untrained": {"weights": "random"},
    "calibrated": {
        "network": calibrated,
        "images": pictures,
        "n_images": None,
    },
}
omega = {
    (kind, null): measure(**options, null=null)
    for kind, options in kinds.items()
    for null in (None, *NULLS)
}
trained = omega["pretrained", None]
for null in (None, *NULLS):  # the tensor holds the data set's images in order
    same = omega["calibrated", null].assign_coords(image=trained["image"])
    omega["calibrated", null] = same

# %%
decays = {kind: fitted(omega[kind, None]) for kind in kinds}
relative = {
    (kind, null): fitted(omega[kind, None], relative_to=omega[kind, null])
    for kind in kinds
    for null in NULLS
}
for twin in ("untrained", "calibrated"):
    relative["pretrained", twin] = fitted(
        trained, relative_to=omega[twin, None]
    )
print(relative["pretrained", "volume"], "of", decays["pretrained"])

# %% tags=["hide-cell"]
LABELS = {
    "volume": "the volume null",
    "within_channels": "the null within channels",
    "untrained": "the untrained twin",
    "calibrated": "the calibrated twin",
}
# Where it does not fall there is no decay of which to take a share.
slope, shares = decays["pretrained"].slope, {}
if decays["pretrained"].falls:
    for of in LABELS:
        value, low, high = relative["pretrained", of]
        # The slope is negative: the ends change places.
        shares[of] = Estimate(value / slope, high / slope, low / slope)
percent = {
    of: f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
    for of, (value, low, high) in shares.items()
}
shares_text = ", ".join(
    f"{text} relative to {LABELS[of]}" for of, text in percent.items()
)

figure, axes = plt.subplots(2, 1, figsize=(7.2, 6.4), sharex=True)
for ax, (null, title) in zip(axes, NULLS.items(), strict=True):
    shown = {k: omega[k, None] / mean_below(omega[k, null]) for k in kinds}
    plot_curves(ax, shown, dashed=["untrained", "calibrated"])
    ax.set_ylabel("Ω / Ω of shuffled values")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_title(title, loc="left")
axes[0].set_xlabel("")
axes[1].get_legend().remove()
plt.close(figure)
found = f"{model} has no decay to keep"
if shares:
    found = f"{model} keeps {percent['volume']} and {percent['within_channels']} of its decay"
fill(
    "fig-controls-nulls",
    figure,
    caption=f"Divided by what its own values give when all are shuffled (above), or shuffled within "
    f"channels (below), {found}. A flat curve falls just as shuffled values do. Bands: one "
    "standard error over images.",
)

# %% [markdown]
# ## How much is left, relative to what?

# %% tags=["hide-input"]
shapes, _ = block_shapes(load_model(model), image_size, blocks)
voxels = trained * 0 + np.array([np.prod(shapes[name]) for name in blocks])
per_voxel = {k: fitted(omega[k, None], relative_to=voxels) for k in kinds}
shuffled = {kind: fitted(omega[kind, "volume"]) for kind in kinds}
table = pd.DataFrame({"decay": decays, "its values, all shuffled": shuffled})
for of, name in LABELS.items():
    table[f"relative to {name}"] = [relative.get((k, of), "–") for k in kinds]
table["relative to the number of voxels"] = per_voxel
table.T

# %% tags=["remove-input"]
volume = omega["pretrained", "volume"]
without_last = fitted(trained[:, :-1], relative_to=volume[:, :-1])
Markdown(f"""
On {len(pictures)} images of `{dataset}` at η = {threshold:g}, the decay of the pretrained `{model}` is
**{decays["pretrained"]}**. Shuffling the same values gives a decay of {shuffled["pretrained"]}: that is what
a random order gives in volumes that become smaller. What remains is {relative["pretrained", "volume"]},
or without the last block {without_last}. As a share of the decay:
{shares_text or "none, since it is not below 0"}. (A negative share means that the null or twin falls
more steeply.) The number of voxels alone has a decay of {fitted(voxels).slope:.2f}; Ω per voxel has
{per_voxel["pretrained"]}.

Relative to its own shuffled values, the untrained network has {relative["untrained", "volume"]}, the
calibrated one {relative["calibrated", "volume"]}: above 0 it falls *less* than shuffled values do, below
0 more. No null is neutral. The distribution of the values, which all nulls keep, is learned too. So a
null tells what the arrangement of the values adds, and a twin tells what the training adds.
""")

# %% [markdown]
# ## How large is an accident?
#
# The order of the channels is arbitrary: a network with its channels in a different order computes the
# same function. And a network in training mode uses the batch-norm statistics of the image at hand.

# %% tags=["remove-input"]
order = measure(null="channel_order")
reordered = order.mean("image") / mean_below(trained)
per_image = {
    kind: measure(**kinds[kind], batch_norm="per_image")
    for kind in ("pretrained", "untrained")
}
per_image_decays = {
    kind: fitted(curves) for kind, curves in per_image.items()
}
Markdown(f"""
With the channels in a random order, Ω changes by factors of {reordered.min().item():.2f} to
{reordered.max().item():.2f} by block, and the decay by **{fitted(order, relative_to=trained)}**; nothing
smaller can be a property of the network. With the batch-norm statistics of each single image, the decay
is {per_image_decays["pretrained"]}, that of the untrained network {per_image_decays["untrained"]}, and
their difference {fitted(per_image["pretrained"], relative_to=per_image["untrained"])}.
""")

# %% [markdown]
# ## Is it just the picture?
#
# If so, the more complicated picture would always have the more complicated embedding: a rank
# correlation of 1, over images, between Ω of the normalised input image and Ω of the block.

# %% mystnb={"figure": {"caption": "Rank correlation, over images, of the input picture's own &Omega; with &Omega; of each block. Bands: 95 % intervals (bootstrap over images).", "name": "fig-controls-input"}, "image": {"alt": "Line chart of the rank correlation between the complexity of the input image and that of each block, from -1 to 1, against relative depth, for a pretrained and an untrained network."}} tags=["hide-input"]
picture_omega = measure(blocks=["input", *blocks]).sel(block="input").values
correlations, depth = {}, relative_depth(len(blocks))
settings = {"n_bootstrap": 1000, "seed": seed}
figure, ax = plt.subplots(figsize=(7.2, 3.8))
for kind in ("pretrained", "untrained"):

    def with_input(images, values=omega[kind, None].values):
        return correlation(picture_omega[images], values[images].T)

    found = bootstrap(with_input, len(pictures), **settings)
    plot_estimates(ax, depth, found, kind, dashed=kind == "untrained")
    correlations[kind] = found
ax.axhline(0, color="black", lw=1)
ax.set(ylim=(-1.05, 1.05), ylabel="rank correlation with the input's Ω")
ax.set_xlabel("relative depth (first block 0, last block 1)")
_ = ax.legend(fontsize=9)

# %% tags=["remove-input"]
first, *_, last = map(Estimate, *correlations["pretrained"])
positive = {
    kind: (found.low > 0).sum() for kind, found in correlations.items()
}
Markdown(f"""
The pictures themselves have a mean Ω of {picture_omega.mean():.0f}. Its correlation with Ω of the first
block is {first}, with the last {last}. The interval lies above 0 in **{positive["pretrained"]}** of
{len(blocks)} blocks of the pretrained network and in **{positive["untrained"]}** of the untrained. Where
it does, part of what differs from image to image was in the picture before any network saw it.
""")

# %% [markdown]
# ## Do the other findings survive a division by shuffled values?
#
# First Ω as it is; then Ω divided by the mean Ω of shuffled values of the same network, data and size, so
# that what a volume and its values give by themselves is taken out. The ratios have the rule of the
# chapters on invariance: *reproduced* below 0.25, *not reproduced* above 0.5, *inconclusive* where what
# should differ does not, beyond its noise. They are not the numbers of those chapters: the images are
# fewer, and the pairs are CIFAR-10 and CIFAR-100; Lite0 with Lite1 and with Lite2; the input size with
# the other sizes; and one half of the images with the other. The decay at several thresholds has the
# rule of {doc}`threshold`: *not reproduced* when it does not fall at more than half of them. For the rate
# of decay as a measure of architectures, see {doc}`architecture_choices`.

# %% tags=["hide-input"]
LITES = [f"efficientnet_lite{i}" for i in range(3)]
DATA = ["cifar10_samples", "mnist_samples", "imagenet_samples"]
few = open_images(dataset, image_size, n_images_findings, seed).indices
reference, curves = f"{model} {dataset} {image_size} pretrained", {}
for null in (None, *NULLS):  # what was measured above need not be again
    known = omega["pretrained", null]
    of_all = np.isin(few, known["image"]).all()
    curves[null] = {reference: known.sel(image=few)} if of_all else {}


def curve(
    null, network=model, images=dataset, size=image_size, weights="pretrained"
):
    """Measure a curve on few images, unless it is there; its name."""
    name = f"{network} {images} {size} {weights}"
    options = {"n_images": n_images_findings, "weights": weights}
    if name not in curves[null]:
        found = measure(network, images, size, null=null, **options)
        curves[null][name] = found
    return name


levels = sorted({threshold, *other_thresholds})
ratios, table, at_levels = {}, {}, {}
for null in curves:
    data = [curve(null, images=images) for images in DATA]
    networks = [curve(null, network) for network in LITES]
    networks.append(curve(null, LITES[0], weights="random"))
    reference, similar = curve(null), curve(null, images="cifar100_samples")
    sizes = [(curve(null, size=size), reference) for size in other_sizes]
    quotients = dict(curves[None])
    if null:
        # Times one constant, which keeps the log(1 + x) of the distance close to log x.
        known = curves[null].items()
        means = {name: 1 + each.mean("image") for name, each in known}
        scale = float(np.mean([mean.mean() for mean in means.values()]))
        for name, each in curves[None].items():
            quotient = scale * each / means[name]
            quotients[name] = quotient.assign_attrs(each.attrs)
    middle = n_images_findings // 2
    quotients["one half"] = quotients[reference][:middle]
    quotients["other half"] = quotients[reference][middle:]
    of_data, of_networks = (
        list(combinations(names, 2)) for names in (data, networks)
    )
    claims = {  # the pairs that should agree, and those that should differ
        "similar data sets": ([(data[0], similar)], of_data),
        "depth of the network": (of_networks[:2], of_networks),
        "size of the input": (sizes, of_networks),
        "part of the images": ([("one half", "other half")], of_data),
    }
    if n_images_findings < 4:
        del claims["part of the images"]  # a half needs two
    cells = table[NULLS.get(null, "as it is")] = {}
    for claim, pairs in claims.items():
        found = invariance(quotients, *pairs, seed=seed)
        cells[claim] = found, found.verdict
        if np.isfinite(found.ratio):
            ratios[f"{claim}_{null or 'raw'}".replace(" ", "_")] = found

    left = relative.get(("pretrained", null), decays["pretrained"])
    cells["decay"] = left, "falls" if left.falls else "does not fall"
    few = {"n_images": n_images_findings, "thresholds": levels}
    at_levels[null] = measure(**few, null=null)
    falls = 0
    for eta in levels:
        raw, below = (at_levels[k].sel(threshold=eta) for k in (None, null))
        falls += fitted(raw, relative_to=below if null else None).falls
    rule = "reproduced" if falls == len(levels) else "reproduced with limits"
    rule = rule if 2 * falls >= len(levels) else "not reproduced"
    told = f"falls at {falls} of {len(levels)}"
    cells["decay at several thresholds"] = told, rule
pd.DataFrame(table).map(lambda cell: cell[0])

# %% tags=["remove-input"]
plain, *others = table.items()
changed = [
    f"{label} ({plain[1][label][1]}; {title}: {rule})"
    for title, cells in others
    for label, (_, rule) in cells.items()
    if rule != plain[1][label][1]
]
Markdown(f"""
On {n_images_findings} images each, **{len(changed)}** of {len(others) * len(plain[1])} verdicts change with
the division: {"; ".join(changed) or "none"}. A verdict that changes says that part of the agreement, or
of the difference that it was measured against, was that of volumes and distributions. With few images
it may also be noise, and the chapters' own verdicts rest on more images and pairs.
""")

# %% [markdown]
# ## The rule
#
# The claim under test: the decay is made by learning, not by the shrinking of volumes. We ask whether
# more than half is learned. For each null and each untrained twin, the share of the decay that remains
# has an interval (that of the relative decay, divided by the decay). *Reproduced* when all of these lie
# above a half, *not reproduced* when all lie below a half, *reproduced with limits* between;
# *inconclusive* when the pretrained network has no decay to explain (its interval is not below 0).

# %% tags=["hide-cell"]
below = [of for of in LABELS if relative["pretrained", of].falls]
headline = ""
if not shares:
    verdict, reason = "inconclusive", f"The decay of {model} is not below 0."
else:
    verdict = "reproduced with limits"
    if all(share.low > 0.5 for share in shares.values()):
        verdict = "reproduced"
    elif all(share.high < 0.5 for share in shares.values()):
        verdict = "not reproduced"
    reason = (
        f"Of the decay {decays['pretrained']} there remains {shares_text}; what "
        f"remains is below 0 relative to {len(below)} of {len(shares)}."
    )
    headline = (
        f"{percent['volume']} of the decay is left beyond that of the same values shuffled, "
        f"{percent['untrained']} beyond that of the untrained twin; it is learned where more than half is left."
    )


def named(pattern, group):
    return {pattern.format(name): each for name, each in group.items()}


record_finding(
    claim="The decay of complexity is made by learning, not by the shrinking of volumes",
    verdict=verdict,
    reason=reason,
    headline=headline,
    numbers=named("share_of_decay_left_relative_to_{}", shares)
    | named("decay_{}", decays)
    | named("decay_{0[0]}_relative_to_{0[1]}", relative)
    | named("decay_{}_relative_to_voxels", per_voxel)
    | named("decay_{}_statistics_per_image", per_image_decays)
    | named("ratio_{}", ratios),
)

# %% [markdown]
# ## What this does not show
#
# - How much the numbers vary between untrained networks or between shuffles: there is one seed of the
#   weights, and one shuffle of each volume.
# - How it is in other architectures, or with more images: there is one architecture, and few images.
# - What learning does to the values themselves: all nulls keep their distribution, which is learned too.

# %% [markdown]
# ## What to try next
#
# - Another draw of the untrained weights and shuffles: `-p seed 1`. How much do the shares change?
# - Other images: `-p dataset mnist_samples`. What does the picture predict there?
# - Another threshold: `-p threshold 0.5`. Is the order of nulls and twins the same?
# - With an internet connection, one of the paper's networks: `topobook run controls --preset paper`.

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
options = {"thresholds": threshold, "null": "volume", "progress": False}
each = [
    embedding_profile(model, pictures[:2], seed=seed + i, **options)
    for i in range(3)
]
shuffles = np.stack([topological_complexity(one)[..., 0] for one in each])
spread = shuffles.std(axis=0, ddof=1) / np.maximum(shuffles.mean(axis=0), 1)
deviations, by_block = 100 * spread.mean(axis=0), shuffles.mean(axis=(0, 1))
ratio = by_block.max() / max(by_block.min(), 1)
pd.Series(
    {
        "deviation, median block": f"{np.median(deviations):.1f} %",
        "worst block": f"{deviations.max():.1f} %",
        "greatest / least block of the null": f"{ratio:.1f}",
    }
).to_frame("")

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
