"""Scores that rank pretrained networks before fine-tuning.

Every score is a float made of what a network makes of N labelled images of the new task: features
(N, D), or probabilities (N, Z) for the Z classes of its pretraining. More means better. They are
written from the formulas of their papers; where a paper leaves a choice open, the docstring says
what was chosen. Arrays, tensors and lists of any real type are checked alike and never changed:
features, labels and errors are as in `h_score`. The last sentences have the range and the source.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy import linalg, optimize, special, stats
from scipy.spatial.distance import pdist
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from topo_utils.cubical import as_array


def h_score(features, labels):
    r"""H-score: how much of the features' variance, all directions counted alike, is the classes'.

    .. math:: H = \operatorname{tr}\!\left(\operatorname{cov}(f)^{+}
              \operatorname{cov}(\mathbb{E}[f \mid y])\right)

    with the pseudo-inverse where the covariance is singular. Invertible affine maps of the features
    change nothing. Where N <= D + 1, features in general position give C - 1 whatever the labels:
    use `regularised_h_score` there. From 0 to min(C - 1, D). Source: Bao et al., An
    information-theoretic approach to transferability in task transfer learning, ICIP 2019.

    Parameters
    ----------
    features : array or tensor, shape (N, D)
        What the network makes of N images.
    labels : array or tensor of integers or bool, shape (N,)
        Their classes: C >= 2 of them, any numbers.

    Raises
    ------
    ValueError
        Different shapes, labels that are no integers, NaN or infinite features, features that are
        the same for all images, fewer than two classes, or no more images than classes.
    """
    x, y, precision = _checked(features, labels)
    return float(_class_shares(x, y, precision)[1].sum())


def regularised_h_score(features, labels):
    r"""H-score with a covariance that few images can estimate (Ledoit and Wolf's shrinkage).

    .. math:: H_\alpha = (1 - \alpha) \operatorname{tr}\!\left(\Sigma_\alpha^{-1}
              \operatorname{cov}(\mathbb{E}[f \mid y])\right), \qquad
              \Sigma_\alpha = (1 - \alpha) \Sigma + \alpha \frac{\operatorname{tr} \Sigma}{D} I

    where alpha is the Ledoit-Wolf intensity (scikit-learn). Rotation, shift and a common scale of
    the features change nothing.

    From 0 to min(C - 1, D). Source: Ibrahim, Ponomareva, Mazumder, Newer is not always better:
    rethinking transferability metrics, their peculiarities, stability and performance, ECML PKDD
    2022 (arXiv 2110.06893, 2021).
    """
    x, y, precision = _checked(features, labels)
    variances, shares = _class_shares(x, y, precision)
    shrinkage = ledoit_wolf_shrinkage(x)
    kept = (1 - shrinkage) * variances
    target = shrinkage * variances.sum() / x.shape[1]
    return float((1 - shrinkage) * np.sum(variances / (kept + target) * shares))


def leep(probabilities, labels):
    r"""LEEP: the log-likelihood of the labels if they are read off the source classes.

    .. math:: \frac{1}{N} \sum_i \log \sum_z \hat P(y_i \mid z)\, \theta_z(x_i), \qquad
              \hat P(y, z) = \frac{1}{N} \sum_{i: y_i = y} \theta_z(x_i)

    where theta (N, Z) is the network's probability for source class z: at least 0, each row of sum
    1 (to 0.005).

    At most 0. Source: Nguyen et al., LEEP: a new measure to evaluate transferability of learned
    representations, ICML 2020.
    """
    theta, y, _ = _checked(probabilities, labels, "probabilities")
    joint = np.eye(y.max() + 1)[y].T @ theta / len(y)
    marginal = joint.sum(axis=0)
    used = marginal > 0
    conditional = joint[:, used] / marginal[used]
    return float(np.log(np.sum(conditional[y] * theta[:, used], axis=1)).mean())


def nce(probabilities, labels):
    r"""NCE: minus the conditional entropy of the labels, given the most probable source class.

    .. math:: -H(Y \mid Z) = \sum_{y, z} \hat P(y, z) \log \frac{\hat P(y, z)}{\hat P(z)}

    Of source classes that are equally probable the first is taken; probabilities are as in `leep`.

    From minus the entropy of the labels, at least -log C, to 0; in nats. Source: Tran, Nguyen,
    Hassner, Transferability and hardness of supervised classification tasks, ICCV 2019.
    """
    theta, y, _ = _checked(probabilities, labels, "probabilities")
    joint = np.zeros((y.max() + 1, theta.shape[1]))
    np.add.at(joint, (y, theta.argmax(axis=1)), 1 / len(y))
    return float(special.rel_entr(joint, joint.sum(axis=0)).sum())


def nleep(features, labels, *, n_components=None, seed=0):
    r"""NLEEP: LEEP where a Gaussian mixture of the features stands in for the source classes.

    The features are projected on the principal components that hold 80 % of their variance; a
    mixture of V Gaussians is fitted to them (scikit-learn); its posteriors P(v | x) are the
    probabilities of `leep`. V is `n_components`, from 1 to N: by default 5 for each class, as in
    published comparisons, but at most one for two images. The covariances are diagonal here, since
    a component has too few images for more. The mixture starts at random: the score depends on the
    seed and, a little, on the order of the images.

    At most 0, which it approaches as V approaches N, whatever the labels. Source: Li et al.,
    Ranking neural checkpoints, CVPR 2021.
    """
    x, y, _ = _checked(features, labels)
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
        return leep(mixture.fit(projected).predict_proba(projected), y)


def logme(features, labels):
    r"""LogME: the evidence for a Bayesian linear model of the labels, at its best.

    For each class, its indicator t (1 or 0 an image) is modelled as t = F w + noise with
    w ~ N(0, 1/alpha) and noise ~ N(0, 1/beta), without an intercept; the score is

    .. math:: \frac{1}{C} \sum_c \frac{1}{N} \max_{\alpha, \beta} \log
              \mathcal{N}\!\left(t_c;\, 0,\, \beta^{-1} I + \alpha^{-1} F F^\top\right).

    With lambda = alpha / beta given, the best beta has a closed form; so the maximum, which the
    paper's fixed-point iteration seeks too, is sought over lambda alone, on a grid and then between
    its points, from one singular value decomposition for all classes. Rotation and a common scale
    of the features change nothing; a constant feature counts, it is an intercept.

    Any number; infinite when features of a rank below N fit the labels exactly, since the evidence
    then has no bound. Source: You et al., LogME: practical assessment of pre-trained models for
    transfer learning, ICML 2021.
    """
    x, y, precision = _checked(features, labels)
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

    where Z has its mean over all images subtracted, the classes' means staying in Z_c, and `eps` is
    positive (the paper's 1e-4). Classes count by their size (in the paper's listing, all alike: the
    same where they are balanced). Rotation and shift change nothing, the scale of features does.

    At least 0, since log det is concave; in nats. Source: Huang et al., Frustratingly easy
    transferability estimation, ICML 2022.
    """
    if not 0 < eps < math.inf:
        raise ValueError(f"eps is {eps!r}; needed: a positive number")
    x, y, _ = _checked(features, labels)
    x -= x.mean(axis=0)

    def rate(z):
        smaller = z if len(z) <= z.shape[1] else z.T  # Z Z^T has the same determinant here
        gram = smaller @ smaller.T / (len(z) * eps)
        return 0.5 * np.linalg.slogdet(np.eye(len(gram)) + gram).logabsdet

    return float(rate(x) - sum(len(z) / len(x) * rate(z) for z in _by_class(x, y)))


def gbc(features, labels):
    r"""GBC: minus the overlap of the classes, each taken as a spherical Gaussian.

    .. math:: -\sum_{c \ne d} \exp(-B_{cd}), \qquad
              B_{cd} = \frac{\lVert \mu_c - \mu_d \rVert^2}{8 \bar v}
              + \frac{D}{2} \log \frac{\bar v}{\sqrt{v_c v_d}}, \qquad \bar v = \frac{v_c + v_d}{2}

    with B the Bhattacharyya distance, mu the means and v the variances of the classes (over images
    and features); each class needs two different images. Of the paper's two choices of covariance,
    diagonal and spherical, this is the spherical one: it needs the fewest images, and rotation,
    shift and a common scale change nothing. Features that are the same for all are left out.

    From -C (C - 1) to 0; with hundreds of features and classes far apart, hardly below 0. Source:
    Pándy et al., Transferability estimation using Bhattacharyya class separability, CVPR 2022.
    """
    x, y, _ = _checked(features, labels)
    x = x[:, np.ptp(x, axis=0) > 0]
    groups = _by_class(x, y)
    same = [not np.ptp(group, axis=0).any() for group in groups]
    if any(same):
        label = as_array(labels, "labels", "")[y == same.index(True)][0]
        raise ValueError(
            f"all images of class {label} have the same features; needed: at least 2 different "
            "ones, for a variance"
        )
    means = np.stack([group.mean(axis=0) for group in groups])
    variances = np.array([group.var(axis=0).mean() for group in groups])
    c, d = np.triu_indices(len(groups), 1)
    mean_variance = (variances[c] + variances[d]) / 2
    distances = pdist(means, "sqeuclidean") / (8 * mean_variance) + x.shape[1] / 2 * np.log(
        mean_variance / np.sqrt(variances[c] * variances[d])
    )
    return float(-2 * np.exp(-distances).sum())


def parc(features, labels, *, n_images=None, seed=0):
    r"""PARC: do images of different classes have different features, pair by pair?

    .. math:: \operatorname{spearman}_{i < j}\left(1 - \operatorname{pearson}(f_i, f_j),\;
              1 - \operatorname{pearson}(e_{y_i}, e_{y_j})\right)

    where e is the one-hot label. Each feature is first brought to mean 0 and variance 1 over the
    images, as in the authors' implementation, so that its shift and scale change nothing; features
    that are the same for all are left out. Refused are fewer than two that vary, an image whose
    standardised features are all the same, and pairs that are all equally far apart. Time and
    memory grow with the square of N: `n_images` draws so many at random, by the seed.

    From -1 to 1 (the authors give percent). Source: Bolya, Mittapalli, Hoffman, Scalable diverse
    model selection for accessible transfer learning, NeurIPS 2021.
    """
    x, y, _ = _checked(features, labels)
    if n_images is not None and n_images < len(x):
        drawn = np.random.default_rng(seed).permutation(len(x))[: max(n_images, 0)]
        x, y, _ = _checked(x[drawn], y[drawn])
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
    2. Confidence mixing: each image moves towards the mean m of the means of the other classes by
       what it lacks in confidence, x <- w x + (1 - w) m, where w is the entry for its class of the
       softmax of p.
    3. The analysis again on these, lambda as it was; the score is the mean of log p(y | x).

    The constants 5 and 1e-10, the target tr(S) / D and the second softmax, which leaves even sure
    images something to lose, are those of the authors' implementation. Rotation and shift change
    nothing, but lambda depends on the scale. With more features than images and a large sigma it
    comes close to 0 whatever the labels. Features without variance within classes are refused.

    At most 0. Source: Shao et al., Not all models are equal: predicting model transferability in a
    self-challenging Fisher space, ECCV 2022.
    """
    x, y, _ = _checked(features, labels)
    n_images, n_features = x.shape
    x -= x.mean(axis=0)
    if n_features > n_images:  # the same inner products in fewer coordinates
        x = np.linalg.qr(x.T, mode="r").T
    log_prior = np.log(np.bincount(y) / n_images)

    def log_posterior(x, regularisation):
        means = _class_means(x, y)
        within = x - means[y]
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
    means = _class_means(x, y)
    others = (means.sum(axis=0) - means) / (len(means) - 1)
    log_p, _ = log_posterior(weight * x + (1 - weight) * others[y], regularisation)
    return float(log_p[own].mean())


def knn_score(features, labels, *, k=5):
    """Accuracy of the k nearest neighbours, each image asked of all others (leave-one-out).

    Distances are Euclidean, k is from 1 to N - 1. Where m classes have the most votes, each counts
    1/m, the accuracy to be expected if one of them is drawn. Rotation, shift and a common scale of
    the features change nothing.

    From 0 to 1. Source: Cover, Hart, Nearest neighbor pattern classification, IEEE Transactions on
    Information Theory 1967.
    """
    x, y, _ = _checked(features, labels)
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


def _checked(values, labels, name="features"):
    """Values (N, D) as a new float64 array, labels as 0, ..., C - 1, the values' precision."""
    needed = f"needed: (N, {'D' if name == 'features' else 'Z'}), finite numbers"
    x = as_array(values, name, needed)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"{name} have shape {x.shape}; {needed}")
    real = x.dtype.kind in "fiub"
    # Numbers of half precision are no less exact than those of single; there are fewer of them.
    single = x.dtype.kind == "f" and x.dtype.itemsize <= 4
    with np.errstate(over="ignore"):  # of longer floats
        x = x.astype(np.float64) if real else x
    if not real or not np.isfinite(x).all():
        raise ValueError(f"{name} have NaN, infinite or no real values; {needed}")

    labels = as_array(labels, "labels", "needed: (N,), one whole number for each image")
    if labels.shape != (len(x),):
        raise ValueError(
            f"{name} are of {len(x)} images and labels have shape {labels.shape}; needed: (N,), "
            "one label for each image"
        )
    if labels.dtype.kind not in "iub":
        raise ValueError(f"labels are of type {labels.dtype}; needed: integers")
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels have {len(classes)} class; needed: at least 2")
    if len(x) <= len(classes):
        raise ValueError(
            f"{len(x)} images of {len(classes)} classes; needed: more images than classes"
        )

    if name == "features" and not np.ptp(x, axis=0).any():
        raise ValueError("features are the same for all images; needed: at least one that varies")
    if name == "probabilities":
        softmax = "(a softmax makes probabilities of a network's outputs)"
        if x.min() < 0:
            raise ValueError(f"{name} go down to {x.min():.3g}; needed: at least 0 {softmax}")
        sums = x.sum(axis=1)
        if np.abs(sums - 1).max() > 5e-3:  # bfloat16 rounds each probability by up to 0.4 %
            raise ValueError(
                f"{name} have rows of sum {sums.min():.4g} to {sums.max():.4g}; needed: 1 {softmax}"
            )
    return x, y, float(np.finfo(np.float32 if single else np.float64).eps)


def _by_class(x, y):
    """The rows of each class."""
    return [x[y == c] for c in range(y.max() + 1)]


def _class_means(x, y):
    return np.stack([group.mean(axis=0) for group in _by_class(x, y)])


def _thin_svd(x, precision):
    """Left singular vectors (N, R) and singular values (R,), R the rank to this precision."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    rank = np.sum(s > s[0] * max(x.shape) * precision)
    return u[:, :rank], s[:rank]


def _class_shares(x, y, precision):
    """Variance of each principal component, and the share of it that is between classes."""
    u, s = _thin_svd(x - x.mean(axis=0), precision)
    return s**2 / len(x), np.bincount(y) @ _class_means(u, y) ** 2
