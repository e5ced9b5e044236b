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
# # Do the conclusions depend on the threshold?
#
# > Betti numbers attaining their lowest possible value
# >
# > the rate of decay in topological complexity
# >
# > — the paper's abstract, {cite:t}`suresh2023`, which names no threshold

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Decay against threshold.", "name": "fig-threshold-decay"}, "image": {"alt": "Line chart of the decay against the threshold, one solid line for each pretrained network and a dashed one for an untrained network, with bands for the intervals and a line at zero."}} tags=["remove-input"]
place("fig-threshold-decay")

# %% [markdown]
# You need to know what a sublevel set is ({doc}`homology_primer`) and what the decay is
# ({doc}`depth_decay`). Every count depends on the level η: the authors' public code plots it from 0 to
# 1.75 in steps of 0.25, and most chapters of this book take η = 0.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from topo_utils.book import AtLeast, NonEmpty

# The networks: names that topo_utils.model_names() lists; the first is looked at more closely.
models: NonEmpty[str] = [
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
]
# The images: a name that topo_utils.dataset_names() lists, or folder:PATH.
dataset: str = "imagenet_samples"
# Two data sets that are held to be similar.
similar: list[str] = ["cifar10_samples", "cifar100_samples"]
# A data set that is held to differ from the first of them.
dissimilar: str = "mnist_samples"
# How many images of each data set, at least 2; None takes all.
n_images: AtLeast[2] | None = None
# Height and width to which images are resized, in pixels.
image_size: AtLeast[1] = 224
# The levels eta, in units of the activations; 0 is added where it is missing.
thresholds: list[float] = [
    -1.75, -1.5, -1.25, -1.0, -0.75, -0.5, -0.25,
    0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75,
]  # fmt: skip
# Levels on a scale that all blocks share: the fraction of a volume's values at or below them.
quantiles: NonEmpty[float] = [0.1, 0.25, 0.5, 0.75, 0.9]
# Of the untrained network's weights, the draw of images and the bootstrap.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# Four kinds of conclusions are drawn again at each threshold: complexity falls with depth; it falls
# more steeply than in the untrained twin; the order of the networks by decay; similar data sets lie
# nearer to each other than dissimilar ones.
#
# A conclusion *holds* when the interval of its number (95 %, a bootstrap over images) lies on the
# right side: the decay below 0; the paired difference of two decays below 0, at common points of
# relative depth; the ratio of two distances below 1.
#
# The values of a network that has never seen an image can be so small that any η but 0 lies beyond
# them, and no shape is left to count. So the twin's batch norm is first calibrated on these images.

# %% tags=["hide-cell"]
from itertools import permutations, zip_longest

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib import pyplot as plt

from topo_utils import (
    betti_numbers,
    block_outputs,
    calibrate_batch_norm,
    decay,
    embedding_profile,
    invariance,
    load_images,
    load_model,
    model_blocks,
    relative_depth,
    topological_complexity,
)
from topo_utils.book import fill, record_finding
from topo_utils.plotting import plot_betti_curves, plot_curves, use_style

use_style()
etas = sorted({*thresholds, 0.0})
levels = sorted(set(quantiles))
if len(etas) < 2 or not 0 < levels[0] <= levels[-1] < 1:
    raise ValueError("needed: a threshold but 0, and quantiles in (0, 1)")
if len(similar) != 2 or len({*similar, dissimilar}) != 3:
    raise ValueError("similar and dissimilar: needed are three data sets")


def omega_of(model, images=dataset, **more):
    """Omega by threshold, image and block."""
    options = {"n_images": n_images, "image_size": image_size, "seed": seed}
    profile = embedding_profile(
        model, images, thresholds=etas, progress=False, **options | more
    )
    return topological_complexity(profile).transpose("threshold", ...)


def decays_of(omega, less=(), n_bootstrap=1000):
    """The decay at each level of Omega (level, image, block)."""
    settings = {"n_bootstrap": n_bootstrap, "seed": seed}
    pairs = zip_longest(omega, less)  # without others, None
    return [decay(one, relative_to=other, **settings) for one, other in pairs]


# %%
first = models[0]
trained = {model: omega_of(model) for model in dict.fromkeys(models)}
decays = {model: decays_of(omega) for model, omega in trained.items()}
zero = etas.index(0.0)
flattest = max(range(len(etas)), key=lambda i: decays[first][i].slope)
print(f"at η = 0: {decays[first][zero]}")
print(f"flattest, at η = {etas[flattest]:g}: {decays[first][flattest]}")

# %% [markdown]
# ## Which conclusions survive?
#
# Each conclusion, and at how many thresholds it holds; *open* means that the interval contains 0 (or
# 1, for the data sets), *reversed* that it lies on the other side.

# %% tags=["hide-cell"]
images, _ = load_images(dataset, image_size, n_images, seed)
twin = load_model(first, weights="random", seed=seed)
twin = calibrate_batch_norm(twin, images)
untrained = omega_of(twin, images).values
data = {name: omega_of(first, name) for name in (*similar, dissimilar)}


def common_depth(omega):
    """Omega at 32 points of relative depth, for any number of blocks."""
    omega = omega.assign_coords(block=relative_depth(omega.sizes["block"]))
    return omega.interp(block=np.linspace(0, 1, 32))


def nearness(eta):
    """Distance of the similar data sets over that of the dissimilar ones."""
    curves = {name: omega.sel(threshold=eta) for name, omega in data.items()}
    different = [(similar[0], dissimilar)]
    return invariance(curves, [similar], different, seed=seed)


def omega_at_quantiles(model):
    """Omega where each volume has its own levels (level, image, block)."""
    found = []
    with block_outputs(model, model_blocks(model)) as run:
        for image in images:
            outputs = run(image[None]).values()
            volumes = [output[0].double().numpy() for output in outputs]
            cuts = [np.quantile(volume, levels) for volume in volumes]
            found.append(list(map(betti_numbers, volumes, cuts)))
    return np.moveaxis(topological_complexity(found), -1, 0)


def judged(found, bound=0):
    """What becomes of a conclusion at each level."""
    # Curves that are constant have a decay of 0 up to rounding.
    _, low, high = np.array([[*each] for each in found]).T
    sides = [high < bound - 1e-9, low > bound + 1e-9]
    states = np.select(sides, ["holds", "reversed"], "open")
    return pd.Series(states, index=[*at_etas, *at_shares][: len(found)])


def short(name):
    return name.removeprefix("efficientnet_").removesuffix("_samples")


own, own_twin = map(omega_at_quantiles, (load_model(first), twin))
quantile_decays = decays_of(own, n_bootstrap=2000)
quantile_gaps = decays_of(own, own_twin, n_bootstrap=2000)
twin_decays, gaps = decays_of(untrained), decays_of(trained[first], untrained)

at_etas = [f"η = {eta}" for eta in etas]
at_shares = [f"{100 * level:g}% of the points" for level in levels]
states = {}
for model, each in decays.items():
    states[f"decay of {short(model)} is negative"] = judged(each)
falling, *_ = states
states[falling] = judged(decays[first] + quantile_decays)
steeper = f"{short(first)} falls more steeply than untrained"
states[steeper] = judged(gaps + quantile_gaps)
at_depth = {model: common_depth(omega) for model, omega in trained.items()}
for a, b in permutations(trained, 2):
    less = decays_of(at_depth[a], at_depth[b])
    order = f"{short(a)} falls more steeply than {short(b)}"
    if less[zero].slope < 0:  # of the two orders, the one at 0
        states[order] = judged(less)
near = "{} is nearer to {} than to {}".format(*map(short, data))
states[near] = judged([nearness(eta) for eta in etas], 1)
states = pd.DataFrame(states, index=[*at_etas, *at_shares])

# Where complexity does not change at all, as with all sublevel sets empty or
# full, nothing is told.
changing = [not found.is_flat for found in decays[first]]
counted = [eta for eta, told in zip(at_etas, changing, strict=True) if told]
at_zero = states.columns[states.loc[at_etas[zero]] == "holds"]
failing = states.loc[counted + at_shares, at_zero].isin(["open", "reversed"])
lost = {n: ", ".join(w.index[w]) for n, w in failing.items() if w.any()}
tested = states.loc[at_etas]
words = ("holds", "open", "reversed")
summary = pd.DataFrame({word: (tested == word).sum() for word in words})
summary.insert(0, "at η = 0", tested.loc[at_etas[zero]])
held = summary["holds"]

figure, ax = plt.subplots()
lines = decays | {f"{first} (untrained)": twin_decays}
for i, (label, each) in enumerate(lines.items()):
    value, low, high = np.array([[*found] for found in each]).T
    colour, dash = f"C{i % len(decays)}", "--" if i == len(decays) else "-"
    ax.plot(etas, value, "o" + dash, color=colour, ms=3, label=label)
    ax.fill_between(etas, low, high, color=colour, alpha=0.18, lw=0)
ax.axhline(0, color="black", lw=1)
ax.set(xlabel="threshold η (units of the activations)", ylabel="decay")
figure.legend(fontsize=9, ncols=2, loc="outside upper center")
plt.close(figure)
fill(
    "fig-threshold-decay",
    figure,
    caption=f"In {first} complexity falls with depth (the decay is below 0) at "
    f"{held[falling]} of {len(etas)} thresholds, in its untrained twin (dashed, batch "
    f"norm calibrated) at {sum(found.falls for found in twin_decays)}. Bands: "
    "95 % intervals over images.",
)

# %% tags=["hide-input"]
summary

# %% tags=["remove-input"]
trivial = (omega_of(first, weights="random").mean("image") <= 1).any("block")
gone = "; ".join(f"{name} (not at {where})" for name, where in lost.items())
slope = decays[first]
Markdown(f"""
On {len(images)} images of `{dataset}`, the decay of `{first}` is {slope[zero]} at η = 0. Of {len(etas)}
thresholds from {etas[0]:g} to {etas[-1]:g}, it is flattest at {etas[flattest]:g}:
**{slope[flattest]}**. At η = 0, {len(at_zero)} of the {len(states.columns)} conclusions hold;
**{len(at_zero) - len(lost)}** of these hold at every threshold and quantile. Lost somewhere:
{gone or "none"}.

The twin's calibration matters. Without it, some block of the twin has Ω of 1 or less at
{trivial.sum().item()} of {len(etas)} thresholds: η lies beyond its values, and its decay there says
nothing about shapes.
""")

# %% [markdown]
# ## How does the curve change?

# %% mystnb={"figure": {"caption": "Topological complexity by block of one pretrained network at several thresholds: the lowest and highest of the list, 0, and two between. Bands: one standard error over images.", "name": "fig-threshold-curves"}, "image": {"alt": "Line chart of mean complexity on a logarithmic axis against relative depth for one pretrained network, one curve for each of up to five thresholds."}} tags=["hide-input"]
end = len(etas) - 1
shown = sorted({0, zero // 2, zero, (zero + end) // 2, end})
figure, ax = plt.subplots()
curves = {f"η = {etas[i]:g}": trained[first][i] for i in shown}
plot_curves(ax, curves)
_ = ax.set_title(first, loc="left")

# %% [markdown]
# ## Is one η one level?
#
# The units of the activations differ from block to block, so that one η is not the same level
# everywhere. Where the share of values at or below η hardly changes from the lowest threshold to the
# highest, these thresholds are nearly the same level.

# %% mystnb={"figure": {"caption": "Betti numbers against threshold in an early, a middle and a late block of the first network, mean over the first five images (or all, where there are fewer). Grey: the range of the thresholds tested; above each panel, the share of values at or below its ends.", "name": "fig-threshold-betti"}, "image": {"alt": "Three charts, one below the other, of the numbers of components, tunnels and cavities against the threshold, for an early, a middle and a late block; a grey band marks the thresholds tested."}} tags=["hide-input"]
names = trained[first]["block"].values
chosen = names[[0, len(names) // 2, -1]]
with block_outputs(load_model(first), chosen) as run:
    outputs = run(images[:5])
figure, axes = plt.subplots(3, 1, figsize=(7.2, 6.4))
for ax, name in zip(axes, chosen, strict=True):
    volumes = outputs[name].double().numpy()
    grid = np.linspace(*np.quantile(volumes, [0.001, 0.999]), 41)
    betti = [betti_numbers(volume, grid) for volume in volumes]
    plot_betti_curves(ax, grid, np.mean(betti, axis=0))
    ax.axvspan(etas[0], etas[-1], color="#dddddd", zorder=0)
    below, upto = ((volumes <= eta).mean() for eta in (etas[0], etas[-1]))
    ax.set_title(f"{name}: {below:.0%} to {upto:.0%} of the values")
for ax in axes[1:]:
    ax.legend().remove()
_ = axes[-1].set_xlabel("threshold η (units of the activations)")

# %% [markdown]
# ## Does it fall at levels that all blocks share?
#
# Here η is, for every volume, a quantile of its own values, so that the sublevel set has the same
# share of the points in every block, trained or not.

# %% tags=["hide-input"]
pd.DataFrame(
    {
        "decay": map(str, quantile_decays),
        "less the untrained twin's": map(str, quantile_gaps),
    },
    index=at_shares,
)

# %% tags=["remove-input"]
steep = [
    sum(x.high < 0 for x in each) for each in (quantile_decays, quantile_gaps)
]
Markdown(f"""
At such levels complexity falls at **{steep[0]}** of {len(levels)} quantiles, and more steeply than in
the untrained twin at {steep[1]}.
""")

# %% [markdown]
# ## The rule
#
# Fixed beforehand: *not reproduced* when the decay of the first network is not negative (the interval
# is not below 0) at more than half of the thresholds; *inconclusive* when it is not negative at η = 0;
# else *reproduced* when every conclusion that holds at η = 0 holds at all thresholds, the first
# network's two at all quantiles too, and *reproduced with limits* otherwise. Thresholds at which its
# complexity does not change at all, as where they lie beyond all values, are left out; if only 0 is
# left, it is *inconclusive*.

# %% tags=["hide-cell"]
kept = len(at_zero) - len(lost)
reason = (
    f"Complexity falls with depth in {first} at {held[falling]} of {len(counted)} thresholds"
    + (" at which it changes" if len(counted) < len(etas) else "")
    + f"; {kept} of the {len(at_zero)} conclusions that hold at η = 0 hold at every level"
    + (f" (lost: {'; '.join(lost)})." if lost else ".")
)
verdict = "reproduced with limits" if lost else "reproduced"
if not changing[zero] or len(counted) < 2:
    verdict = "inconclusive"
    where = "any threshold but 0" if changing[zero] else "η = 0"
    reason = (
        f"In {first} complexity does not change with depth at {where}, as where the "
        "threshold lies beyond all values and there is nothing to count."
    )
elif 2 * held[falling] < len(counted):
    verdict = "not reproduced"
elif falling not in at_zero:
    verdict = "inconclusive"
numbers = {"flattest_decay_at_any_threshold": slope[flattest]}
numbers |= {f"decay_at_{etas[i]:g}": slope[i] for i in shown}
for level, found in zip(levels, quantile_decays, strict=True):
    numbers[f"decay_where_{level:.0%}_of_points_are_below"] = found
for name, n in held.items():
    numbers[f"thresholds_where_{name}".replace(" ", "_")] = n
record_finding(
    claim="Conclusions at η = 0 hold at other thresholds",
    verdict=verdict,
    reason=reason,
    headline=f"Decay of {first}: {slope[zero]} at η = 0; flattest at η = "
    f"{etas[flattest]:g}, {slope[flattest]}.",
    numbers=numbers,
)

# %% [markdown]
# ## What this does not show
#
# - What holds for larger samples or different families: there are few images, networks of one family,
#   and one seed for the twin.
# - That every lost conclusion is lost for good: each interval is at 95 %, so that of many conclusions
#   at many thresholds one or two may be lost by chance.

# %% [markdown]
# ## What to try next
#
# - Thresholds far out, where the sublevel set is empty or full: `-p thresholds "[-60, 0, 60]"`.
# - Other images: `-p dataset mnist_samples`. Which conclusions change?
# - Other data sets: `-p similar '["mnist_samples", "fashion_mnist_samples"]' -p dissimilar
#   cifar10_samples`.
# - With an internet connection, the paper's own: `topobook run threshold --preset paper`.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} The same curve at another level?
# :label: ex-threshold-1
# ```
#
# How alike are the curves of the first network at different thresholds? Compute the rank correlation,
# over blocks, of the mean curve at each threshold with the one at η = 0. Where does the order of the
# blocks change most?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-threshold-1
# :label: sol-threshold-1
# :class: dropdown
# ```
#
# Rank correlations depend only on the order of the blocks by Ω: 1 means the same order, and below 0
# blocks with more of it at η = 0 tend to have less. A curve that is constant, where η is beyond all
# values, has no order, and its entry is NaN.

# %%
mean_curves = pd.DataFrame(
    trained[first].mean("image").transpose("block", "threshold").values,
    columns=etas,
)
mean_curves.corr(method="spearman")[[0.0]].rename_axis("η").round(2).T

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The unit of a threshold
# :label: ex-threshold-2
#
# Between two layers that are linear up to a ReLU, multiply the activations of a block by 2 and
# halve the next layer's weights on them. What becomes of the network's outputs, and of Ω of that
# block at η = 0 and at η = 0.5? What follows for a comparison of two networks at η = 0.5?
# ```
#
# ```{solution} ex-threshold-2
# :label: sol-threshold-2
# :class: dropdown
#
# The outputs do not change, since the factors cancel (a ReLU lets a positive factor through). At η
# = 0 nothing changes either: 2f ≤ 0 where f ≤ 0. At η = 0.5 the set is now that of f ≤ 0.25,
# a different level, and Ω may be a different number. So Ω at η = 0.5 is not only a property of what
# the network computes, but also of the unit in which a block happens to write it down. Two networks
# are measured at corresponding levels only if something fixes the units, such as quantiles of each
# block's own values.
# ```
