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
# # Complexity falls with depth
#
# The claim, in the words of the paper's abstract {cite}`suresh2023`: "We demonstrate that as depth
# increases, a topologically complicated dataset is transformed into a simple one, resulting in
# Betti numbers attaining their lowest possible value."
#
# Three things are tested. Does the topological complexity Ω = β₀ + β₁ + β₂ of a block's output
# fall with depth in networks trained on ImageNet? Does it end at its lowest value? And is it
# *learning* that makes it fall: what does the same network do before it has learned anything?
#
# This page is a notebook: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters
#
# This page is a notebook, run from its source with the values below. To see it with others, type
# for instance
#
# ```
# topobook run depth_decay -p dataset cifar10_samples -p threshold 0.5
# ```

# %% tags=["parameters"]
from topo_utils.book import AtLeast, NonEmpty

# The networks: names that topo_utils.model_names() lists.
models: NonEmpty[str] = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
# The images: a name that topo_utils.dataset_names() lists, or folder:PATH.
dataset: str = "imagenet_samples"
# How many images, at least 2; None takes all.
n_images: AtLeast[2] | None = None
# Height and width to which images are resized, in pixels.
image_size: AtLeast[1] = 224
# The level eta of the sublevel sets, in units of the activations.
threshold: float = 0.0
# Of the untrained networks' weights, and of the draw of images.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# For one image, a block gives a volume of C × H × W activations. It is read as a function on a grid
# of points; the points at or below the threshold η, with the edges, squares and cubes between them,
# form the sublevel set, and its numbers of components, tunnels and cavities are β₀, β₁ and β₂ (see
# {doc}`homology_primer`). They are computed exactly. The curve of a network is Ω by block, averaged
# over images; blocks are placed on relative depth, the first at 0, the last at 1.
#
# The decay is the slope of log(1 + mean Ω) on relative depth: a slope of −1 is a fall by a factor
# e from the first block to the last. Its interval is a bootstrap over images (95 %). Each network
# is measured twice: with its ImageNet weights, and untrained, with its random initial weights.

# %%
import pandas as pd
from matplotlib import pyplot as plt

from topo_utils import (
    block_shapes,
    decay,
    embedding_profile,
    load_model,
    published_table,
    relative_depth,
    topological_complexity,
)
from topo_utils.book import glue, record_finding
from topo_utils.plotting import COLOURS, interactive_curves, log_counts, plot_curves, use_style

use_style()


def profile(model, weights, batch_norm="eval"):
    """Betti numbers by image, block and degree."""
    return embedding_profile(
        model,
        dataset,
        thresholds=threshold,
        n_images=n_images,
        image_size=image_size,
        weights=weights,
        batch_norm=batch_norm,
        seed=seed,
        progress=False,
    ).sel(threshold=threshold)


profiles = {model: profile(model, "pretrained") for model in models}
untrained_profiles = {model: profile(model, "random") for model in models}
pretrained = {model: topological_complexity(profiles[model]) for model in models}
untrained = {model: topological_complexity(untrained_profiles[model]) for model in models}

# %% [markdown]
# ## Trained and untrained

# %% mystnb={"figure": {"caption": "Topological complexity by block for pretrained networks (solid) and the same architectures with random initial weights (dashed). Bands: one standard error over images.", "name": "fig-depth-decay"}, "image": {"alt": "Line chart of mean complexity on a logarithmic axis against relative depth. The solid curves of the pretrained networks and the dashed curves of the untrained ones both fall."}} tags=["hide-input"]
figure, ax = plt.subplots()
curves = {f"{model} (pretrained)": pretrained[model] for model in models}
random_curves = {f"{model} (untrained)": untrained[model] for model in models}
plot_curves(ax, curves | random_curves, dashed=random_curves)


# %% tags=["hide-cell"]
# In the book, the points of this figure tell their block, its shape and its Betti numbers.
shapes = {
    model: block_shapes(load_model(model, weights="random"), image_size)[0] for model in models
}
interactive_curves(
    "fig-depth-decay",
    {f"{model} (pretrained)": profiles[model] for model in models}
    | {f"{model} (untrained)": untrained_profiles[model] for model in models},
    {
        f"{model} ({kind})": [shapes[model][name] for name in profiles[model]["block"].values]
        for model in models
        for kind in ("pretrained", "untrained")
    },
    dashed=random_curves,
)

# %% tags=["hide-input"]
decays = {model: decay(pretrained[model]) for model in models}
decays_untrained = {model: decay(untrained[model]) for model in models}
differences = {model: decay(pretrained[model], relative_to=untrained[model]) for model in models}
pd.DataFrame(
    {
        model: {
            "decay, pretrained": str(decays[model]),
            "decay, untrained": str(decays_untrained[model]),
            "difference (paired)": str(differences[model]),
            "first Ω, pretrained": f"{decays[model].first:,.0f}",
            "last Ω, pretrained": f"{decays[model].last:,.0f}",
            "depth of minimum": f"{decays[model].minimum_depth:.2f}",
        }
        for model in models
    }
)

# %% tags=["remove-cell"]
first = models[0]
steeper = sum(found.falls for found in differences.values())
glue(
    first_model=first,
    n_networks=len(models),
    used_images=pretrained[first].sizes["image"],
    falling=sum(found.falls for found in decays.values()),
    falling_untrained=sum(found.falls for found in decays_untrained.values()),
    steeper=steeper,
    slope=decays[first].slope,
    slope_low=decays[first].low,
    slope_high=decays[first].high,
    slope_untrained=decays_untrained[first].slope,
    omega_first=decays[first].first,
    omega_last=decays[first].last,
    ends_at_minimum=sum(found.last <= 1.05 * found.minimum for found in decays.values()),
    lowest_last=min(found.last for found in decays.values()),
    eta=threshold,
    images_name=dataset,
)

# %% [markdown]
# On {glue:text}`used_images` images of {glue:text}`images_name` at η = {glue:text}`eta`, complexity
# falls in {glue:text}`falling` of {glue:text}`n_networks` pretrained networks (the interval of the
# decay lies below 0), and in {glue:text}`falling_untrained` of {glue:text}`n_networks` that were
# never trained. In {glue:text}`first_model` it goes from {glue:text}`omega_first:.0f` to
# {glue:text}`omega_last:.0f`, a decay of {glue:text}`slope:.2f` [{glue:text}`slope_low:.2f`,
# {glue:text}`slope_high:.2f`]; its untrained twin has {glue:text}`slope_untrained:.2f`. The trained
# network falls more steeply than its twin, with an interval of the paired difference below 0, in
# {glue:text}`steeper` of {glue:text}`n_networks`.
#
# What falls in a network that has learned nothing cannot be what was learned: the volumes shrink
# from block to block, and a smaller volume has room for fewer components, tunnels and cavities. The
# curve alone does not tell the two apart; the difference to the untrained twin is the part that
# training makes.
#
# The curve ends within 5 % of its own minimum in {glue:text}`ends_at_minimum` of
# {glue:text}`n_networks` pretrained networks. The *lowest possible* value would be Ω = 1 for any
# sublevel set with a point in it (one component, no tunnel, no cavity); the lowest mean at a last
# block here is {glue:text}`lowest_last:.0f`.

# %% [markdown]
# ## The published curves
#
# The authors published the Betti numbers of nine torchvision networks, pretrained on ImageNet and
# fed 2,000 CIFAR-10 images. The curves below are theirs, averaged over images; a dot marks the
# minimum of each. The threshold is not recorded with them; it was at least 0, since batch norm and
# ReLU give the same numbers.

# %% mystnb={"figure": {"caption": "The published curves of nine networks on CIFAR-10, one colour a family; a dot marks each minimum. Data: the authors' arrays (see the page on data).", "name": "fig-published"}, "image": {"alt": "Line chart of complexity on a logarithmic axis against relative depth for nine networks. Most curves fall, reach a minimum before the last block, and rise again."}} tags=["hide-input"]
table = published_table("suresh2023_cifar10_betti")
published = {
    name: rows.sort_values("block")["omega_mean"].to_numpy()
    for name, rows in table.groupby("model", sort=False)
}
families = [
    ("vgg16",),
    ("resnet18", "resnet50", "resnet101", "resnet152"),
    ("mobilenet_v2",),
    ("densenet121", "densenet169", "densenet201"),
]
figure, ax = plt.subplots(figsize=(7.2, 4.8))
for family, colour in zip(families, COLOURS, strict=False):
    for name, style in zip(family, ("-", "--", "-.", ":"), strict=False):
        curve, depth = published[name], relative_depth(len(published[name]))
        ax.plot(depth, curve, style, color=colour, label=name, lw=1.4)
        ax.plot(depth[curve.argmin()], curve.min(), "o", color=colour)
log_counts(ax)
ax.set(xlabel="relative depth (first block 0, last block 1)", ylabel="Ω, mean over 2,000 images")
_ = figure.legend(ncols=5, fontsize=9, loc="outside upper center")

# %% tags=["hide-input"]
# The table holds means over images, not the images: their decay has no interval here.
published_decays = {name: decay([curve, curve]) for name, curve in published.items()}
pd.DataFrame(
    {
        "blocks": [len(curve) for curve in published.values()],
        "decay": [f"{found.slope:.2f}" for found in published_decays.values()],
        "Ω, first": [f"{found.first:,.0f}" for found in published_decays.values()],
        "Ω, minimum": [f"{found.minimum:,.0f}" for found in published_decays.values()],
        "Ω, last": [f"{found.last:,.0f}" for found in published_decays.values()],
        "depth of minimum": [f"{found.minimum_depth:.2f}" for found in published_decays.values()],
    },
    index=list(published),
)

# %% tags=["remove-cell"]
at_minimum = [name for name, found in published_decays.items() if found.last == found.minimum]
glue(
    published_count=len(published),
    published_falling=sum(found.slope < 0 for found in published_decays.values()),
    published_at_minimum=len(at_minimum),
    published_at_minimum_names=", ".join(at_minimum),
    published_above_first=sum(found.last > found.first for found in published_decays.values()),
    resnet50_minimum=published_decays["resnet50"].minimum,
    resnet50_last=published_decays["resnet50"].last,
)

# %% [markdown]
# The fitted slope is negative for {glue:text}`published_falling` of {glue:text}`published_count`
# published curves, but only {glue:text}`published_at_minimum` of them
# ({glue:text}`published_at_minimum_names`) ends at its minimum. In ResNet-50, for instance, Ω falls
# to {glue:text}`resnet50_minimum:.0f` and then rises to {glue:text}`resnet50_last:.0f` at the last
# block; {glue:text}`published_above_first` curves end above the value they started from.

# %% [markdown]
# ## Batch norm: whose statistics?
#
# One caution belongs to the rise at the end. The authors' public code never switches a network to
# evaluation mode and feeds it one image at a time, so their curves may have been measured with
# batch-norm statistics of the single image instead of those learned in training. Here is the first
# network both ways.

# %% mystnb={"figure": {"caption": "One pretrained network with the batch-norm statistics of its training (solid) and with those of each single image (dashed).", "name": "fig-batch-norm"}, "image": {"alt": "Line chart of mean complexity against relative depth for one network, with learned and with per-image batch-norm statistics."}} tags=["hide-input"]
per_image = topological_complexity(profile(first, "pretrained", batch_norm="per_image"))
figure, ax = plt.subplots(figsize=(7.2, 3.6))
dashed = f"{first} (statistics per image)"
plot_curves(
    ax, {f"{first} (learned statistics)": pretrained[first], dashed: per_image}, dashed=[dashed]
)

# %% tags=["remove-cell"]
last_two = [curve.mean("image").values[-2:] for curve in (pretrained[first], per_image)]
step_eval, step_per_image = (last / before if before else float("nan") for before, last in last_two)
per_image_decay = decay(per_image)
glue(
    step_eval=step_eval,
    step_per_image=step_per_image,
    per_image_slope=per_image_decay.slope,
    per_image_low=per_image_decay.low,
    per_image_high=per_image_decay.high,
)

# %% [markdown]
# From the last block but one to the last, Ω of {glue:text}`first_model` changes by a factor of
# {glue:text}`step_eval:.2f` with the learned statistics, and of {glue:text}`step_per_image:.2f` with
# those of the single image. The decay with them is {glue:text}`per_image_slope:.2f`
# [{glue:text}`per_image_low:.2f`, {glue:text}`per_image_high:.2f`]. VGG-16, the one published
# network without batch norm, is also the one whose curve ends at its minimum. Which mode the
# published curves were measured in is not recorded, so where they rise at the end this cannot be
# told from a property of the networks.

# %% [markdown]
# ## Verdict
#
# The rule was fixed beforehand: *not reproduced* if complexity rises in some network (the interval
# of the decay lies above 0), *inconclusive* if some interval contains 0 or complexity does not
# change at all, as where the threshold lies beyond all values; if it falls in all, *reproduced* when
# no untrained twin falls too, each has something to count, and every curve ends within 5 % of its
# minimum, and *reproduced with limits* otherwise.


# %% tags=["hide-input"]
def depth_decay_verdict(pretrained, untrained):
    """Verdict and reason from the decays of networks and of their untrained twins, by name."""
    rising = [name for name, found in pretrained.items() if found.rises]
    flat = [name for name, found in pretrained.items() if found.is_flat]
    unclear = [name for name, found in pretrained.items() if not (found.rises or found.falls)]
    if rising:
        return "not reproduced", f"complexity rises with depth in {', '.join(rising)}."
    if flat:
        return "inconclusive", (
            f"the decay is exactly 0 in {', '.join(flat)}, as where the threshold lies beyond all "
            "values and there is nothing to count."
        )
    if unclear:
        return "inconclusive", f"the interval of the decay contains 0 in {', '.join(unclear)}."
    also = [name for name, found in untrained.items() if found.falls]
    blank = [name for name, found in untrained.items() if found.is_flat]
    above = [name for name, found in pretrained.items() if found.last > 1.05 * found.minimum]
    reason = f"complexity falls with depth in {len(pretrained)} of {len(pretrained)} networks"
    limits = []
    if also:
        limits.append(f"it also falls in {len(also)} of {len(untrained)} without any training")
    if blank:
        limits.append(f"the decay is exactly 0 in {len(blank)} of {len(untrained)} untrained ones")
    if above:
        limits.append(f"{', '.join(above)} end above their minimum")
    if not limits:
        return "reproduced", f"{reason}, in none without training, and each ends at its minimum."
    return "reproduced with limits", f"{reason}, but {', and '.join(limits)}."


verdict, reason = depth_decay_verdict(decays, decays_untrained)
record_finding(
    claim="Topological complexity falls with depth to its lowest value",
    verdict=verdict,
    reason=reason[0].upper() + reason[1:],
    numbers={
        f"decay_{model}_{kind}": found
        for kind, group in (
            ("pretrained", decays),
            ("untrained", decays_untrained),
            ("pretrained_less_untrained", differences),
        )
        for model, found in group.items()
    }
    | {"published_curves_that_end_at_their_minimum": len(at_minimum)}
    | {
        f"last_step_{statistics}_statistics": step
        for statistics, step in (("learned", step_eval), ("per_image", step_per_image))
        if step == step  # there is none from 0
    },
)

# %% [markdown]
# ## What to try next
#
# - Other images: `-p dataset cifar10_samples`, `mnist_samples`, or `folder:PATH` with your own.
# - Another threshold: `-p threshold 0.5`. Does the order of the networks stay the same?
# - Smaller inputs: `-p image_size 128`. What happens to the untrained curves?
# - Where there is a network, the paper's own: `topobook run depth_decay --preset paper`.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} Down, and up again
# :label: ex-depth-decay-1
# ```
#
# A straight line is a poor summary of a curve that falls and rises. Cut the mean curve of the first
# pretrained network at its minimum, and give the decay of both parts.
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-depth-decay-1
# :label: sol-depth-decay-1
# :class: dropdown
# ```
#
# The decay of a part is per depth of that part. Where the minimum is the first or the last block,
# there is only one part.

# %%
lowest = int(pretrained[first].mean("image").values.argmin())
parts = {
    "up to the minimum": pretrained[first].isel(block=slice(None, lowest + 1)),
    "from the minimum on": pretrained[first].isel(block=slice(lowest, None)),
}
pd.DataFrame(
    {
        name: {"blocks": part.sizes["block"], "decay": str(decay(part))}
        for name, part in parts.items()
        if part.sizes["block"] > 1
    }
).T

# %% [markdown]
# The cut was chosen by looking at the same images, so that the second part has to rise and the
# interval is too narrow: to test a rise, find the minimum on one half of the images and fit on the
# other.
#
# ```{solution-end}
# ```
#
# ```{exercise} What the slope does not see
# :label: ex-depth-decay-2
#
# All Ω of a network are multiplied by 10. What becomes of the decay? And what if instead the
# network is given ten blocks more, all at the end, with Ω as in the last block?
# ```
#
# ```{solution} ex-depth-decay-2
# :label: sol-depth-decay-2
# :class: dropdown
#
# log(10 Ω) = log 10 + log Ω: the line moves up, and its slope stays (up to the 1 in log(1 + Ω),
# which counts only where Ω is small). So the decay does not tell a complicated network from a
# simple one, only how the complexity changes. The ten blocks push all others towards relative depth
# 0 and add a flat end. The curve from first to last value is the same, but the fitted line is
# another one: relative depth is a choice, and a slope on it depends on how many blocks are counted,
# and where.
# ```
