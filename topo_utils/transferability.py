"""Scores that rank pretrained networks before fine-tuning, and how well a ranking agrees.

Every score sees what a network makes of N labelled images of the new task: its features, or its
probabilities for the classes of its pretraining. Of every score, more means better. They are
written from the formulas of their papers; where a paper leaves a choice open, the docstring says
what was chosen.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
from scipy import linalg, optimize, special, stats
from scipy.spatial.distance import pdist
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from topo_utils.complexity import _check_bootstrap
from topo_utils.cubical import as_array

__all__ = [
    "SCORES",
    "gbc",
    "h_score",
    "knn_score",
    "leep",
    "logme",
    "nce",
    "nleep",
    "parc",
    "rank_agreement",
    "regularised_h_score",
    "sfda",
    "transrate",
]


def h_score(features, labels):
    r"""H-score: how much of the features' variance, all directions counted alike, is the classes'.

    .. math:: H = \operatorname{tr}\!\left(\operatorname{cov}(f)^{+}
              \operatorname{cov}(\mathbb{E}[f \mid y])\right)

    with the pseudo-inverse where the covariance is singular. Higher is better. It does not change
    under any invertible affine map of the features. From N <= D + 1 on, features in general
    position give C - 1 whatever the labels: use `regularised_h_score` there.

    Parameters
    ----------
    features : array or tensor, shape (N, D)
        What the network makes of N images; of any real type, bfloat16 included.
    labels : array or tensor of integers or bool, shape (N,)
        Their classes: C >= 2 of them, any numbers.

    Returns
    -------
    float
        From 0 to min(C - 1, D).

    Raises
    ------
    ValueError
        Other shapes, labels that are no integers, NaN or infinite features, features that are the
        same for all images, fewer than two classes, or no more images than classes.

    References
    ----------
    Bao et al., An information-theoretic approach to transferability in task transfer learning,
    ICIP 2019.
    """
    x, y, precision = _labelled(features, labels)
    return float(_class_shares(x, y, precision)[1].sum())


def regularised_h_score(features, labels):
    r"""H-score with a covariance that few images can estimate (Ledoit and Wolf's shrinkage).

    .. math:: H_\alpha = (1 - \alpha) \operatorname{tr}\!\left(\Sigma_\alpha^{-1}
              \operatorname{cov}(\mathbb{E}[f \mid y])\right), \qquad
              \Sigma_\alpha = (1 - \alpha) \Sigma + \alpha \frac{\operatorname{tr} \Sigma}{D} I

    where alpha is the Ledoit-Wolf intensity (scikit-learn). Higher is better. It does not change
    under rotation, shift and a common scale of the features.

    Parameters
    ----------
    features, labels
        As for `h_score`.

    Returns
    -------
    float
        From 0 to min(C - 1, D).

    Raises
    ------
    ValueError
        As `h_score`.

    References
    ----------
    Ibrahim, Ponomareva, Mazumder, Newer is not always better: rethinking transferability metrics,
    their peculiarities, stability and performance, ECML PKDD 2022 (arXiv 2110.06893, 2021).
    """
    x, y, precision = _labelled(features, labels)
    variances, shares = _class_shares(x, y, precision)
    shrinkage = ledoit_wolf_shrinkage(x)
    kept = (1 - shrinkage) * variances
    target = shrinkage * variances.sum() / x.shape[1]
    return float((1 - shrinkage) * np.sum(variances / (kept + target) * shares))


def leep(probabilities, labels):
    r"""LEEP: the log-likelihood of the labels if they are read off the source classes.

    .. math:: \frac{1}{N} \sum_i \log \sum_z \hat P(y_i \mid z)\, \theta_z(x_i), \qquad
              \hat P(y, z) = \frac{1}{N} \sum_{i: y_i = y} \theta_z(x_i)

    where theta is the network's probability for source class z. Higher is better.

    Parameters
    ----------
    probabilities : array or tensor, shape (N, Z)
        For the Z classes of the pretraining: at least 0, each row of sum 1 (to 0.005).
    labels : array or tensor of integers or bool, shape (N,)
        Classes of the new task: C >= 2 of them, any numbers.

    Returns
    -------
    float
        At most 0.

    Raises
    ------
    ValueError
        As `h_score`, or rows that are no probabilities.

    References
    ----------
    Nguyen et al., LEEP: a new measure to evaluate transferability of learned representations,
    ICML 2020.
    """
    theta, y = _source(probabilities, labels)
    return _leep(theta, y)


def nce(probabilities, labels):
    r"""NCE: minus the conditional entropy of the labels, given the most probable source class.

    .. math:: -H(Y \mid Z) = \sum_{y, z} \hat P(y, z) \log \frac{\hat P(y, z)}{\hat P(z)}

    Higher is better: in this form the paper's entropy is already negated. Of source classes that
    are equally probable the first is taken.

    Parameters
    ----------
    probabilities, labels
        As for `leep`.

    Returns
    -------
    float
        From minus the entropy of the labels, at least -log C, to 0; in nats.

    Raises
    ------
    ValueError
        As `leep`.

    References
    ----------
    Tran, Nguyen, Hassner, Transferability and hardness of supervised classification tasks,
    ICCV 2019.
    """
    theta, y = _source(probabilities, labels)
    joint = np.zeros((y.max() + 1, theta.shape[1]))
    np.add.at(joint, (y, theta.argmax(axis=1)), 1 / len(y))
    return float(special.rel_entr(joint, joint.sum(axis=0)).sum())


def nleep(features, labels, *, n_components=None, seed=0):
    r"""NLEEP: LEEP where a Gaussian mixture of the features stands in for the source classes.

    The features are projected on the principal components that hold 80 % of their variance; a
    mixture of V Gaussians is fitted to them (scikit-learn); its posteriors P(v | x) are the
    probabilities of `leep`. Higher is better. The covariances are diagonal here, since a component
    has too few images for more. The mixture starts at random: the score depends on the seed and, a
    little, on the order of the images.

    Parameters
    ----------
    features, labels
        As for `h_score`.
    n_components : int, optional
        V. Without it 5 for each class, as in published comparisons, but at most one for two
        images.
    seed : int
        Of the start of the mixture.

    Returns
    -------
    float
        At most 0, which it approaches as V approaches N, whatever the labels.

    Raises
    ------
    ValueError
        As `h_score`, or V below 1 or above N.

    References
    ----------
    Li et al., Ranking neural checkpoints, CVPR 2021.
    """
    x, y, _ = _labelled(features, labels)
    if n_components is None:
        n_components = min(5 * (y.max() + 1), len(x) // 2)
    if not 1 <= n_components <= len(x):
        raise ValueError(
            f"{n_components} components for {len(x)} images; needed: from 1 to as many as images"
        )
    projected = PCA(n_components=0.8, svd_solver="full").fit_transform(x)
    # The mixture sees variance 1, so that the floor it puts under variances is relative.
    projected /= projected.std()
    mixture = GaussianMixture(n_components, covariance_type="diag", random_state=seed)
    with warnings.catch_warnings():
        # A score needs the posteriors, not the last digits of the likelihood.
        warnings.simplefilter("ignore", ConvergenceWarning)
        posteriors = mixture.fit(projected).predict_proba(projected)
    return _leep(posteriors, y)


def logme(features, labels):
    r"""LogME: the evidence for a Bayesian linear model of the labels, at its best.

    For each class, its indicator t (1 or 0 an image) is modelled as t = F w + noise with
    w ~ N(0, 1/alpha) and noise ~ N(0, 1/beta), without an intercept; the score is

    .. math:: \frac{1}{C} \sum_c \frac{1}{N} \max_{\alpha, \beta} \log
              \mathcal{N}\!\left(t_c;\, 0,\, \beta^{-1} I + \alpha^{-1} F F^\top\right).

    Higher is better. With lambda = alpha / beta given, the best beta has a closed form; so the
    maximum is sought over lambda alone, on a grid and then between its points, from one singular
    value decomposition for all classes. The paper's fixed-point iteration seeks the same maximum.
    It does not change under rotation and a common scale of the features; a constant feature counts,
    it is an intercept.

    Parameters
    ----------
    features, labels
        As for `h_score`.

    Returns
    -------
    float
        Any number; infinite when features of a rank below N fit the labels exactly, since the
        evidence then has no bound.

    Raises
    ------
    ValueError
        As `h_score`.

    References
    ----------
    You et al., LogME: practical assessment of pre-trained models for transfer learning,
    ICML 2021.
    """
    x, y, precision = _labelled(features, labels)
    n_images = len(x)
    u, s = _thin_svd(x, precision)
    targets = np.eye(y.max() + 1)[y]
    inside = u.T @ targets
    outside = np.sum((targets - u @ inside) ** 2, axis=0)
    if len(s) < n_images and outside.min() <= (n_images * precision) ** 2:
        return math.inf
    inside, log_s2 = inside**2, 2 * np.log(s)

    def evidence(log_lambda, column):
        """Per image, at the best beta; log_lambda of shape (G,), result (G, columns)."""
        # s^2 / lambda of each direction: log(1 + .) to its determinant, 1 / (1 + .) to its misfit.
        log_ratio = log_s2 - log_lambda[:, None]
        misfit = outside[column] + special.expit(-log_ratio) @ inside[:, column]
        determinant = np.logaddexp(0, log_ratio).sum(axis=1)[:, None]
        likelihood = np.log(2 * np.pi * math.e * misfit / n_images)
        return -0.5 * (likelihood + determinant / n_images)

    grid = np.arange(log_s2.min() - 18, log_s2.max() + 18, 0.25)
    on_grid = evidence(grid, slice(None))
    best = []
    for c, i in enumerate(on_grid.argmax(axis=0)):
        bounds = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
        found = optimize.minimize_scalar(
            lambda at, c=c: -evidence(np.array([at]), [c]).item(), bounds=bounds, method="bounded"
        )
        best.append(max(-found.fun, on_grid[i, c]))
    return float(np.mean(best))


def transrate(features, labels, *, eps=1e-4):
    r"""TransRate: the coding rate of all features less the mean rate of the classes.

    .. math:: R(Z) - \sum_c \frac{N_c}{N} R(Z_c), \qquad
              R(Z) = \tfrac{1}{2} \log\det\!\left(I + \frac{1}{N \varepsilon} Z^\top Z\right)

    where Z has its mean over all images subtracted, the classes' means staying in Z_c. Higher is
    better. Classes count by their size (in the paper's listing, all alike: the same where they are
    balanced). It does not change under rotation and shift, but it does with the scale of the
    features.

    Parameters
    ----------
    features, labels
        As for `h_score`.
    eps : float
        Positive; the paper's 1e-4.

    Returns
    -------
    float
        At least 0, since log det is concave; in nats.

    Raises
    ------
    ValueError
        As `h_score`, or `eps` that is not a positive number.

    References
    ----------
    Huang et al., Frustratingly easy transferability estimation, ICML 2022.
    """
    if not 0 < eps < math.inf:
        raise ValueError(f"eps is {eps!r}; needed: a positive number")
    x, y, _ = _labelled(features, labels)
    x -= x.mean(axis=0)

    def rate(z):
        smaller = z if len(z) <= z.shape[1] else z.T  # Z Z^T has the same determinant here
        gram = smaller @ smaller.T / (len(z) * eps)
        return 0.5 * np.linalg.slogdet(np.eye(len(gram)) + gram).logabsdet

    classes = [x[y == c] for c in range(y.max() + 1)]
    return float(rate(x) - sum(len(z) / len(x) * rate(z) for z in classes))


def gbc(features, labels):
    r"""GBC: minus the overlap of the classes, each taken as a spherical Gaussian.

    .. math:: -\sum_{c \ne d} \exp(-B_{cd}), \qquad
              B_{cd} = \frac{\lVert \mu_c - \mu_d \rVert^2}{8 \bar v}
              + \frac{D}{2} \log \frac{\bar v}{\sqrt{v_c v_d}}, \qquad \bar v = \frac{v_c + v_d}{2}

    with B the Bhattacharyya distance, mu the means and v the variances of the classes (over images
    and features). Higher is better. Of the paper's two choices of covariance, diagonal and
    spherical, this is the spherical one: it needs the fewest images and does not change under
    rotation, shift and a common scale. Features that are the same for all images are left out.

    Parameters
    ----------
    features, labels
        As for `h_score`; each class with at least two different images.

    Returns
    -------
    float
        From -C (C - 1) to 0; with hundreds of features and classes far apart, hardly below 0.

    Raises
    ------
    ValueError
        As `h_score`, or a class without variance.

    References
    ----------
    Pándy et al., Transferability estimation using Bhattacharyya class separability, CVPR 2022.
    """
    x, y, _ = _labelled(features, labels)
    x = x[:, np.ptp(x, axis=0) > 0]
    means, _ = _class_means(x, y)
    same = [not np.ptp(x[y == c], axis=0).any() for c in range(len(means))]
    if any(same):
        label = as_array(labels, "labels", "")[y == same.index(True)][0]
        raise ValueError(
            f"all images of class {label} have the same features; needed: at least 2 different "
            "ones, for a variance"
        )
    variances = np.array([x[y == c].var(axis=0).mean() for c in range(len(means))])
    c, d = np.triu_indices(len(means), 1)
    mean_variance = (variances[c] + variances[d]) / 2
    distances = pdist(means, "sqeuclidean") / (8 * mean_variance) + x.shape[1] / 2 * np.log(
        mean_variance / np.sqrt(variances[c] * variances[d])
    )
    return float(-2 * np.exp(-distances).sum())


def parc(features, labels, *, n_images=None, seed=0):
    r"""PARC: do images of other classes have other features, pair by pair?

    .. math:: \operatorname{spearman}_{i < j}\left(1 - \operatorname{pearson}(f_i, f_j),\;
              1 - \operatorname{pearson}(e_{y_i}, e_{y_j})\right)

    where e is the one-hot label. Higher is better. Each feature is first brought to mean 0 and
    variance 1 over the images, as in the authors' implementation; features that are the same for
    all images are left out. It does not change under shift and scale of single features.

    Parameters
    ----------
    features, labels
        As for `h_score`; at least two features.
    n_images : int, optional
        Take so many of the images, drawn at random: time and memory grow with their square.
        Without it, or with more than there are, all are taken.
    seed : int
        Of the draw.

    Returns
    -------
    float
        From -1 to 1 (the authors give percent).

    Raises
    ------
    ValueError
        As `h_score`; fewer than two features that vary; an image without a correlation, since its
        standardised features are all the same; or pairs that are all equally far apart.

    References
    ----------
    Bolya, Mittapalli, Hoffman, Scalable diverse model selection for accessible transfer learning,
    NeurIPS 2021.
    """
    x, y, _ = _labelled(features, labels)
    if n_images is not None and n_images < len(x):
        drawn = np.random.default_rng(seed).permutation(len(x))[: max(n_images, 0)]
        x, y, _ = _labelled(x[drawn], y[drawn])
    x = x[:, np.ptp(x, axis=0) > 0]
    if x.shape[1] < 2:
        raise ValueError("1 feature varies; a correlation of two images needs at least 2")
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    if not np.ptp(x, axis=1).all():
        raise ValueError(
            f"image {np.ptp(x, axis=1).argmin()} has the same value in all standardised features: "
            "it has no correlation with others"
        )
    i, j = np.triu_indices(len(x), 1)
    distances = 1 - np.corrcoef(x)[i, j]
    if not np.ptp(distances):
        raise ValueError("all pairs of images are equally far apart: no rank correlation")
    # Of one-hot labels the distance is 0 or C / (C - 1): for ranks, whether the labels differ.
    return float(stats.spearmanr(distances, y[i] != y[j]).statistic)


def sfda(features, labels):
    r"""SFDA: how well regularised Fisher discriminants tell the classes, made hard for themselves.

    1. Discriminant analysis: with class means mu, class shares q, and the covariance within
       classes S regularised by its largest eigenvalue sigma,

       .. math:: \tilde S = (1 - \lambda) S + \lambda \frac{\operatorname{tr} S}{D} I, \quad
                 \lambda = \max(e^{-5 \sigma}, 10^{-10}), \quad
                 p(c \mid x) \propto q_c \exp\left(x^\top \tilde S^{-1} \mu_c
                 - \tfrac{1}{2} \mu_c^\top \tilde S^{-1} \mu_c\right)

       which is the Bayes rule in the paper's projection: outside it the classes are alike.
    2. Confidence mixing: each image moves towards the mean of the other classes' means m by what it
       lacks in confidence, x <- w x + (1 - w) m, where w is the entry for its class of the softmax
       of p.
    3. The analysis again on these, lambda as it was; the score is the mean of log p(y | x).

    Higher is better. The constants 5 and 1e-10, the target tr(S) / D and the second softmax, which
    leaves even sure images something to lose, are those of the authors' implementation. It does not
    change under rotation and shift, but lambda depends on the scale. With more features than images
    and a large sigma it comes close to 0 whatever the labels.

    Parameters
    ----------
    features, labels
        As for `h_score`.

    Returns
    -------
    float
        At most 0.

    Raises
    ------
    ValueError
        As `h_score`, or features without variance within the classes.

    References
    ----------
    Shao et al., Not all models are equal: predicting model transferability in a self-challenging
    Fisher space, ECCV 2022.
    """
    x, y, _ = _labelled(features, labels)
    n_images, n_features = x.shape
    x -= x.mean(axis=0)
    if n_features > n_images:  # the same inner products in fewer coordinates
        x = np.linalg.qr(x.T, mode="r").T
    log_prior = np.log(np.bincount(y) / n_images)

    def log_posterior(x, regularisation):
        means, within = _class_means(x, y)
        covariance = within.T @ within / n_images
        target = np.trace(covariance) / n_features
        if target <= n_images * np.finfo(x.dtype).eps * np.mean(x**2):
            raise ValueError("the features have no variance within the classes")
        if regularisation is None:
            last = [len(covariance) - 1] * 2
            sigma = linalg.eigh(covariance, eigvals_only=True, subset_by_index=last).item()
            regularisation = max(math.exp(-5 * sigma), 1e-10)
        covariance *= 1 - regularisation
        covariance.flat[:: len(covariance) + 1] += regularisation * target
        directions = linalg.solve(covariance, means.T, assume_a="pos")
        constant = log_prior - 0.5 * np.sum(means.T * directions, axis=0)
        return special.log_softmax(x @ directions + constant, axis=1), regularisation

    own = np.arange(n_images), y
    log_p, regularisation = log_posterior(x, None)
    weight = special.softmax(np.exp(log_p), axis=1)[own][:, None]
    means, _ = _class_means(x, y)
    others = (means.sum(axis=0) - means) / (len(means) - 1)
    log_p, _ = log_posterior(weight * x + (1 - weight) * others[y], regularisation)
    return float(log_p[own].mean())


def knn_score(features, labels, *, k=5):
    """Accuracy of the k nearest neighbours, each image asked of all others (leave-one-out).

    Distances are Euclidean. Where m classes have the most votes, each counts 1/m, the accuracy to
    be expected if one of them is drawn. Higher is better. It does not change under rotation, shift
    and a common scale of the features.

    Parameters
    ----------
    features, labels
        As for `h_score`.
    k : int
        Number of neighbours, from 1 to N - 1.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        As `h_score`, or `k` out of range.

    References
    ----------
    Cover, Hart, Nearest neighbor pattern classification, IEEE Transactions on Information Theory
    1967.
    """
    x, y, _ = _labelled(features, labels)
    if not 1 <= k < len(x):
        raise ValueError(f"k is {k!r} for {len(x)} images; needed: from 1 to {len(x) - 1}")
    # Asked without points, it leaves each image out of its own neighbours.
    neighbours = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(return_distance=False)
    votes = np.eye(y.max() + 1)[y[neighbours]].sum(axis=1)
    winners = votes == votes.max(axis=1, keepdims=True)
    return float(np.mean(winners[np.arange(len(y)), y] / winners.sum(axis=1)))


#: Every score by its short name: the function, and what it takes beside the labels ("features" or
#: "probabilities").
SCORES = {
    "H-score": (h_score, "features"),
    "regularised H-score": (regularised_h_score, "features"),
    "LEEP": (leep, "probabilities"),
    "NLEEP": (nleep, "features"),
    "NCE": (nce, "probabilities"),
    "LogME": (logme, "features"),
    "TransRate": (transrate, "features"),
    "GBC": (gbc, "features"),
    "PARC": (parc, "features"),
    "SFDA": (sfda, "features"),
    "k-NN": (knn_score, "features"),
}


def rank_agreement(scores, accuracies, *, n_bootstrap=2000, confidence=0.95, seed=0):
    """How well a score agrees with the accuracies that the models reached.

    Pearson's correlation, Kendall's tau-b, Spearman's, and the weighted Kendall correlation
    (`scipy.stats.weightedtau`: exchanges among the best models weigh most). The intervals are
    percentiles over resamples of the models. A resample holds some models more than once, and
    with few models the intervals are rough.

    Parameters
    ----------
    scores : array-like, shape (M,)
        Of M >= 3 models, oriented so that higher means better: the weighted Kendall correlation of
        -s is not minus that of s, so a score of which less is better is to be negated before, not
        its correlation afterwards.
    accuracies : array-like, shape (M,)
        Of the same models in the same order; two Series must have the same index.
    n_bootstrap : int
        Number of resamples. Those in which all scores or all accuracies are equal have no
        correlation and are left out; ``attrs["left_out"]`` of the result tells how many.
    confidence : float
        Of the intervals, between 0 and 1.
    seed : int
        Of the resamples.

    Returns
    -------
    pandas.DataFrame
        Rows pearson, kendall, spearman, weighted_kendall; columns value, low, high; from -1 to 1.

    Raises
    ------
    ValueError
        Other shapes or lengths, different models, fewer than three, NaN or infinite values, scores
        or accuracies that are all equal, or a confidence or number of resamples out of range.

    References
    ----------
    Vigna, A weighted correlation index for rankings with ties, WWW 2015.
    """
    _check_bootstrap(n_bootstrap, confidence)
    both = isinstance(scores, pd.Series) and isinstance(accuracies, pd.Series)
    if both and not scores.index.equals(accuracies.index):
        raise ValueError("scores and accuracies are of different models or in another order")
    s, a = (
        _without_rounding(as_array(values, name, "needed: (M,), one number for each model"))
        for values, name in ((scores, "scores"), (accuracies, "accuracies"))
    )
    if s.ndim != 1 or s.shape != a.shape:
        raise ValueError(
            f"scores have shape {s.shape}, accuracies {a.shape}; needed: (M,), one for each model"
        )
    if len(s) < 3:
        raise ValueError(f"{len(s)} models; a correlation needs at least 3")
    for name, values in (("scores", s), ("accuracies", a)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} have NaN or infinite values; needed: finite ones")
        if not np.ptp(values):
            raise ValueError(f"{name} are all equal: there is nothing to rank")

    draws = np.random.default_rng(seed).integers(len(s), size=(n_bootstrap, len(s)))
    draws = draws[(np.ptp(s[draws], axis=1) > 0) & (np.ptp(a[draws], axis=1) > 0)]
    if not len(draws):
        raise ValueError(f"no resample of {n_bootstrap} has a correlation; take more of them")
    tail = 50 * (1 - confidence)
    # In parts, since each resample needs a square of the number of models.
    parts = [_correlations(s[part], a[part]) for part in np.array_split(draws, 20)]
    intervals = np.percentile(np.concatenate(parts, axis=1), [tail, 100 - tail], axis=1)
    values = _correlations(s[None], a[None])[:, 0]
    table = pd.DataFrame(
        {"value": values, "low": intervals[0], "high": intervals[1]},
        index=["pearson", "kendall", "spearman", "weighted_kendall"],
    )
    table.attrs["left_out"] = n_bootstrap - len(draws)
    return table


def _without_rounding(values):
    """The numbers to 12 digits, so that sums in another order are equal, and equal in rank."""
    digits, exponents = np.frexp(values.astype(np.float64))
    return np.ldexp(np.round(digits, 12), exponents)


def _correlations(s, a):
    """The four correlations of each row of two arrays (B, M); shape (4, B)."""

    def pearson(x, y):
        x, y = (z - z.mean(axis=1, keepdims=True) for z in (x, y))
        # Some scores are so small that their squares would vanish.
        x, y = (z / np.abs(z).max(axis=1, keepdims=True) for z in (x, y))
        found = np.sum(x * y, axis=1) / np.sqrt(np.sum(x**2, axis=1) * np.sum(y**2, axis=1))
        return np.round(found, 12)  # so that a half is not less than a half

    def signs(x):
        return np.sign(x[:, :, None] - x[:, None, :]).reshape(len(x), x.shape[1] ** 2)

    return np.stack(
        [
            pearson(s, a),
            # Tau-b is Pearson's correlation of the orders of all pairs, each pair both ways.
            pearson(signs(s), signs(a)),
            pearson(stats.rankdata(s, axis=1), stats.rankdata(a, axis=1)),
            [stats.weightedtau(*row).statistic for row in zip(s, a, strict=True)],
        ]
    )


# ---------------------------------------------------------------------------------------------
# What several scores share.


def _checked_labels(labels, n_images, name):
    """Labels as 0, ..., C - 1."""
    labels = as_array(labels, "labels", "needed: (N,), one whole number for each image")
    if labels.shape != (n_images,):
        raise ValueError(
            f"{name} are of {n_images} images and labels have shape {labels.shape}; needed: (N,), "
            "one label for each image"
        )
    if labels.dtype.kind not in "iub":
        raise ValueError(f"labels are of type {labels.dtype}; needed: integers")
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels have {len(classes)} class; needed: at least 2")
    if n_images <= len(classes):
        raise ValueError(
            f"{n_images} images of {len(classes)} classes; needed: more images than classes"
        )
    return y


def _matrix(values, name, columns):
    """Values as a new float64 array (N, columns), and the precision in which they came."""
    values = as_array(values, name, f"needed: (N, {columns}), finite numbers")
    if values.ndim != 2 or not values.size:
        raise ValueError(f"{name} have shape {values.shape}; needed: (N, {columns})")
    single = values.dtype.kind == "f" and values.dtype.itemsize <= 4
    # Numbers of half precision are no less exact than those of single; there are fewer of them.
    precision = np.finfo(np.float32 if single else np.float64).eps
    real = values.dtype.kind in "fiub"
    with np.errstate(over="ignore"):  # of longer floats
        values = values.astype(np.float64) if real else values
    if not real or not np.isfinite(values).all():
        raise ValueError(f"{name} have NaN, infinite or no real values; needed: finite numbers")
    return values, float(precision)


def _labelled(features, labels):
    """Features as a new float64 array, labels as 0, ..., C - 1, and the features' precision."""
    x, precision = _matrix(features, "features", "D")
    y = _checked_labels(labels, len(x), "features")
    if not np.ptp(x, axis=0).any():
        raise ValueError("features are the same for all images; needed: at least one that varies")
    return x, y, precision


def _source(probabilities, labels):
    """Probabilities as float64, labels as 0, ..., C - 1."""
    theta, _ = _matrix(probabilities, "probabilities", "Z")
    y = _checked_labels(labels, len(theta), "probabilities")
    if theta.min() < 0:
        raise ValueError(
            f"probabilities go down to {theta.min():.3g}; needed: at least 0 (a softmax makes "
            "probabilities of a network's outputs)"
        )
    sums = theta.sum(axis=1)
    if np.abs(sums - 1).max() > 5e-3:  # bfloat16 rounds each probability by up to 0.4 %
        raise ValueError(
            f"probabilities have rows of sum {sums.min():.4g} to {sums.max():.4g}; needed: 1 (a "
            "softmax makes probabilities of a network's outputs)"
        )
    return theta, y


def _leep(theta, y):
    joint = np.eye(y.max() + 1)[y].T @ theta / len(y)
    marginal = joint.sum(axis=0)
    used = marginal > 0
    conditional = joint[:, used] / marginal[used]
    return float(np.log(np.sum(conditional[y] * theta[:, used], axis=1)).mean())


def _class_means(x, y):
    """Means of the classes (C, D), and what the images differ from them (N, D)."""
    means = np.stack([x[y == c].mean(axis=0) for c in range(y.max() + 1)])
    return means, x - means[y]


def _thin_svd(x, precision):
    """Left singular vectors (N, R) and singular values (R,), R the rank to this precision."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    rank = np.sum(s > s[0] * max(x.shape) * precision)
    return u[:, :rank], s[:rank]


def _class_shares(x, y, precision):
    """Variance of each principal component, and the share of it that is between classes."""
    u, s = _thin_svd(x - x.mean(axis=0), precision)
    means, _ = _class_means(u, y)
    return s**2 / len(x), np.bincount(y) @ means**2
