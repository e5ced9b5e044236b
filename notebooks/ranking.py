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
# # Does θ rank pretrained networks better than its rivals?
#
# > The claim of {cite:t}`suresh2023`, in short: the score θ, fitted to the curve of topological
# > complexity, ranks pretrained networks by how well they will do after fine-tuning, and does so better
# > than the scores that were there before.

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Kendall's correlation of every score with the accuracy reached.", "name": "fig-ranking-intervals"}, "image": {"alt": "Dot chart with one row a score: Kendall's correlation with the accuracy after fine-tuning and its wide bootstrap interval. Theta, its rivals and the controls have colours of their own."}} tags=["remove-input"]
place("fig-ranking-intervals")

# %% [markdown]
# You need to know what θ is: {doc}`transfer_score` defines it and audits it on published figures. This
# page runs the experiment itself, on the machine that builds the book.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from typing import Literal

from topo_utils.book import AtLeast, NonEmpty

# The pretrained networks: names that topo_utils.model_names() lists, of the small ones, at least 3.
candidates: NonEmpty[str] = [
    "fashion_residual_4",
    "fashion_residual_6",
    "fashion_residual_9",
    "fashion_plain_5",
    "fashion_plain_9",
    "fashion_depthwise_6",
    "fashion_depthwise_10",
    "fashion_dense_6",
    "fashion_dense_12",
]
# The task: handwritten digits, of MNIST or the small ones of scikit-learn.
target: Literal["mnist_5k", "digits"] = "mnist_5k"
# Labelled images for fine-tuning and for the scores, drawn evenly over the ten classes.
n_labels: AtLeast[1] = 200
# Images on which the accuracy is measured, none of them among the labelled ones.
n_test: AtLeast[1] = 1000
# One fine-tuning per network and seed: of the labelled images, the new head and their order.
seeds: NonEmpty[AtLeast[0]] = [0, 1, 2]
# How often each labelled image is seen in fine-tuning.
epochs: AtLeast[0] = 10
# Of the first step of fine-tuning.
learning_rate: float = 0.003
# Images (without labels) on which topological complexity is measured.
n_images: AtLeast[1] = 20
# The level eta of the sublevel sets, in units of the activations.
threshold: float = 0.0
# Networks whose frozen features get a linear probe, ranked apart.
probes: list[str] = [
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
]
# Height and width to which images are resized for these, in pixels.
probe_size: AtLeast[1] = 96
# Of the bootstrap and of the images for topological complexity.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Method
#
# Small networks of four families, pretrained on Fashion-MNIST, get a new head for ten digits; then all
# weights are trained on a few labelled images. The accuracy is a mean over seeds. Before any of this,
# each score sees the pretrained network. θ sees images without labels and the Betti numbers of every
# block; its rivals see the labelled images' features, or (LEEP, NCE) the network's probabilities for
# ten kinds of clothing. Of θ, −θ is taken, so that higher means better for all scores.
#
# Four controls know nothing of the task or of the pretraining: −θ of the same networks *before*
# pretraining, the number of weights, the number of blocks, and the accuracy on Fashion-MNIST. Formulas
# and sources of the rivals are in the docstrings of `topo_utils.transferability`.

# %% tags=["hide-cell"]
import time
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from joblib import Parallel, delayed
from matplotlib import pyplot as plt
from scipy import stats
from threadpoolctl import threadpool_limits
from torch import nn

from topo_utils import (
    SCORES,
    Estimate,
    bootstrap,
    embedding_profile,
    load_images,
    load_model,
    rank_agreement,
    theta_score,
    topological_complexity,
)
from topo_utils.book import fill, record_finding
from topo_utils.candidates import candidate_table
from topo_utils.intervals import resamples
from topo_utils.plotting import COLOURS, use_style
from topo_utils.training import one_thread, train_classifier, trained

use_style()
images, labels = load_images(target, size=28)
order = np.random.default_rng([seed, 1]).permutation(len(images))
test, pool = order[:n_test], order[n_test:]


def labelled(draw):
    """Indices of `n_labels` images for one seed, as evenly over the classes as they allow."""
    mixed = np.random.default_rng(draw).permutation(pool)
    classes = labels.numpy()[mixed]
    rank = np.array(
        [np.sum(classes[:i] == label) for i, label in enumerate(classes)]
    )
    return mixed[np.argsort(rank, kind="stable")[:n_labels]]


training_sets = {draw: labelled(draw) for draw in seeds}


def with_new_head(name):
    model = load_model(name)
    model.head = nn.Linear(model.head.in_features, 10)
    return model.to(memory_format=torch.channels_last)


def accuracy_reached(name, draw, inputs, targets, test_inputs, test_targets):
    """Fine-tune one network with one seed; the share of test images that it gets right."""
    settings = {
        "epochs": epochs,
        "batch_size": 20,
        "learning_rate": learning_rate,
    }
    model = trained(
        lambda: with_new_head(name), inputs, targets, seed=draw, **settings
    )
    with one_thread(), torch.inference_mode():
        found = torch.cat(
            [model(batch).argmax(1) for batch in test_inputs.split(500)]
        )
    return float((found == test_targets).double().mean())


# Two networks at a time, each on one core; what was trained is kept on disk.
tasks = {
    draw: (images[chosen], labels[chosen])
    for draw, chosen in training_sets.items()
}
reached = Parallel(n_jobs=2)(
    delayed(accuracy_reached)(
        name, draw, *tasks[draw], images[test], labels[test]
    )
    for name in candidates
    for draw in seeds
)
reached = np.reshape(reached, (len(candidates), len(seeds)))
accuracies = pd.DataFrame(reached, index=candidates, columns=seeds)
accuracy = accuracies.mean(axis=1)

seconds = {}


def timed(name, function, *arguments):
    start = time.perf_counter()
    value = function(*arguments)
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
    return value


def omega(name, weights):
    """Omega by image and block on images of the task."""
    profile = embedding_profile(
        name,
        images[order[-n_images:]],
        thresholds=threshold,
        weights=weights,
        seed=seed,
        progress=False,
        cache=False,  # its seconds are asked for
    )
    return topological_complexity(profile).sel(threshold=threshold)


def theta(curve):
    """θ; 0 as for any curve that does not change, where nothing is counted."""
    return theta_score(curve) if np.any(curve) else 0.0


def varies(score):
    return score.round(9).nunique() > 1


def agreement(score):
    """Correlations of a score and the accuracy; what is the same for all ranks nothing."""
    if varies(score) and varies(accuracy):
        return rank_agreement(score, accuracy, seed=seed)
    kinds = ["pearson", "kendall", "spearman", "weighted_kendall"]
    return pd.DataFrame({"value": 0.0, "low": -1.0, "high": 1.0}, kinds)


# %%
omegas = {name: timed("−θ", omega, name, "pretrained") for name in candidates}
minus_theta = pd.Series(
    {name: -timed("−θ", theta, omegas[name]) for name in candidates}
)
agreement(minus_theta).round(2)

# %% [markdown]
# ## Which scores agree with the accuracy, and what do they cost?

# %% tags=["hide-input"]
scores = {"−θ": minus_theta}
rivals = list(SCORES)


def evidence(model, inputs):
    """Features (N, D), and probabilities (N, 10) for the classes of the pretraining."""
    with torch.inference_mode():
        features = model.features(inputs)
        return {
            "features": features.numpy(),
            "probabilities": model.head(features).softmax(dim=1).numpy(),
        }


by_seed = {score: {name: [] for name in candidates} for score in rivals}
for name in candidates:
    model = load_model(name)
    for inputs, targets in tasks.values():
        seen = timed("features", evidence, model, inputs)
        for score, (function, kind) in SCORES.items():
            with threadpool_limits(
                1
            ):  # for matrices this small more threads only cost
                value = timed(score, function, seen[kind], targets.numpy())
            by_seed[score][name].append(value)
scores |= {score: pd.DataFrame(by_seed[score]).mean() for score in rivals}
table = pd.DataFrame(candidate_table()).T.loc[candidates]
controls = {
    "−θ, untrained twin": {
        name: -theta(omega(name, "random")) for name in candidates
    },
    "number of weights": table["parameters"].astype(float),
    "number of blocks": {
        name: float(omegas[name].sizes["block"]) for name in candidates
    },
    "Fashion-MNIST accuracy": table["accuracy"].astype(float),
}
scores = pd.DataFrame(scores | controls).loc[candidates]

correlations = {
    score: agreement(scores[score])
    for score in scores
    if score == "−θ" or varies(scores[score]) or not varies(accuracy)
}
kendall = pd.DataFrame(
    {score: found.loc["kendall"] for score, found in correlations.items()}
).T
by_kendall = kendall.sort_values("value", ascending=False)

cost = {
    score: (seconds[score] + seconds["features"])
    / len(candidates)
    / len(seeds)
    for score in rivals
} | {"−θ": seconds["−θ"] / len(candidates)}
pd.DataFrame(
    {
        score: {
            kind.replace("_", " "): str(
                Estimate(*correlations[score].loc[kind])
            )
            for kind in ("pearson", "kendall", "weighted_kendall")
        }
        | {"seconds a network": f"{cost[score]:.3f}" if score in cost else ""}
        for score in by_kendall.index
    }
).T

# %% [markdown]
# ## Which networks does each score prefer?

# %% mystnb={"figure": {"caption": "Each column is a score, ordered by Kendall's correlation with the accuracy reached (left: the accuracy itself); each row is a network, best first. The number is the rank that the score gives it, dark the best: a score that agrees has its dark cells at the top.", "name": "fig-ranking"}, "image": {"alt": "Table of ranks as a colour map: rows are the pretrained networks ordered by their accuracy after fine-tuning, columns are the scores ordered by their agreement with it. A score that agrees has its dark cells at the top."}} tags=["hide-input"]
best_first = accuracy.sort_values(ascending=False).index
ranks = (
    scores[by_kendall.index].assign(accuracy=accuracy).rank(ascending=False)
)
ranks = ranks.loc[best_first, ["accuracy", *by_kendall.index]]
figure, ax = plt.subplots(figsize=(9.6, 5.4))
ax.imshow(ranks, cmap="Blues_r", vmin=1, vmax=1.6 * len(ranks), aspect="auto")
for (i, j), rank in np.ndenumerate(ranks.to_numpy()):
    colour = "white" if rank < 0.5 * len(ranks) else "black"
    ax.text(j, i, f"{rank:g}", ha="center", va="center", color=colour)
tops = [f"{kendall['value'].get(text, 1.0):.2f}" for text in ranks]
ax.set_xticks(
    range(len(tops)), ranks.columns, rotation=60, ha="right", fontsize=9
)
ax.set_yticks(
    range(len(ranks)),
    [f"{name} ({accuracy[name]:.2f})" for name in ranks.index],
)
upper = ax.secondary_xaxis("top")
upper.set_xticks(range(len(tops)), tops, fontsize=9)
upper.set_xlabel("Kendall's correlation with the accuracy")
_ = ax.grid(False)

# %% [markdown]
# ## How much could any score reach?
#
# No score can be asked to agree better with the accuracies than one fine-tuning does with another.

# %% tags=["hide-input"]
rng = np.random.default_rng([seed, 2])


def resampled(values, statistic, n_draws=1000):
    """A statistic of values (N, ...), with its interval over the first axis."""
    values = np.asarray(values)
    return bootstrap(
        lambda at: statistic(values[at]),
        len(values),
        n_bootstrap=n_draws,
        seed=rng,
    )


reached_by = {
    name: resampled(accuracies.loc[name], np.mean) for name in best_first
}
theta_by = {name: resampled(omegas[name], theta) for name in best_first}
pd.DataFrame(
    {
        "accuracy (over seeds)": pd.Series(reached_by).map("{:.3f}".format),
        "θ (over images)": pd.Series(theta_by).map("{:.3f}".format),
        "θ, untrained": (-scores["−θ, untrained twin"]).map("{:.3f}".format),
        "blocks": scores["number of blocks"].map("{:.0f}".format),
        "weights": table["parameters"].map("{:,}".format),
        "Fashion-MNIST accuracy": table["accuracy"].map("{:.3f}".format),
    }
).loc[best_first]

# %% tags=["hide-cell"]
ceilings = [
    stats.kendalltau(
        accuracies[draw], accuracies.drop(columns=draw).mean(axis=1)
    )[0]
    for draw in seeds
    if len(seeds) > 1
]
ceiling = "One seed was used, which cannot be held against others."
if ceilings:
    ceiling = (
        f"One seed's accuracies have {np.mean(ceilings):.2f} with those of the other seeds "
        f"({min(ceilings):.2f} to {max(ceilings):.2f}): more than that can hardly be asked of a score."
    )

estimates = {score: Estimate(*row) for score, row in kendall.iterrows()}
theta_kendall = estimates["−θ"]
rival_values = kendall["value"].reindex(rivals).dropna()
better_rivals = int((rival_values > theta_kendall.value).sum())
best_rival = rival_values.idxmax()
best_control = max(
    (c for c in controls if c in kendall.index), key=kendall["value"].get
)
# Theta less the median rival, each resample of the networks the same for all scores.
differences = []
for draw in resamples(len(candidates), 500, rng):
    if accuracy.iloc[draw].nunique() > 1:
        values = [
            stats.kendalltau(scores[score].iloc[draw], accuracy.iloc[draw])[0]
            for score in ("−θ", *rival_values.index)
        ]
        less_median = values[0] - np.nanmedian(values[1:])
        if np.isfinite(less_median):
            differences.append(round(less_median, 9))
difference = Estimate.from_draws(
    theta_kendall.value - rival_values.median(), differences or [-1.0, 1.0]
)

start = time.perf_counter()
train_classifier(
    with_new_head(candidates[0]), *tasks[seeds[0]], epochs=1, batch_size=20
)
cost_tuning = (time.perf_counter() - start) * epochs

# %% tags=["remove-input"]
Markdown(f"""
{len(candidates)} networks, fine-tuned on {n_labels} labelled images of `{target}`, {len(seeds)} times
each, reach accuracies from {accuracy.min():.2f} to {accuracy.max():.2f}. Kendall's correlation
with them is **{theta_kendall}** for −θ, and
{estimates.get("−θ, untrained twin", Estimate(np.nan))} for −θ of the same architectures before any
training. {better_rivals} of {len(rival_values)} rivals lie above −θ. The best of them, {best_rival},
has {estimates[best_rival]}; their median is {rival_values.median():.2f}, and −θ less that is
{difference}. The best of the controls, {best_control}, has {estimates[best_control]}.

{ceiling}

For one network on this machine, −θ costs {cost["−θ"]:.2f} s, a rival between
{min(cost[score] for score in rivals):.2f} s and {max(cost[score] for score in rivals):.2f} s with its
features, and fine-tuning it once {cost_tuning:.1f} s (from the time of one epoch).
""")

# %% tags=["hide-cell"]
figure, ax = plt.subplots(figsize=(7.2, 4.8))
for i, score in enumerate(by_kendall.index[::-1]):
    value, low, high = estimates[score]
    colour = (
        COLOURS[1]
        if score == "−θ"
        else COLOURS[0]
        if score in rivals
        else COLOURS[6]
    )
    ax.plot([low, high], [i, i], color=colour, lw=1.6)
    ax.plot(value, i, "o", color=colour)
ax.set_yticks(range(len(by_kendall)), by_kendall.index[::-1])
ax.axvline(0, color="black", lw=0.8)
ax.set(
    xlabel="Kendall's correlation with the accuracy reached",
    xlim=(-1.05, 1.05),
)
plt.close(figure)
fill(
    "fig-ranking-intervals",
    figure,
    caption=f"{better_rivals} of {len(rival_values)} rivals agree better with the accuracy reached "
    f"than −θ. Bars are 95 % bootstrap intervals over {len(candidates)} networks. Orange: −θ; blue: "
    "its rivals; black: controls.",
)

# %% [markdown]
# ## Does θ rank large networks with frozen features?
#
# The EfficientNet-Lites, pretrained on ImageNet, are too large to be fine-tuned here in a minute.
# Instead, logistic regression is trained on their frozen features. They are ranked among themselves
# only, and three networks make three pairs, which can be in the right order by chance.

# %% tags=["hide-input"]
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

probe_test = min(n_test, 200)
probe_images, probe_labels = load_images(
    target, size=probe_size, n_images=n_labels + probe_test, seed=seed
)
mixed = np.random.default_rng([seed, 3]).permutation(len(probe_images))
probed = {}
for name in probes:
    model = load_model(name)
    with torch.inference_mode():
        features = torch.cat(
            [
                model.extract_features(part).mean(dim=(2, 3))
                for part in probe_images.split(20)
            ]
        ).numpy()
    right = []
    for draw in seeds:
        shuffled = np.random.default_rng([draw, 4]).permutation(mixed)
        known, asked = shuffled[:n_labels], shuffled[n_labels:]
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.01, max_iter=500)
        )
        probe.fit(features[known], probe_labels[known])
        right.append(
            probe.predict(features[asked]) == probe_labels[asked].numpy()
        )
    profile = embedding_profile(
        model, probe_images[:n_images], thresholds=threshold, progress=False
    )
    omegas_probe = topological_complexity(profile).sel(threshold=threshold)
    probed[name] = [
        resampled(np.concatenate(right), np.mean),
        resampled(omegas_probe, theta, 300),
        Estimate(SCORES["LogME"][0](features, probe_labels.numpy())),
    ]
probed = pd.DataFrame(probed, index=["accuracy of the probe", "θ", "LogME"]).T
probed.map("{:.3f}".format)

# %% tags=["remove-input"]
pairs = list(combinations(probes, 2))


def in_order(score):
    """How many pairs of probed networks a score puts in the order of their accuracy."""
    order, truth = (
        [np.sign(column[a].value - column[b].value) for a, b in pairs]
        for column in (probed[score], probed["accuracy of the probe"])
    )
    better = -1 if score == "θ" else 1
    return sum(
        better * one * other > 0
        for one, other in zip(order, truth, strict=True)
    )


Markdown(f"""
Of the {len(pairs)} pairs of {len(probes)} networks, −θ puts {in_order("θ")} in the order of the
probe's accuracy, LogME {in_order("LogME")}.
""")

# %% [markdown]
# ## The rule
#
# Fixed beforehand, on Kendall's correlation with the accuracy reached and on the paired difference
# between −θ and the median of its rivals. *Not reproduced* if the interval of either lies below 0;
# *reproduced* if both lie above 0; *reproduced with limits* if only that of −θ does: it ranks, but no
# better than the others. Otherwise *inconclusive*: the interval of −θ contains 0, or θ is the same for
# all networks, as where nothing is counted.


# %% tags=["hide-cell"]
def ranking_verdict(theta, difference, n_better, n_rivals):
    """Verdict and reason from Kendall's of theta and its difference to the median rival."""
    beaten = f"{n_better} of {n_rivals} rivals rank better"
    kendall = f"Kendall's correlation of −θ is {theta}"
    if theta.high < 0:
        return (
            "not reproduced",
            f"{kendall}: θ ranks the networks the wrong way round.",
        )
    if difference.high < 0:
        return (
            "not reproduced",
            f"{kendall}, below the median of its rivals; {beaten}.",
        )
    if theta.low > 0 and difference.low > 0:
        return (
            "reproduced",
            f"{kendall}, above the median of its rivals; {beaten}.",
        )
    if theta.low > 0:
        return (
            "reproduced with limits",
            f"{kendall}, but not clearly above the median of its rivals; {beaten}.",
        )
    return (
        "inconclusive",
        f"{kendall}, an interval that contains 0; {beaten}.",
    )


verdict, reason = ranking_verdict(
    theta_kendall, difference, better_rivals, len(rival_values)
)
if not (varies(minus_theta) and varies(accuracy)):
    verdict = "inconclusive"
    reason = "θ, or the accuracy, is the same for all networks: there is nothing to rank."
record_finding(
    claim="The score θ ranks pretrained networks better than other scores (fine-tuned here)",
    verdict=verdict,
    reason=f"{reason} The best control, {best_control}, has {estimates[best_control]}.",
    headline=f"Kendall's correlation of −θ with the accuracy of {len(candidates)} networks: "
    f"{theta_kendall}; 1 is the same order, 0 is chance.",
    numbers={
        "kendall_theta": theta_kendall,
        "kendall_theta_less_median_rival": difference,
    }
    | {
        f"kendall_{score}": found
        for score, found in estimates.items()
        if score != "−θ"
    },
)

# %% [markdown]
# ## What may a careful reader conclude?

# %% tags=["remove-input"]
Markdown(f"""
On the authors' own figures the published correlations can be computed again; {{doc}}`transfer_score`
says how much of them is left on other groups' accuracies and on other scales of the depth axis. Here,
with {len(candidates)} networks, −θ has Kendall's {theta_kendall.value:.2f}, its best rival
{rival_values.max():.2f}, and the best control, {best_control},
{estimates[best_control].value:.2f}.

In practice one would look first at what is free, the accuracy on the data of the pretraining, then at
a score that sees the labels and has held up over several studies; and where fine-tuning takes
seconds, as here, at the accuracy itself.
""")

# %% [markdown]
# ## What this does not show
#
# - Which score is best: the intervals over so few networks are wide, and this is one experiment.
# - How the scores do on large networks that are fine-tuned whole, or on photographs.

# %% [markdown]
# ## What to try next
#
# - Another task: `-p target digits`. Do the same scores come out ahead?
# - More or fewer labels: `-p n_labels 50`. With few labels, which scores lose most?
# - Other seeds: `-p seeds '[3, 4, 5]'`. How far does the figure of ranks change?
# - Another threshold: `-p threshold 0.5`. Does θ rank differently?

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} The best of many random scores
# :label: ex-ranking-1
# ```
#
# The table has a score that comes first. How high would the best Kendall correlation be if every
# score were a random number for each network?
#
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-ranking-1
# :label: sol-ranking-1
# :class: dropdown
# ```
#
# Random orders of the networks stand for the scores; the greatest of as many correlations as there
# are scores is taken, again and again.

# %%
random = np.random.default_rng([seed, 3])
greatest = [
    max(
        stats.kendalltau(random.permutation(len(accuracy)), accuracy)[0]
        for _ in kendall.index
    )
    for _ in range(300)
]
pd.DataFrame(
    {
        "Kendall": [
            f"{kendall['value'].max():.2f}",
            f"{np.median(greatest):.2f}",
            f"{np.quantile(greatest, 0.95):.2f}",
        ]
    },
    index=[
        "best score found",
        "best of as many random ones, median",
        "the same, 95 % quantile",
    ],
)

# %% [markdown]
# The scores here are not independent of one another, so the random ones exaggerate a little. But
# the best of many is no longer a number to be read by its own interval: it was chosen because it is
# high.
#
# ```{solution-end}
# ```
#
# ```{exercise} A ceiling for scores
# :label: ex-ranking-2
#
# The accuracies of one seed rank the networks differently from those of another. What does that say
# of the greatest correlation that a perfect score could have with the mean over seeds? How would
# you raise the ceiling without touching the scores?
# ```
#
# ```{solution} ex-ranking-2
# :label: sol-ranking-2
# :class: dropdown
#
# A score that knew each network's expected accuracy would still be compared with a mean over a few
# fine-tunings, which has noise: pairs of networks whose accuracies differ by less than that noise
# come in a random order, and no score can have them right more than by chance. So a correlation
# below 1 is no proof that the score is at fault, and scores are to be judged against the ceiling.
# It rises with more seeds, with more test images, and with networks that differ more; leaving out
# near ties after having seen them would raise it too, and would be choosing the data by the result.
# ```
