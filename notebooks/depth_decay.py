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
# # Does complexity fall with depth?
#
# > We demonstrate that as depth increases, a topologically complicated dataset is transformed into a
# > simple one, resulting in Betti numbers attaining their lowest possible value.
# >
# > — the paper's abstract, {cite:t}`suresh2023`

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Complexity by block.", "name": "fig-depth-decay"}, "image": {"alt": "Line chart of mean complexity on a logarithmic axis against relative depth. The solid curves of the pretrained networks and the dashed curves of the untrained ones both fall."}} tags=["remove-input"]
place("fig-depth-decay")

# %% [markdown]
# You need to know what Betti numbers of a sublevel set are: {doc}`homology_primer` counts some on
# shapes that you can check by eye.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from topo_utils.book import AtLeast, NonEmpty

# The networks: names that topo_utils.model_names() lists.
models: NonEmpty[str] = [
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
]
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
# For one image, a block gives a volume of C × H × W activations, read as a function on a grid. The
# points at or below the threshold η, with the edges, squares and cubes between them, are the sublevel
# set. Its components, tunnels and cavities (β₀, β₁, β₂) are counted exactly; Ω is their sum.
#
# A network's curve is Ω by block, averaged over images; relative depth is 0 at the first block and 1
# at the last. The **decay** is the slope of log(1 + mean Ω) on relative depth: −1 is a fall by a
# factor e along the network. Its interval is a bootstrap over images (95 %). Each network is measured
# twice: with its ImageNet weights, and untrained, with random initial weights.

# %% tags=["hide-cell"]
import pandas as pd
from IPython.display import Markdown
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
from topo_utils.book import fill, record_finding
from topo_utils.plotting import (
    COLOURS,
    interactive_curves,
    log_counts,
    plot_curves,
    use_style,
)

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


# %%
kinds = {"pretrained": "pretrained", "untrained": "random"}
profiles = {
    f"{model} ({kind})": profile(model, weights)
    for kind, weights in kinds.items()
    for model in models
}
omega = {label: topological_complexity(p) for label, p in profiles.items()}
every = {label: decay(curve) for label, curve in omega.items()}
trained = f"{models[0]} (pretrained)"
print(every[trained])

# %% [markdown]
# ## By how much, and is it learning?

# %% tags=["hide-input"]
decays, twin_decays = (
    {model: every[f"{model} ({kind})"] for model in models} for kind in kinds
)
gaps = {
    model: decay(
        omega[f"{model} (pretrained)"],
        relative_to=omega[f"{model} (untrained)"],
    )
    for model in models
}
pd.DataFrame(
    {
        label: {
            "decay": str(found),
            "first Ω": f"{found.first:,.0f}",
            "last Ω": f"{found.last:,.0f}",
            "depth of minimum": f"{found.minimum_depth:.2f}",
        }
        for label, found in every.items()
    }
    | {
        f"{m}, difference (paired)": {"decay": str(gap)}
        for m, gap in gaps.items()
    }
).T.fillna("")

# %% tags=["remove-input"]
first, n = models[0], len(models)
falling, twins_falling, steeper = (
    sum(found.falls for found in group.values())
    for group in (decays, twin_decays, gaps)
)
at_end = sum(found.last <= 1.05 * found.minimum for found in decays.values())
Markdown(f"""
On {omega[trained].sizes["image"]} images of `{dataset}` at η = {threshold:g}, complexity falls in
{falling} of {n} pretrained networks (the interval of the decay lies below 0), and in
{twins_falling} of {n} that were never trained. In `{first}` it goes from {decays[first].first:.0f}
to {decays[first].last:.0f}, a decay of **{decays[first]}**; its untrained twin has
{twin_decays[first].slope:.2f}. The trained network falls more steeply than its twin, with an
interval of the paired difference below 0, in {steeper} of {n}.

What falls in a network that has learned nothing cannot be what was learned: the volumes shrink from
block to block, and a smaller volume has room for fewer components, tunnels and cavities. The curve
alone does not tell the two apart; the difference from the untrained twin is the part that training
makes.

The curve ends within 5 % of its own minimum in {at_end} of {n} pretrained networks. The *lowest
possible* value would be Ω = 1 for any sublevel set with a point in it: one component, no tunnel, no
cavity. The lowest mean at a last block here is {min(d.last for d in decays.values()):.0f}.
""")

# %% tags=["hide-cell"]
dashed = [label for label in omega if "untrained" in label]
figure, ax = plt.subplots()
plot_curves(ax, omega, dashed=dashed)
plt.close(figure)
fill(
    "fig-depth-decay",
    figure,
    caption=f"Complexity falls with depth in {falling} of {n} trained networks (solid), and in "
    f"{twins_falling} of {n} before any training (dashed). Each point is a block; bands are one "
    "standard error over images. In the book, points tell their shape and Betti numbers.",
)
shapes = {}
for label, found in profiles.items():
    network = load_model(label.partition(" (")[0], weights="random")
    shape, _ = block_shapes(network, image_size)
    shapes[label] = [shape[block] for block in found["block"].values]
interactive_curves("fig-depth-decay", profiles, shapes, dashed=dashed)

# %% [markdown]
# ## Do the published curves fall to their lowest value?
#
# The authors published the Betti numbers of nine torchvision networks, pretrained on ImageNet and fed
# 2,000 CIFAR-10 images. The curves below are theirs, averaged over images. The threshold is not
# recorded with them; it was at least 0, since batch norm and ReLU give the same numbers.

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
ax.set(
    xlabel="relative depth (first block 0, last block 1)",
    ylabel="Ω, mean over 2,000 images",
)
_ = figure.legend(ncols=5, fontsize=9, loc="outside upper center")

# %% tags=["hide-input"]
# The table holds means over images, not the images: their decay has no interval here.
published_decays = {
    n: decay([curve, curve]) for n, curve in published.items()
}
pd.DataFrame(
    {
        name: {
            "blocks": len(published[name]),
            "decay": f"{found.slope:.2f}",
            "Ω, first": f"{found.first:,.0f}",
            "Ω, minimum": f"{found.minimum:,.0f}",
            "Ω, last": f"{found.last:,.0f}",
            "depth of minimum": f"{found.minimum_depth:.2f}",
        }
        for name, found in published_decays.items()
    }
).T

# %% tags=["remove-input"]
at_minimum = [
    name
    for name, found in published_decays.items()
    if found.last == found.minimum
]
rising = sum(found.last > found.first for found in published_decays.values())
resnet50 = published_decays["resnet50"]
Markdown(f"""
The fitted slope is negative for {sum(found.slope < 0 for found in published_decays.values())} of
{len(published)} published curves, but only **{len(at_minimum)}** ({", ".join(at_minimum)}) ends at its
minimum. In ResNet-50, for instance, Ω falls to {resnet50.minimum:.0f} and then rises to
{resnet50.last:.0f} at the last block; {rising} curves end above the value they started from.
""")

# %% [markdown]
# ## Does batch norm make the rise at the end?
#
# The authors' public code never switches a network to evaluation mode and feeds it one image at a
# time. Their curves may therefore have been measured with batch-norm statistics of the single image,
# and not with those learned in training. Here is the first network both ways.

# %% mystnb={"figure": {"caption": "One pretrained network with the batch-norm statistics of its training (solid) and with those of each single image (dashed): look at the last step.", "name": "fig-batch-norm"}, "image": {"alt": "Line chart of mean complexity against relative depth for one network, with learned and with per-image batch-norm statistics."}} tags=["hide-input"]
per_image = topological_complexity(
    profile(first, "pretrained", batch_norm="per_image")
)
figure, ax = plt.subplots(figsize=(7.2, 3.6))
dashed = f"{first} (statistics per image)"
both = {f"{first} (learned statistics)": omega[trained], dashed: per_image}
plot_curves(ax, both, dashed=[dashed])

# %% tags=["remove-input"]
last_two = [curve.mean("image").values[-2:] for curve in both.values()]
step, step_per_image = (
    last / before if before else float("nan") for before, last in last_two
)
Markdown(f"""
From the last block but one to the last, Ω of `{first}` changes by a factor of {step:.2f} with the
learned statistics, and of {step_per_image:.2f} with those of the single image. The decay with them is
{decay(per_image)}. VGG-16, the one published network without batch norm, is also the one whose curve
ends at its minimum. Which mode the published curves were measured in is unknown, so their final rise
may come from it.
""")

# %% [markdown]
# ## The rule
#
# Fixed beforehand: *not reproduced* if complexity rises in some network (the interval of the decay
# lies above 0); *inconclusive* if some interval contains 0, or if complexity does not change at all, as
# where the threshold lies beyond all values. If it falls in all: *reproduced* when no untrained twin
# falls too, each has something to count, and every curve ends within 5 % of its minimum; else
# *reproduced with limits*.


# %% tags=["hide-cell"]
def depth_decay_verdict(pretrained, untrained):
    """Verdict and reason from the decays of networks and of their untrained twins, by name."""
    rising = [name for name, found in pretrained.items() if found.rises]
    flat = [name for name, found in pretrained.items() if found.is_flat]
    unclear = [
        name
        for name, found in pretrained.items()
        if not (found.rises or found.falls)
    ]
    if rising:
        return (
            "not reproduced",
            f"complexity rises with depth in {', '.join(rising)}.",
        )
    if flat:
        return "inconclusive", (
            f"the decay is exactly 0 in {', '.join(flat)}, as where the threshold lies beyond all "
            "values and there is nothing to count."
        )
    if unclear:
        return (
            "inconclusive",
            f"the interval of the decay contains 0 in {', '.join(unclear)}.",
        )
    also = [name for name, found in untrained.items() if found.falls]
    blank = [name for name, found in untrained.items() if found.is_flat]
    above = [
        name
        for name, found in pretrained.items()
        if found.last > 1.05 * found.minimum
    ]
    reason = f"complexity falls with depth in {len(pretrained)} of {len(pretrained)} networks"
    limits = []
    if also:
        limits.append(
            f"it also falls in {len(also)} of {len(untrained)} without any training"
        )
    if blank:
        limits.append(
            f"the decay is exactly 0 in {len(blank)} of {len(untrained)} untrained ones"
        )
    if above:
        limits.append(f"{', '.join(above)} end above their minimum")
    if not limits:
        return (
            "reproduced",
            f"{reason}, in none without training, and each ends at its minimum.",
        )
    return "reproduced with limits", f"{reason}, but {', and '.join(limits)}."


verdict, reason = depth_decay_verdict(decays, twin_decays)
record_finding(
    claim="Topological complexity falls with depth to its lowest value",
    verdict=verdict,
    reason=f"{reason[0].upper()}{reason[1:]} Of the {len(published)} published curves, "
    f"{len(published) - len(at_minimum)} do not end at their minimum.",
    headline=f"Decay of {first}: {decays[first]}; of its untrained twin: {twin_decays[first]}.",
    numbers={
        f"decay_{model}_{kind}": found
        for kind, group in (
            ("pretrained", decays),
            ("untrained", twin_decays),
            ("pretrained_less_untrained", gaps),
        )
        for model, found in group.items()
    }
    | {"published_curves_that_end_at_their_minimum": len(at_minimum)}
    | {
        f"last_step_{statistics}_statistics": value
        for statistics, value in (
            ("learned", step),
            ("per_image", step_per_image),
        )
        if value == value  # there is none from 0
    },
)

# %% [markdown]
# ## What this does not show
#
# - That what falls was learned: untrained networks fall too, since their volumes shrink.
#   {doc}`controls` takes that out.
# - That the curve says anything of accuracy: see {doc}`architecture_choices`.
# - What happens at a different threshold: see {doc}`threshold`.

# %% [markdown]
# ## What to try next
#
# - Other images: `-p dataset cifar10_samples`, `mnist_samples`, or `folder:PATH` with your own.
# - Another threshold: `-p threshold 0.5`. Does the order of the networks stay the same?
# - Smaller inputs: `-p image_size 128`. What happens to the untrained curves?
# - With an internet connection, the paper's own: `topobook run depth_decay --preset paper`.

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
lowest = int(omega[trained].mean("image").values.argmin())
parts = {
    "up to the minimum": omega[trained].isel(block=slice(None, lowest + 1)),
    "from the minimum on": omega[trained].isel(block=slice(lowest, None)),
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
