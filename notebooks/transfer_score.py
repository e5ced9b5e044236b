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
# # Does the score θ rank networks, going by the published figures?
#
# > The rate of decay in topological complexity (as a metric) helps quantify the impact of architectural
# > choices on the generalization ability
# >
# > — the paper's abstract, {cite:t}`suresh2023`
#
# A score θ fitted to the curve of Ω is said to rank pretrained models for transfer learning better than
# the scores that were there before.

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "The score &theta; of the nine networks against the CIFAR-10 accuracies of three groups.", "name": "fig-theta"}, "image": {"alt": "Three scatter plots of fine-tuned accuracy on CIFAR-10 against the score theta. With the authors' accuracies the points fall from left to right; with those of the two other groups the pattern is weaker."}} tags=["remove-input"]
place("fig-theta")

# %% [markdown]
# You need to know what Ω is and how it changes with depth: see {doc}`depth_decay`. Everything here is
# computed from published tables; {doc}`ranking` fine-tunes networks and ranks them.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from typing import Literal

from topo_utils.book import AtLeast

# The penalty of the ridge regression in θ, at least 0; the authors use 0.001.
penalty: float = 0.001
# Networks of the published nine that are measured here too; none by default.
models: list[str] = []
# The weights of the networks that are measured here.
weights: Literal["pretrained", "random"] = "pretrained"
# The images for them: a name that topo_utils.dataset_names() lists, or folder:PATH.
dataset: str = "cifar10_samples"
# How many images; None takes all.
n_images: AtLeast[1] | None = None
# Height and width to which these images are resized, in pixels.
image_size: AtLeast[1] = 224
# The level eta of the sublevel sets that are measured here.
threshold: float = 0.0
# Of the bootstrap, of random weights and of the draw of images.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# For a network with mean complexities Ω₁, …, Ω_L, let y = Ω / ‖Ω‖₂ and x = 1, …, L. A cubic
#
# ```{math}
# :label: eq-theta
# y \approx c_0 + c_1 x + c_2 x^2 + c_3 x^3
# ```
#
# is fitted by ridge regression with penalty α on c₁, c₂ and c₃, and
#
# ```{math}
# :label: eq-theta-score
# \theta = c_1 + \tfrac{1}{2} c_2 + \tfrac{1}{2} c_3 .
# ```
#
# The lower θ, the better the network is said to transfer, so −θ is what is correlated with the
# accuracies: higher must mean better, since the weighted Kendall correlation counts the best models
# most. Intervals are percentile bootstraps over models (95 %); with nine models they are wide.

# %% tags=["hide-cell"]
import numpy as np
import pandas as pd
import torchvision
from IPython.display import Markdown
from matplotlib import pyplot as plt
from scipy import stats

from topo_utils import (
    Estimate,
    embedding_profile,
    published_table,
    rank_agreement,
    theta_score,
    topological_complexity,
)
from topo_utils.book import fill, record_finding
from topo_utils.plotting import COLOURS, use_style

use_style()

reached = "finetuned_accuracy_percent"
table = published_table("suresh2023_cifar10_betti").sort_values("block")
curves = {
    name: rows["omega_mean"].to_numpy()
    for name, rows in table.groupby("model", sort=False)
}
accuracies = published_table("suresh2023_cifar10_accuracy").set_index(
    "model"
)[reached]
names = list(accuracies.index)
sfda, tllib = (
    rows[rows["dataset"] == "cifar10"].set_index("model")[reached]
    for rows in map(
        published_table,
        ("sfda2022_finetuned_accuracy", "tllib_model_selection"),
    )
)


def kendall(score, accuracy):
    """Of a score (higher is better) and accuracies, over the models they share."""
    shared = [name for name in score.index if name in accuracy.index]
    found = rank_agreement(score[shared], accuracy[shared], seed=seed)
    return Estimate(*found.loc["kendall"])


# %%
theta = pd.Series(
    {name: theta_score(curves[name], penalty=penalty) for name in names}
)
own = rank_agreement(-theta, accuracies, seed=seed)
own.round(3)

# %% [markdown]
# ## Are the published correlations right, and do they hold elsewhere?

# %% tags=["hide-input"]
pd.DataFrame(
    {
        "blocks": {name: len(curves[name]) for name in names},
        "θ": theta.map("{:.4f}".format),
        "accuracy, authors (%)": accuracies,
        "SFDA (%)": sfda.reindex(names)
        .map("{:.2f}".format, na_action="ignore")
        .fillna("–"),
        "TLLIB (%)": tllib.reindex(names)
        .map("{:.2f}".format, na_action="ignore")
        .fillna("–"),
    }
)

# %% tags=["remove-input"]
shared = [
    name for name in names if name in sfda.index and name in tllib.index
]
by_group = {
    "the authors": kendall(-theta, accuracies),
    "SFDA": kendall(-theta, sfda),
    "TLLIB": kendall(-theta, tllib),
}
Markdown(f"""
Over the authors' {len(names)} networks and their accuracies, −θ (penalty {penalty:g}) has a Pearson
correlation of {own["value"]["pearson"]:.3f}, Kendall's of **{by_group["the authors"]:.3f}**,
Spearman's of {own["value"]["spearman"]:.3f}, and a weighted Kendall correlation of
{own["value"]["weighted_kendall"]:.3f}.

Two other groups fine-tuned {len(shared)} of the same networks on the same data set. On these,
Kendall's correlation of −θ is {kendall(-theta[shared], accuracies).value:.2f} with the authors'
accuracies, {by_group["SFDA"]} with those of SFDA {{cite}}`sfda2022` and {by_group["TLLIB"]} with those
of TLLIB {{cite}}`tllib`. The three groups' accuracies do not rank the networks alike, so no score can
agree with all of them.
""")

# %% tags=["hide-cell"]
groups = {"the authors": accuracies, "SFDA": sfda, "TLLIB": tllib}
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.9), sharex=True)
for ax, (group, values) in zip(axes, groups.items(), strict=True):
    for family, colour in zip(
        ("vgg", "resnet", "mobilenet", "densenet"), COLOURS, strict=False
    ):
        members = [
            name
            for name in names
            if name.startswith(family) and name in values.index
        ]
        ax.plot(
            theta[members], values[members], "o", color=colour, label=family
        )
    ax.set(title=f"{group}\nKendall of −θ: {by_group[group]}", xlabel="θ")
    ax.margins(0.1)
axes[0].set_ylabel("fine-tuned accuracy on CIFAR-10, %")
figure.legend(
    *axes[0].get_legend_handles_labels(), ncols=4, loc="outside upper center"
)
plt.close(figure)
fill(
    "fig-theta",
    figure,
    caption="Kendall's correlation of −θ with the accuracy after fine-tuning is "
    f"{by_group['the authors'].value:.2f} with the authors' accuracies, "
    f"{by_group['SFDA'].value:.2f} with SFDA's and {by_group['TLLIB'].value:.2f} with TLLIB's. Each "
    "point is a network, one colour a family; the tables are named on the page on data.",
)

# %% [markdown]
# ## What does θ depend on?
#
# Each row changes one thing that should not matter to a score of networks, or replaces θ by something
# simpler, and gives Kendall's correlation again, with the authors' accuracies unless it says otherwise.
# The authors' notebook lists the cut lengths but does not use them; the ImageNet accuracies are in
# torchvision's weight metadata.


# %% tags=["hide-input"]
def rescored(positions=lambda x: x, penalty=penalty, lengths=None):
    """−θ with the positions that are made of x = 1..L, and of curves cut to lengths."""
    cut = (
        curves
        if lengths is None
        else {name: curves[name][: lengths[name]] for name in names}
    )
    x = {
        name: positions(np.arange(1.0, len(cut[name]) + 1)) for name in names
    }
    return -pd.Series(
        {
            name: theta_score(cut[name], penalty=penalty, positions=x[name])
            for name in names
        }
    )


def of_all(score):
    """A score of every network from its name and curve."""
    return pd.Series(
        {name: float(score(name, curves[name])) for name in names}
    )


def top_1(name, curve):
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    return weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]


cuts = published_table("suresh2023_cut_lengths").set_index("model")["blocks"]
axes_of_depth = {
    "depth axis from 0: x = 0, …, L − 1": rescored(lambda x: x - 1),
    "depth axis to 1: x / L": rescored(lambda x: x / len(x)),
    "depth axis of norm 1: x / ‖x‖": rescored(
        lambda x: x / np.linalg.norm(x)
    ),
    "depth axis doubled: 2x": rescored(lambda x: 2 * x),
}
scores = {
    "θ as the authors compute it": rescored(penalty=1e-3),
    f"θ with the penalty of this run, {penalty:g}": -theta,
    "penalty 0": rescored(penalty=0.0),
    "penalty 1": rescored(penalty=1.0),
    "penalty 1,000": rescored(penalty=1000.0),
    **axes_of_depth,
    "curves cut where the authors list it": rescored(lengths=cuts),
    "no θ: number of blocks": of_all(lambda _, curve: len(curve)),
    "no θ: minus the last Ω / ‖Ω‖": of_all(
        lambda _, curve: -curve[-1] / np.linalg.norm(curve)
    ),
    "no θ: ImageNet top-1 accuracy": of_all(top_1),
}
audit = {text: kendall(score, accuracies) for text, score in scores.items()}
for group in ("SFDA", "TLLIB"):
    top_1_there = kendall(
        scores["no θ: ImageNet top-1 accuracy"], groups[group]
    )
    audit |= {
        f"θ, accuracies of {group}": by_group[group],
        f"no θ: top-1, {group}": top_1_there,
    }
pd.DataFrame(
    {
        "Kendall's correlation": {
            text: f"{found:.2f}" for text, found in audit.items()
        }
    }
)

# %% tags=["remove-input"]
axis = {text: audit[text].value for text in axes_of_depth}
cut, n_blocks = (
    audit["curves cut where the authors list it"],
    audit["no θ: number of blocks"],
)
top_1_own = audit["no θ: ImageNet top-1 accuracy"]
left_out = [kendall(-theta.drop(name), accuracies).value for name in names]
Markdown(f"""
**The depth axis.** c₁, c₂ and c₃ have different units, so their sum depends on the unit of depth. On
other scales of the same axis Kendall's correlation lies between **{min(axis.values()):.2f}** and
{max(axis.values()):.2f}.

**The penalty.** Without one the correlation is {audit["penalty 0"].value:.2f}; with one of 1,000 it is
{audit["penalty 1,000"].value:.2f}.

**Cut and left out.** Cut where the authors list it, the curves give {cut.value:.3f}; without one of the
models, θ gives between {min(left_out):.2f} and {max(left_out):.2f}.

**Simpler than θ.** The number of blocks alone, which knows nothing of topology, has {n_blocks} on the
authors' accuracies. The accuracy on ImageNet, which comes with every network, has {top_1_own} there,
{audit["no θ: top-1, SFDA"].value:.2f} with SFDA's accuracies and
{audit["no θ: top-1, TLLIB"].value:.2f} with TLLIB's.
""")

# %% [markdown]
# ## Do the rivals' published correlations follow from their scores?
#
# TLLIB {cite}`tllib` lists H-score, LEEP, LogME and NCE of ten networks for eight data sets, beside
# the accuracies reached and the correlations of each. Their weighted Kendall correlations, computed
# again from their own tables:

# %% tags=["hide-input"]
rivals = {
    "h_score": "H-score",
    "leep": "LEEP",
    "logme": "LogME",
    "nce": "NCE",
}
said = published_table("tllib_correlations").set_index(
    ["correlation", "dataset"]
)
said = said.loc["weighted_kendall"]
by_data = dict(
    list(published_table("tllib_model_selection").groupby("dataset"))
)
again = {
    data: {
        rival: stats.weightedtau(rows[rival], rows[reached])[0]
        for rival in rivals
    }
    for data, rows in by_data.items()
}
again = pd.DataFrame(again).T
said = said.loc[again.index, list(rivals)]
off = (again - said).abs().max(axis=1)
shown = again.map("{:.3f}".format) + " (" + said.map("{:.3f}".format) + ")"
shown = shown.rename(columns=rivals).assign(
    **{"largest difference": off.map("{:.3f}".format)}
)
shown.rename_axis("again (published)")

# %% tags=["remove-input"]
agreeing, differing = (
    ", ".join(off.index[which]) for which in (off <= 0.03, off > 0.03)
)
repeating = [
    data
    for data, rows in by_data.items()
    if (rows["nce"] == rows["logme"]).all()
]
Markdown(f"""
In {sum(off <= 0.03)} of {len(off)} data sets ({agreeing}) every published correlation agrees with its
own table within 0.03. Where it does not ({differing or "none"}), the published row does not follow
from the published scores. In these data sets the column of NCE repeats that of LogME, so that its
correlation cannot follow: {", ".join(repeating) or "none"}. The highest mean over the data sets is that
of {rivals[again.mean().idxmax()]}, {again.mean().max():.2f}.
""")

# %% [markdown]
# ## Do networks measured here have the same θ?
#
# The networks in the parameter `models` are measured on the images chosen above, which takes their
# weights from torchvision; with three networks or more there is a correlation, too.

# %% tags=["hide-input"]
measured = {}
for name in models:
    profile = embedding_profile(
        name,
        dataset,
        thresholds=threshold,
        n_images=n_images,
        image_size=image_size,
        weights=weights,
        seed=seed,
        progress=False,
    )
    omega = topological_complexity(profile).sel(threshold=threshold)
    measured[name] = theta_score(omega, penalty=penalty)
measured = pd.Series(measured, dtype=float)
beside = {
    "θ, measured here": measured,
    "θ, published": theta.reindex(measured.index),
}
pd.DataFrame(beside, dtype=float).round(4) if models else None

# %% tags=["remove-input"]
measured_kendall = None
if len(set(measured.index) & set(names)) >= 3:
    measured_kendall = kendall(-measured, accuracies)
told = "that is too few for a correlation"
if measured_kendall:
    told = f"Kendall's correlation of −θ with the authors' accuracies is {measured_kendall}"
Markdown(f"Networks measured in this run: {len(measured)}; {told}.")

# %% [markdown]
# ## The rule
#
# Fixed beforehand: *not reproduced* if one of the three published correlations (Pearson 0.815, Kendall
# 0.778, Spearman 0.900 in absolute value) does not come out of the authors' own figures within 0.001.
# If they do: *reproduced* when Kendall's correlation also stays at 0.5 or more with the accuracies of
# both other groups and on each scale of the depth axis, and *reproduced with limits* otherwise.


# %% tags=["hide-cell"]
def transfer_score_verdict(differences, elsewhere, rescaled):
    """Differences from the published correlations, and Kendall's on others' figures and axes."""
    missed = [
        name
        for name, difference in differences.items()
        if abs(difference) > 1e-3
    ]
    if missed:
        return (
            "not reproduced",
            "On the authors' own figures the published correlation does not come out "
            f"({', '.join(missed)}).",
        )
    reason = "The published correlations come out of the authors' own figures"
    weak = [
        f"{value:.2f} with the accuracies of {group}"
        for group, value in elsewhere.items()
        if value < 0.5
    ]
    if min(rescaled.values()) < 0.5:
        weak.append(
            f"{min(rescaled.values()):.2f} on another scale of the depth axis"
        )
    if weak:
        return (
            "reproduced with limits",
            f"{reason}, but Kendall's is {', '.join(weak)}.",
        )
    return (
        "reproduced",
        f"{reason}, and hold with the accuracies and axes of others.",
    )


published = {"pearson": 0.815, "kendall": 0.778, "spearman": 0.900}
verdict, reason = transfer_score_verdict(
    {kind: own["value"][kind] - number for kind, number in published.items()},
    {group: by_group[group].value for group in ("SFDA", "TLLIB")},
    axis,
)
record_finding(
    claim="The score θ ranks pretrained networks by their accuracy after fine-tuning "
    "(published figures)",
    verdict=verdict,
    reason=f"{reason} The accuracy on ImageNet has {top_1_own.value:.2f}, "
    f"{audit['no θ: top-1, SFDA'].value:.2f} and {audit['no θ: top-1, TLLIB'].value:.2f} with the "
    "accuracies of the authors, SFDA and TLLIB.",
    headline=f"Kendall's correlation of −θ with accuracy: {by_group['the authors']} with the "
    f"authors' accuracies, {by_group['SFDA']} with those of SFDA; 1 is the same order.",
    numbers={
        f"{kind}_authors": Estimate(*own.loc[kind])
        for kind in ("kendall", "pearson", "spearman")
    }
    | {
        "kendall_sfda": by_group["SFDA"],
        "kendall_tllib": by_group["TLLIB"],
        "kendall_least_over_depth_axes": min(axis.values()),
        "kendall_cut": cut,
        "kendall_number_of_blocks": n_blocks,
        "kendall_imagenet_top_1": top_1_own,
    }
    | (
        {"kendall_measured_here": measured_kendall}
        if measured_kendall
        else {}
    ),
)

# %% [markdown]
# ## What this does not show
#
# - That θ ranks networks that were not chosen by its authors: {doc}`ranking` tries nine others.
# - That it is worse than its rivals: they are not scored on these nine networks.
# - Much about any correlation: nine networks of four families are few, and the intervals are wide.

# %% [markdown]
# ## What to try next
#
# - Another penalty: `-p penalty 0.1`. Does the order of the networks change?
# - Measure networks yourself: `-p models '["resnet18", "resnet50", "densenet121"]'`, where torchvision
#   can fetch their weights.
# - With an internet connection: `topobook run transfer_score --preset paper` measures all nine.

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} The pairs that θ gets wrong
# :label: ex-transfer-score-1
# ```
#
# Kendall's correlation counts pairs. List the pairs of networks that θ puts in the opposite order
# to the authors' accuracies. By how much do their accuracies differ?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-transfer-score-1
# :label: sol-transfer-score-1
# :class: dropdown
# ```
#
# A pair is discordant where the network with the higher accuracy has the higher θ as well. Where
# the accuracies of a pair differ by less than two fine-tunings of one network would, its order is
# not known, and neither is whether θ is wrong.

# %%
from itertools import combinations

wrong = [
    (a, b) if accuracies[a] > accuracies[b] else (b, a)
    for a, b in combinations(names, 2)
    if (theta[a] - theta[b]) * (accuracies[a] - accuracies[b]) > 0
]
pd.DataFrame(
    {
        "better": [a for a, _ in wrong],
        "worse": [b for _, b in wrong],
        "difference in accuracy, %": [
            f"{accuracies[a] - accuracies[b]:.2f}" for a, b in wrong
        ],
        "difference in θ": [f"{theta[a] - theta[b]:.4f}" for a, b in wrong],
    }
)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Half a block
# :label: ex-transfer-score-2
#
# Depth is counted in half blocks instead of blocks: 2x for x. With no penalty, what becomes of c₁,
# c₂ and c₃, and of θ? Which networks gain by it? And why does a penalty not put it right?
# ```
#
# ```{solution} ex-transfer-score-2
# :label: sol-transfer-score-2
# :class: dropdown
#
# The fitted curve stays the same, so c₁ → c₁ / 2, c₂ → c₂ / 4, c₃ → c₃ / 8, and θ becomes c₁ / 2 +
# c₂ / 8 + c₃ / 16: another mixture of the three, in which the slope at the start weighs more beside
# the curvature. Networks whose curves bend much (with large c₂ and c₃ beside c₁) change their
# places. A penalty on c₁² + c₂² + c₃² adds quantities of different units, so it, too, means
# something else in each unit: in a small unit of depth the coefficients are large, and it presses
# them down harder.
# ```
