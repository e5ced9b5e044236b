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

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-intro", "locked": true, "schema_version": 3, "solution": false, "task": false}
# # Problem set 4: ranking networks
#
# Which pretrained network will do best on my data, before I fine-tune any of them? A *transferability
# score* gives each network a number; a good score puts the networks in the order of the accuracies
# that they would reach. You write two of them: θ, made from the curve of topological complexity, and
# LogME, made from features and labels. With the authors' own figures θ ranks nine networks well.
# Then you break it, without touching the data, and say what follows.
#
# | task | what | points |
# |---|---|---|
# | 1 | θ | 6 |
# | 2 | Kendall's τ, and the published ranking | 4 |
# | 3 | θ on another axis | 5 |
# | 4 | what follows (marked by hand) | 6 |
# | 5 | the evidence of a linear model | 4 |
# | 6 | LogME | 5 |
# | 7 | which score would you use (marked by hand) | 4 |
#
# About two hours. You need least squares with a penalty, the density of a normal distribution, and
# what chapter *Does complexity fall with depth?* says of Ω. Replace what stands at `YOUR CODE HERE` and
# `YOUR ANSWER HERE`; the cell after each task tests it, and more tests are run when the set is graded.
# Restart the kernel and run all cells before you hand it in.

# %% nbgrader={"grade": false, "grade_id": "ps4-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from topo_utils import load_images, load_model, published_table
from topo_utils.plotting import COLOURS, use_style

use_style()
table = published_table("suresh2023_cifar10_betti").sort_values("block")
curves = {name: rows["omega_mean"].to_numpy() for name, rows in table.groupby("model", sort=False)}
accuracy = published_table("suresh2023_cifar10_accuracy").set_index("model")[
    "finetuned_accuracy_percent"
]
curves = {name: curves[name] for name in accuracy.index}  # in one order


def searched_evidence(features, target):
    """The greatest log evidence divided by N, by search on the normal density itself (for tests)."""

    def minus_density(logs):
        alpha, beta = np.exp(logs)
        covariance = np.eye(len(target)) / beta + features @ features.T / alpha
        return -multivariate_normal(cov=covariance).logpdf(target) / len(target)

    return -minimize(minus_density, np.zeros(2), method="Nelder-Mead").fun


pd.DataFrame({"blocks": {name: len(curve) for name, curve in curves.items()}, "accuracy": accuracy})

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-theta-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 1: θ (6 points)
#
# Of the mean complexities Ω₁, …, Ω_L of a network's blocks,
#
# $$y = \Omega / \lVert\Omega\rVert_2, \qquad x = 1, 2, \dots, L,$$
#
# and a cubic is fitted with a penalty on the three coefficients, but *not* on the intercept:
#
# $$\min_{c_0, c_1, c_2, c_3} \sum_{i=1}^{L} \left(y_i - c_0 - c_1 x_i - c_2 x_i^2 - c_3 x_i^3\right)^2
# + 10^{-3} \left(c_1^2 + c_2^2 + c_3^2\right).$$
#
# The score is $\theta = c_1 + \tfrac12 c_2 + \tfrac12 c_3$. The lower θ, the better the network, its
# authors say. Other values for x can be given as `positions`; you need them in task 3.
#
# A hint: with y and the columns x, x², x³ each less its mean, the intercept drops out, and what is
# left is a least-squares problem with three more rows. Do not call `topo_utils.theta_score`: that is
# what you are writing.


# %% nbgrader={"grade": false, "grade_id": "ps4-theta", "locked": false, "schema_version": 3, "solution": true, "task": false}
def theta(omega, positions=None, penalty=1e-3):
    """The score of a curve (L,), on x = 1, ..., L or on other positions (L,)."""
    ### BEGIN SOLUTION
    # solution-marker-ps4-theta
    y = omega / np.linalg.norm(omega)
    x = np.arange(1.0, len(y) + 1) if positions is None else np.asarray(positions, dtype=float)
    powers = np.stack([x, x**2, x**3], axis=1)
    rows = np.vstack([powers - powers.mean(axis=0), np.sqrt(penalty) * np.eye(3)])
    coefficients = np.linalg.lstsq(rows, np.append(y - y.mean(), np.zeros(3)), rcond=None)[0]
    return coefficients @ [1.0, 0.5, 0.5]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps4-theta-test-scale", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
one = theta(curves["vgg16"])
assert np.isclose(theta(1000 * curves["vgg16"]), one), (
    "a curve that is 1000 times as high must have the same theta: Omega is divided by its norm "
    "(the definition of y)"
)

# %% nbgrader={"grade": true, "grade_id": "ps4-theta-test-published", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
for name, expected in (("vgg16", 0.2034), ("densenet121", -0.0311)):
    found = theta(curves[name])
    assert abs(found - expected) < 1e-3, (
        f"theta of {name} is {expected} on the published curve, yours is {found:.4f}; look at the "
        "definition: x = 1, ..., L, the sum c1 + c2/2 + c3/2, and its sign"
    )

# %% nbgrader={"grade": true, "grade_id": "ps4-theta-test-fit", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
x = np.arange(1.0, 13)
cubic = 500 - 30 * x + 4 * x**2 - 0.1 * x**3
expected = (-30 + 4 / 2 - 0.1 / 2) / np.linalg.norm(cubic)
found = theta(cubic, penalty=1e-12)
assert np.isclose(found, expected, rtol=1e-3), (
    "with hardly any penalty, a curve that is a cubic gives its own coefficients over the norm: "
    f"expected {expected:.5f}, yours {found:.5f}"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps4-theta
published = {
    "resnet18": 0.19442,
    "resnet50": 0.14661,
    "resnet101": 0.01337,
    "resnet152": 0.00845,
    "mobilenet_v2": 0.05564,
    "densenet121": -0.03113,
    "densenet169": -0.03150,
    "densenet201": -0.02856,
}
for name, expected in published.items():
    found = theta(curves[name])
    assert abs(found - expected) < 1e-4, (
        f"theta of {name} is {expected:.5f}, yours is {found:.5f}; look at the definition in task "
        "1: the penalty of 0.001 is on c1, c2 and c3, and not on c0"
    )
found = theta(cubic, positions=x / 12, penalty=1e-12)
expected = (-30 * 12 + 4 * 144 / 2 - 0.1 * 1728 / 2) / np.linalg.norm(cubic)
assert np.isclose(found, expected, rtol=1e-3), (
    "with positions given, these take the place of x = 1, ..., L; a cubic on x / 12 has "
    f"theta {expected:.5f}, yours is {found:.5f}"
)
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-kendall-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 2: Kendall's τ, and the published ranking (4 points)
#
# Take every pair of networks. It is *concordant* if score and accuracy put it in the same order, and
# *discordant* if they put it in opposite orders (a tie is neither). Kendall's τ is the number of
# concordant less that of discordant pairs, over the number of all pairs: 1 where both orders are the
# same, −1 where one is the other reversed. Count yourself, without a statistics library.
#
# Then give the names of the nine networks as θ ranks them, the best first, and τ of that ranking:
# it is to be positive where θ and the accuracies agree on which network is better.


# %% nbgrader={"grade": false, "grade_id": "ps4-kendall", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kendall(score, outcome):
    """Kendall's tau of two sequences of numbers of one length."""
    ### BEGIN SOLUTION
    # solution-marker-ps4-kendall
    score, outcome = list(score), list(outcome)
    pairs = list(combinations(range(len(score)), 2))
    return sum(
        np.sign(score[i] - score[j]) * np.sign(outcome[i] - outcome[j]) for i, j in pairs
    ) / len(pairs)
    ### END SOLUTION


def ranking_by_theta():
    """Names of the nine networks, the best by theta first."""
    ### BEGIN SOLUTION
    # solution-marker-ps4-kendall
    return sorted(curves, key=lambda name: theta(curves[name]))
    ### END SOLUTION


def tau_of_theta(positions=None):
    """Kendall's tau of theta and the authors' accuracies, positive where they agree.

    `positions` is a function that takes the array 1, ..., L and gives other positions.
    """
    ### BEGIN SOLUTION
    # solution-marker-ps4-kendall
    scores = []
    for curve in curves.values():
        x = np.arange(1.0, len(curve) + 1)
        scores.append(-theta(curve, x if positions is None else positions(x)))
    return kendall(scores, accuracy)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps4-kendall-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
assert kendall([1, 2, 3, 4], [10, 20, 30, 40]) == 1, "two equal orders have tau = 1"
assert kendall([1, 2, 3, 4], [40, 30, 20, 10]) == -1, "an order and its reverse have tau = -1"
assert np.isclose(kendall([1, 2, 3], [1, 3, 2]), 1 / 3), (
    "of the three pairs of (1, 2, 3) and (1, 3, 2) two are concordant and one is discordant: "
    "tau = 1/3"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps4-kendall
assert np.isclose(kendall([3, 1, 2, 5, 4], [1, 2, 3, 4, 5]), 0.4), (
    "(3, 1, 2, 5, 4) against (1, ..., 5): 7 pairs are concordant and 3 discordant, tau = 0.4"
)
assert np.isclose(kendall([1, 1, 2], [1, 2, 3]), 2 / 3), (
    "a tied pair is neither concordant nor discordant, but it is a pair: (1, 1, 2) against "
    "(1, 2, 3) has tau = 2/3 by the definition in task 2"
)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "ps4-ranking-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
ranked = list(ranking_by_theta())
assert sorted(ranked) == sorted(curves), (
    f"the ranking must name each of the nine networks once; yours: {ranked}"
)
assert tau_of_theta() > 0, (
    "tau is negative: the lower theta, the better the network, so what must agree with the "
    "accuracy is minus theta"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps4-ranking
assert ranked[:3] == ["densenet169", "densenet121", "densenet201"], (
    f"the three lowest theta are those of the DenseNets; your best three are {ranked[:3]} (task 2: "
    "the best first, and lower is better)"
)
assert ranked[-1] == "vgg16", f"VGG-16 has the highest theta, so it comes last; yours: {ranked[-1]}"
assert abs(tau_of_theta() - 28 / 36) < 1e-6, (
    "on the authors' figures 32 of 36 pairs are concordant and 4 discordant: tau = 0.778; yours is "
    f"{tau_of_theta():.3f}"
)
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "ps4-figure-theta", "locked": true, "schema_version": 3, "solution": false, "task": false}
groups = {"the authors": accuracy}
for group, file in (("SFDA", "sfda2022_finetuned_accuracy"), ("TLLIB", "tllib_model_selection")):
    rows = published_table(file)
    groups[group] = rows[rows["dataset"] == "cifar10"].set_index("model")[
        "finetuned_accuracy_percent"
    ]
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.6), sharex=True)
for ax, (group, values) in zip(axes, groups.items(), strict=True):
    shared = [name for name in curves if name in values.index]
    tau = kendall([-theta(curves[name]) for name in shared], values[shared])
    for name in shared:
        family = ("vgg", "res", "mob", "den").index(name[:3])
        ax.plot(theta(curves[name]), values[name], "o", color=COLOURS[family])
    ax.set(title=f"accuracies of {group}\n{len(shared)} networks, τ = {tau:.2f}", xlabel="θ")
axes[0].set_ylabel("fine-tuned accuracy on CIFAR-10, %")
plt.show()

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-axis-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 3: θ on another axis (5 points)
#
# The blocks of a network are counted 1, 2, 3, … That is a choice of unit: one could as well measure
# depth in tenths of a block, or as a share of the whole. A property of the networks should not care.
#
# - `broken(x)` takes the positions 1, …, L and gives others. Only the unit may change: the result
#   must be x times a positive number, which may depend on L but on nothing else of the network (so
#   0.5 x, x / L, x / ‖x‖, …). Find one for which τ is 0.2 or less.
# - `theta_without_unit(omega, positions)` is to be a score in the same spirit that gives the *same*
#   value for `positions` and for any positive multiple of them. What you do is up to you; two
#   different networks must still get different values.


# %% nbgrader={"grade": false, "grade_id": "ps4-axis", "locked": false, "schema_version": 3, "solution": true, "task": false}
def broken(x):
    """The positions 1, ..., L in another unit."""
    ### BEGIN SOLUTION
    # solution-marker-ps4-axis
    return x / np.linalg.norm(x)
    ### END SOLUTION


def theta_without_unit(omega, positions):
    """A score of a curve (L,) that does not depend on the unit of the positions (L,)."""
    ### BEGIN SOLUTION
    # solution-marker-ps4-axis
    return theta(omega, positions / np.max(positions))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps4-axis-test-broken", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
for length in (11, 53):
    x = np.arange(1.0, length + 1)
    factor = broken(x) / x
    assert np.allclose(factor, factor[0]), (
        "broken(x) is not x times one number: only the unit of depth may change, not the distances "
        "of the blocks relative to one another (task 3)"
    )
    assert factor[0] > 0, "the factor must be positive: depth still goes from first to last"
tau = tau_of_theta(broken)
assert tau <= 0.2, (
    f"on your axis tau is {tau:.3f}; wanted: 0.2 or less. Try units that make the positions small, "
    "and plot tau against the factor"
)

# %% nbgrader={"grade": true, "grade_id": "ps4-axis-test-unit", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
for name in ("vgg16", "resnet152"):
    x = np.arange(1.0, len(curves[name]) + 1)
    values = [theta_without_unit(curves[name], factor * x) for factor in (1.0, 0.01, 30.0)]
    assert np.allclose(values, values[0], rtol=1e-4), (
        f"{name} has the scores {np.round(values, 4)} with depth in three units; expected: one "
        "score for all (bring the positions to one unit of your own first)"
    )
different = {
    round(float(theta_without_unit(curve, np.arange(1.0, len(curve) + 1))), 6)
    for curve in curves.values()
}
assert len(different) == 9, "the nine networks must not get equal scores: a constant ranks nothing"

# %% nbgrader={"grade": false, "grade_id": "ps4-figure-axis", "locked": true, "schema_version": 3, "solution": false, "task": false}
factors = np.geomspace(1e-3, 100, 60)
taus = [tau_of_theta(lambda x, factor=factor: factor * x) for factor in factors]
unit_free = kendall(
    [-theta_without_unit(c, np.arange(1.0, len(c) + 1)) for c in curves.values()], accuracy
)
figure, ax = plt.subplots()
ax.step(factors, taus, where="mid", label="x = factor · (1, …, L)")
ax.plot(1, tau_of_theta(), "o", color=COLOURS[1], label="as the authors count, factor 1")
ax.axhline(tau_of_theta(broken), ls="--", color=COLOURS[3], label="your axis")
ax.axhline(unit_free, ls=":", color=COLOURS[2], label="your score without a unit")
ax.set(xscale="log", xlabel="factor: the unit of depth", ylabel="Kendall's τ", ylim=(-0.5, 1))
ax.legend(fontsize=9)
plt.show()

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-argument-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 4: what follows (6 points, marked by hand)
#
# In ten sentences at most: why does θ depend on the unit of depth (look at the units of c₁, c₂ and
# c₃, and at the penalty)? Somebody says: "On x = 1, …, L it works, so this is the right axis." What
# do you answer? The figure above also has two other groups' accuracies for the same networks and data:
# what do they add? Which experiment would convince you that θ measures something?

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps4-argument", "locked": false, "points": 6, "schema_version": 3, "solution": true, "task": false}
# <!-- solution-marker-ps4-argument -->
# A full answer (points in brackets)
#
# - says that c₁, c₂ and c₃ have the units 1/depth, 1/depth² and 1/depth³, so that their sum means
#   nothing until a unit is fixed: in a small unit of length θ is c₁, in a large one c₃ (2);
# - adds the penalty: it is on the coefficients, so it too acts differently in each unit (1);
# - answers the objection: an axis that is chosen because it gives the wanted order on nine networks
#   has been fitted to these nine. It would have to be fixed before, from a reason, and hold for
#   networks that were not looked at (1);
# - reads the other groups: the accuracies of the same networks on the same data differ by group, as
#   the training recipes do, and θ agrees with the other two much less; so τ with the authors' own
#   figures overstates what is known (1);
# - proposes a test that could fail: axis and penalty fixed beforehand, many networks of several
#   families that did not serve to find the score, accuracies by one recipe, an interval for τ, and
#   simple rivals beside it (depth, the number of parameters, the accuracy on ImageNet) (1).

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-evidence-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 5: the evidence of a linear model (4 points)
#
# LogME (You and others, 2021) asks how well a linear model on a network's features explains the
# labels, without fitting one set of weights: it averages over all of them. With features F (N, D),
# N targets y, weights w with prior N(0, I/α) and noise of variance 1/β,
#
# $$y = F w + \varepsilon, \qquad \text{so that} \qquad
# y \sim \mathcal N\!\left(0,\; \tfrac1\beta I + \tfrac1\alpha F F^\top\right).$$
#
# The *evidence* is the density of that distribution at y. Write its logarithm, *divided by N*. For
# speed use D × D matrices instead of N × N: with $A = \alpha I + \beta F^\top F$ and
# $m = \beta A^{-1} F^\top y$,
#
# $$\log p(y) = \tfrac N2 \log\beta + \tfrac D2 \log\alpha - \tfrac N2 \log 2\pi
# - \tfrac\beta2 \lVert F m - y\rVert^2 - \tfrac\alpha2 \lVert m\rVert^2 - \tfrac12 \log\det A.$$


# %% nbgrader={"grade": false, "grade_id": "ps4-evidence", "locked": false, "schema_version": 3, "solution": true, "task": false}
def log_evidence(features, target, alpha, beta):
    """Log evidence of targets (N,) given features (N, D), divided by N."""
    ### BEGIN SOLUTION
    # solution-marker-ps4-evidence
    n, d = features.shape
    a = alpha * np.eye(d) + beta * features.T @ features
    m = beta * np.linalg.solve(a, features.T @ target)
    misfit = np.sum((features @ m - target) ** 2)
    log_p = n * np.log(beta) + d * np.log(alpha) - n * np.log(2 * np.pi)
    log_p -= beta * misfit + alpha * m @ m + np.linalg.slogdet(a)[1]
    return log_p / (2 * n)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps4-evidence-test-one", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
found = log_evidence(np.ones((1, 1)), np.zeros(1), 1.0, 1.0)
assert np.isclose(found, -0.5 * np.log(4 * np.pi)), (
    "one target 0 with one feature 1 and alpha = beta = 1: y has variance 2, so the logarithm of "
    f"its density at 0 is -log(4 pi) / 2 = -1.2655; yours is {found:.4f}"
)

# %% nbgrader={"grade": true, "grade_id": "ps4-evidence-test-density", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
rng = np.random.default_rng(0)
features, target = rng.normal(size=(20, 4)), rng.normal(size=20)
covariance = np.eye(20) / 3.0 + features @ features.T / 0.7
expected = multivariate_normal(cov=covariance).logpdf(target) / 20
found = log_evidence(features, target, 0.7, 3.0)
assert np.isclose(found, expected), (
    f"alpha = 0.7, beta = 3, 20 targets: the normal density itself gives {expected:.5f} for each "
    f"target, yours is {found:.5f} (divided by N?)"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps4-evidence
features, target = rng.normal(size=(6, 9)), rng.normal(size=6)  # more features than targets
covariance = np.eye(6) / 0.2 + features @ features.T / 5.0
expected = multivariate_normal(cov=covariance).logpdf(target) / 6
found = log_evidence(features, target, 5.0, 0.2)
assert np.isclose(found, expected), (
    f"with more features than targets the normal density gives {expected:.5f} for each target, "
    f"yours is {found:.5f}: look at the formula in task 5 (which of the terms have N, which D?)"
)
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-logme-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 6: LogME (5 points)
#
# α and β are chosen so that the evidence is greatest. From α = β = 1, repeat, say 50 times: compute
# m as above, and with the eigenvalues σ² of FᵀF
#
# $$\gamma = \sum_{i=1}^{D} \frac{\beta\sigma_i^2}{\alpha + \beta\sigma_i^2}, \qquad
# \alpha \leftarrow \frac{\gamma}{\lVert m\rVert^2}, \qquad
# \beta \leftarrow \frac{N - \gamma}{\lVert F m - y\rVert^2}.$$
#
# For labels with K classes, the target of class k is 1 for the images of that class and 0 for all
# others. **LogME** is the mean, over the classes, of the greatest log evidence (divided by N, as in
# task 5). The higher, the better. (`searched_evidence` of the first cell finds the greatest evidence
# by trial and error; it serves for the tests only.)


# %% nbgrader={"grade": false, "grade_id": "ps4-logme", "locked": false, "schema_version": 3, "solution": true, "task": false}
def greatest_evidence(features, target):
    """The greatest log evidence over alpha and beta, divided by N."""
    ### BEGIN SOLUTION
    # solution-marker-ps4-logme
    n, d = features.shape
    gram = features.T @ features
    eigenvalues = np.linalg.eigvalsh(gram).clip(0)
    alpha = beta = 1.0
    for _ in range(50):
        m = beta * np.linalg.solve(alpha * np.eye(d) + beta * gram, features.T @ target)
        gamma = np.sum(beta * eigenvalues / (alpha + beta * eigenvalues))
        alpha = gamma / (m @ m)
        beta = (n - gamma) / np.sum((features @ m - target) ** 2)
    return log_evidence(features, target, alpha, beta)
    ### END SOLUTION


def logme(features, labels):
    """LogME of features (N, D) for labels (N,), whole numbers."""
    ### BEGIN SOLUTION
    # solution-marker-ps4-logme
    classes = np.unique(labels)
    return np.mean([greatest_evidence(features, (labels == k).astype(float)) for k in classes])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "ps4-logme-test-greatest", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
rng = np.random.default_rng(1)
features = rng.normal(size=(40, 5))
target = features @ [1.0, -2.0, 0.0, 0.5, 1.0] + rng.normal(size=40)
found, best = greatest_evidence(features, target), searched_evidence(features, target)
assert np.isclose(found, best, atol=1e-4), (
    f"a search over alpha and beta finds {best:.5f} as the greatest evidence, yours is {found:.5f}: "
    "look at the three updates in task 6, and repeat them until nothing changes"
)

# %% nbgrader={"grade": true, "grade_id": "ps4-logme-test-classes", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
labels = np.arange(40) % 4
features = np.random.default_rng(2).normal(size=(40, 5)) + np.eye(4, 5)[labels]
renumbered = np.array([2, 0, 3, 1])[labels]
assert np.isclose(logme(features, labels), logme(features, renumbered)), (
    "LogME changes when the classes are numbered in another way: the target of a class is 1 for its "
    "images and 0 for all others, and the number of a class means nothing"
)
### BEGIN HIDDEN TESTS
# hidden-marker-ps4-logme
expected = np.mean([searched_evidence(features, (labels == k).astype(float)) for k in range(4)])
found = logme(features, labels)
assert np.isclose(found, expected, atol=1e-4), (
    f"for four classes the greatest evidences have the mean {expected:.5f}; yours is {found:.5f} "
    "(the mean over classes, each divided by N: the definition in task 6)"
)
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-live-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# LogME at work: nine small networks that were trained on pictures of clothes (Fashion-MNIST), and
# handwritten digits as the new task. The features of 200 digits give the score; the outcome is the
# accuracy of a linear classifier, fitted to the same 200 and tried on 200 others.

# %% nbgrader={"grade": false, "grade_id": "ps4-features", "locked": true, "schema_version": 3, "solution": false, "task": false}
from topo_utils.candidates import CANDIDATES

digits, labels = load_images("digits", 28, n_images=400)
labels = labels.numpy()
with torch.inference_mode():
    features_of = {name: load_model(name).features(digits).double().numpy() for name in CANDIDATES}

# %% nbgrader={"grade": false, "grade_id": "ps4-live", "locked": true, "schema_version": 3, "solution": false, "task": false}
order = np.random.default_rng(0).permutation(400)
seen, held_out = order[:200], order[200:]
rows = {}
for name, features in features_of.items():
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(features[seen], labels[seen])
    rows[name] = {
        "LogME": logme(features[seen], labels[seen]),
        "accuracy": classifier.score(features[held_out], labels[held_out]),
    }
live = pd.DataFrame(rows).T
print(f"Kendall's tau of LogME: {kendall(live['LogME'], live['accuracy']):.2f}")
figure, ax = plt.subplots()
for name, row in live.iterrows():
    ax.plot(row["LogME"], row["accuracy"], "o", color=COLOURS[0])
    ax.annotate(name.removeprefix("fashion_"), (row["LogME"], row["accuracy"]), fontsize=8)
ax.set(xlabel="LogME on 200 digits", ylabel="accuracy on 200 other digits")
plt.show()

# %% [markdown] nbgrader={"grade": false, "grade_id": "ps4-choice-text", "locked": true, "schema_version": 3, "solution": false, "task": false}
# ## Task 7: which score would you use (4 points, marked by hand)
#
# A colleague has twenty pretrained networks, 500 labelled pictures and an afternoon. Which of the two
# scores would you advise, or neither, and why? Say what each of them needs (labels, a threshold, a
# depth axis, a choice of layer), what each cannot see, and how far you trust the last figure: it has
# nine points, one draw of images, and an outcome that is itself a linear model on the same features.

# %% [markdown] nbgrader={"grade": true, "grade_id": "ps4-choice", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# <!-- solution-marker-ps4-choice -->
# A full answer (one point each)
#
# - says what the scores need: LogME features of one layer and labels, nothing else to choose; θ no
#   labels, but a threshold, the choice of blocks and an axis, each of which changes it;
# - says what they cannot see: LogME takes the features as they are, and fine-tuning changes them; θ
#   has no part of the labels, so it ranks the networks in the same way for any task with these images;
# - doubts the figure for reasons: nine networks give a wide interval for τ, one draw of 400 digits has
#   an error of several per cent in each accuracy, and a linear classifier favours a score that is the
#   evidence of a linear model;
# - comes to advice that follows: for instance LogME first, the best few networks fine-tuned for
#   comparison, and a simple rival (the linear classifier itself) beside it.
