"""Every score against another route to the same number, its invariances, and what it refuses."""

import itertools
import math
import time
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import mutual_info_score
from threadpoolctl import threadpool_limits

from topo_utils.candidates import SmallNetwork
from topo_utils.training import one_thread
from topo_utils.transferability import (
    SCORES,
    gbc,
    h_score,
    knn_score,
    leep,
    logme,
    nce,
    nleep,
    parc,
    regularised_h_score,
    sfda,
    transrate,
)

FEATURES = [name for name, (_, kind) in SCORES.items() if kind == "features"]
PROBABILITIES = [name for name, (_, kind) in SCORES.items() if kind == "probabilities"]


def classes(n_features, sizes=(12, 20, 17), spread=1.0, seed=0):
    """Features (N, D) of classes of these sizes around means of their own, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    means = spread * rng.normal(size=(len(sizes), n_features))
    scales = rng.uniform(0.5, 1.5, n_features)
    features = (means[labels] + rng.normal(size=(len(labels), n_features))) * scales
    return features + 2 * rng.normal(size=n_features), labels


def source_probabilities(labels, n_source=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), n_source)) + 2 * np.eye(n_source)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def rotation(size, seed=0):
    return stats.ortho_group.rvs(size, random_state=seed)


# More images than features, about as many, and fewer.
TALL, SQUARE, WIDE = classes(6), classes(48), classes(80)
shapes = pytest.mark.parametrize(
    ("features", "labels"), [TALL, SQUARE, WIDE], ids=["tall", "square", "wide"]
)


# --- Each score by another route


@shapes
def test_h_score_is_the_trace_of_its_two_covariances(features, labels):
    means = np.array([features[labels == c].mean(axis=0) for c in range(3)])[labels]
    between, total = np.cov(means.T), np.cov(features.T)
    expected = np.trace(np.linalg.pinv(total, rcond=1e-12, hermitian=True) @ between)
    assert h_score(features, labels) == pytest.approx(expected, rel=1e-6)


def test_h_score_of_one_feature_is_the_correlation_ratio():
    features, labels = classes(1)
    found = stats.f_oneway(*(features[labels == c, 0] for c in range(3))).statistic
    expected = 2 * found / (2 * found + len(labels) - 3)
    assert h_score(features, labels) == pytest.approx(expected)


def test_h_score_of_one_hot_features_and_of_too_few_images():
    features, labels = WIDE
    assert h_score(np.eye(3)[labels], labels) == pytest.approx(2)
    # With as many features as images the labels make no difference, and regularisation is needed.
    shuffled = np.random.default_rng(0).permutation(labels)
    assert h_score(features, shuffled) == pytest.approx(2)
    assert regularised_h_score(features, labels) > 1.2 * regularised_h_score(features, shuffled)


def test_rank_is_that_of_the_precision_in_which_the_features_come():
    # A copy of a feature, but for the rounding to float32, brings nothing new.
    features, labels = TALL
    mixed = np.hstack([features, features @ rotation(6)]).astype(np.float32)
    assert h_score(mixed, labels) == pytest.approx(h_score(features, labels), rel=1e-4)


@shapes
def test_regularised_h_score_by_scikit_learn(features, labels):
    fitted = LedoitWolf().fit(features)
    means = np.array([features[labels == c].mean(axis=0) for c in range(3)])[labels]
    between = np.cov(means.T, bias=True)
    expected = (1 - fitted.shrinkage_) * np.trace(np.linalg.solve(fitted.covariance_, between))
    assert 0 < fitted.shrinkage_ < 1
    assert regularised_h_score(features, labels) == pytest.approx(expected, rel=1e-8)


def test_leep_by_sums():
    _, labels = TALL
    theta = source_probabilities(labels)
    n = len(labels)
    joint = Counter()
    for i, z in itertools.product(range(n), range(4)):
        joint[labels[i], z] += theta[i, z] / n
    total = 0.0
    for i in range(n):
        likelihood = 0.0
        for z in range(4):
            marginal = sum(joint[y, z] for y in range(3))
            likelihood += joint[labels[i], z] / marginal * theta[i, z]
        total += math.log(likelihood)
    assert leep(theta, labels) == pytest.approx(total / n)


def test_nce_by_mutual_information():
    _, labels = TALL
    theta = source_probabilities(labels)
    entropy = stats.entropy(np.bincount(labels))
    expected = mutual_info_score(labels, theta.argmax(axis=1)) - entropy
    assert nce(theta, labels) == pytest.approx(expected)


def test_leep_and_nce_at_their_ends_and_where_they_meet():
    _, labels = TALL
    entropy = stats.entropy(np.bincount(labels))
    uniform = np.full((len(labels), 4), 0.25)
    perfect = np.eye(5)[labels]  # two source classes are never met
    random = np.eye(4)[np.random.default_rng(0).integers(4, size=len(labels))]
    for score in (leep, nce):
        assert score(uniform, labels) == pytest.approx(-entropy)
        assert score(perfect, labels) == pytest.approx(0)
    assert leep(random, labels) == pytest.approx(nce(random, labels))
    assert -entropy < nce(random, labels) < 0


def test_nleep_of_clusters_far_apart_is_the_entropy_within_them():
    rng = np.random.default_rng(0)
    cluster = rng.permutation(np.repeat([0, 1, 2], [40, 30, 30]))
    centres = np.array([[0, 0, 0], [100, 0, 0], [0, 100, 0]])
    features = centres[cluster] + rng.normal(size=(100, 3))
    labels = np.where(rng.random(100) < 0.3, 1, 0)
    expected = mutual_info_score(labels, cluster) - stats.entropy(np.bincount(labels))
    assert nleep(features, labels, n_components=3) == pytest.approx(expected)
    order = rng.permutation(100)
    assert nleep(features[order], labels[order], n_components=3) == pytest.approx(expected)
    assert nleep(features, labels, n_components=1) == pytest.approx(
        -stats.entropy(np.bincount(labels))
    )
    assert nleep(features, cluster, n_components=3) == pytest.approx(0, abs=1e-9)


def test_nleep_takes_five_components_for_each_class_if_there_are_images_for_them():
    features, labels = classes(6, sizes=(40, 40))
    assert nleep(features, labels) == nleep(features, labels, n_components=10)
    few, few_labels = features[:12], labels[:12]
    assert nleep(few, few_labels) == nleep(few, few_labels, n_components=6)
    assert nleep(features, labels, seed=1) == nleep(features, labels, seed=1)
    assert nleep(features, labels, seed=1) != nleep(features, labels, seed=2)


def greatest_evidence(features, target):
    """Log evidence per image, maximised over alpha and beta with explicit matrices."""

    def minus_evidence(logs):
        alpha, beta = np.exp(np.clip(logs, -50, 50))
        covariance = np.eye(len(target)) / beta + features @ features.T / alpha
        log_determinant = np.linalg.slogdet(covariance).logabsdet
        misfit = target @ np.linalg.solve(covariance, target)
        return 0.5 * (len(target) * math.log(2 * math.pi) + log_determinant + misfit) / len(target)

    starts = itertools.product([-2.0, 1.0, 5.0], [0.0, 3.0])
    options = {"xatol": 1e-7, "fatol": 1e-12, "maxiter": 2000}
    found = [
        optimize.minimize(minus_evidence, start, method="Nelder-Mead", options=options).fun
        for start in starts
    ]
    return -min(found)


@pytest.mark.parametrize(
    ("features", "labels"),
    [classes(4, (9, 7, 8)), classes(23, (9, 7, 8)), classes(40, (9, 7, 8)), classes(5, (9, 9), 0)],
    ids=["tall", "square", "wide", "nothing to find"],
)
def test_logme_by_direct_maximisation_of_the_evidence(features, labels):
    targets = np.eye(labels.max() + 1)[labels]
    expected = np.mean([greatest_evidence(features, target) for target in targets.T])
    assert logme(features, labels) == pytest.approx(expected, abs=1e-6)


def test_logme_by_bayesian_ridge_regression():
    features, labels = TALL
    flat = {"alpha_1": 0, "alpha_2": 0, "lambda_1": 0, "lambda_2": 0}
    ridge = BayesianRidge(fit_intercept=False, compute_score=True, tol=1e-10, max_iter=1000, **flat)
    evidence = [ridge.fit(features, labels == c).scores_[-1] / len(labels) for c in range(3)]
    assert logme(features, labels) == pytest.approx(np.mean(evidence), abs=1e-6)


def test_logme_of_an_exact_fit_has_no_bound():
    features, labels = TALL
    assert logme(np.hstack([features, np.eye(3)[labels]]), labels) == math.inf
    assert logme(np.eye(3)[labels].astype(np.float32), labels) == math.inf
    # As many independent features as images fit anything: that is no such case.
    assert math.isfinite(logme(*WIDE))


@shapes
def test_transrate_by_determinants(features, labels):
    centred = features - features.mean(axis=0)

    def rate(z):
        inner = np.eye(z.shape[1]) + z.T @ z / (len(z) * 0.01)
        return 0.5 * np.log(np.linalg.eigvalsh(inner)).sum()

    of_classes = [(labels == c).mean() * rate(centred[labels == c]) for c in range(3)]
    expected = rate(centred) - sum(of_classes)
    assert transrate(features, labels, eps=0.01) == pytest.approx(expected)
    assert transrate(features, labels) > 0


def test_transrate_where_the_classes_differ_only_by_their_order():
    # Two classes at -1 and 1: R is the same for all images and for each class.
    features, labels = np.array([[-1.0], [1.0]] * 5), np.array([0, 1] * 5)
    assert transrate(features, labels) == pytest.approx(0, abs=1e-12)


def test_gbc_of_one_feature_by_integration():
    features, labels = classes(1, spread=2.0)
    total = 0.0
    for c, d in itertools.permutations(range(3), 2):
        p, q = (
            stats.norm(features[labels == k, 0].mean(), features[labels == k, 0].std())
            for k in (c, d)
        )
        total += integrate.quad(lambda x, p=p, q=q: math.sqrt(p.pdf(x) * q.pdf(x)), -50, 50)[0]
    assert gbc(features, labels) == pytest.approx(-total, rel=1e-5)


@pytest.mark.parametrize("n_features", [3, 80])
def test_gbc_by_covariance_matrices(n_features):
    features, labels = classes(n_features, spread=0.3)
    gaussians = []
    for c in range(3):
        own = features[labels == c]
        covariance = np.cov(own.T, bias=True)
        spherical = np.trace(covariance) / n_features * np.eye(n_features)
        gaussians.append((own.mean(axis=0), spherical))
    total = 0.0
    for (m, s), (n, t) in itertools.permutations(gaussians, 2):
        mean = (s + t) / 2
        log_ratio = np.linalg.slogdet(mean)[1] - np.mean(
            [np.linalg.slogdet(s)[1], np.linalg.slogdet(t)[1]]
        )
        total += math.exp(-(m - n) @ np.linalg.inv(mean) @ (m - n) / 8 - log_ratio / 2)
    assert gbc(features, labels) == pytest.approx(-total)


@shapes
def test_parc_pair_by_pair(features, labels):
    standardised = stats.zscore(features, axis=0)
    one_hot = np.eye(3)[labels]
    of_features, of_labels = [], []
    for i, j in itertools.combinations(range(len(labels)), 2):
        of_features.append(1 - stats.pearsonr(standardised[i], standardised[j]).statistic)
        of_labels.append(round(1 - stats.pearsonr(one_hot[i], one_hot[j]).statistic, 9))
    expected = stats.spearmanr(of_features, of_labels).statistic
    assert parc(features, labels) == pytest.approx(expected)


def test_parc_of_some_of_the_images():
    features, labels = TALL
    assert parc(features, labels, n_images=1000) == parc(features, labels)
    drawn = np.random.default_rng(3).permutation(len(labels))[:20]
    found = parc(features, labels, n_images=20, seed=3)
    assert found == pytest.approx(parc(features[drawn], labels[drawn]))
    assert found != parc(features, labels)


@pytest.mark.parametrize("scale", [0.05, 0.5, 5.0])
@shapes
def test_sfda_by_scikit_learns_discriminant_analysis(features, labels, scale):
    features = scale * features
    within = sum(
        (labels == c).mean() * np.cov(features[labels == c].T, bias=True) for c in range(3)
    )
    shrinkage = max(math.exp(-5 * np.linalg.eigvalsh(within)[-1]), 1e-10)
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    p = analysis.fit(features, labels).predict_proba(features)
    means = np.array([features[labels == c].mean(axis=0) for c in range(3)])
    harder = np.empty_like(features)
    for i, y in enumerate(labels):
        weight = np.exp(p[i, y]) / np.exp(p[i]).sum()
        other = np.mean([means[c] for c in range(3) if c != y], axis=0)
        harder[i] = weight * features[i] + (1 - weight) * other
    posterior = analysis.fit(harder, labels).predict_log_proba(harder)
    expected = posterior[np.arange(len(labels)), labels].mean()
    assert sfda(features, labels) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("k", [1, 2, 5, 48])
def test_knn_by_brute_force(k):
    features, labels = classes(3, spread=0.7)
    right = 0.0
    for i in range(len(labels)):
        distances = [math.dist(features[i], features[j]) for j in range(len(labels))]
        distances[i] = math.inf
        votes = Counter(labels[j] for j in np.argsort(distances)[:k])
        winners = [c for c, count in votes.items() if count == max(votes.values())]
        right += (labels[i] in winners) / len(winners)
    assert knn_score(features, labels, k=k) == pytest.approx(right / len(labels))


# --- Invariances


def seen(name, features, labels):
    """What a score takes: features, or probabilities made of the labels."""
    return features if SCORES[name][1] == "features" else source_probabilities(labels)


@pytest.mark.parametrize("name", [name for name in SCORES if name != "NLEEP"])
@shapes
def test_order_of_the_images_makes_no_difference(name, features, labels):
    score, given = SCORES[name][0], seen(name, features, labels)
    order = np.random.default_rng(1).permutation(len(labels))
    assert score(given[order], labels[order]) == pytest.approx(score(given, labels), rel=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_names_of_the_classes_make_no_difference(name):
    features, labels = TALL
    score, given = SCORES[name][0], seen(name, features, labels)
    renamed = np.array([7, -100, 3], dtype=np.int32)[labels]
    assert score(given, renamed) == pytest.approx(score(given, labels), rel=1e-6)


@pytest.mark.parametrize("name", PROBABILITIES)
def test_order_of_the_source_classes_makes_no_difference(name):
    _, labels = TALL
    score, given = SCORES[name][0], source_probabilities(labels)
    assert score(given[:, [2, 0, 3, 1]], labels) == pytest.approx(score(given, labels))


@pytest.mark.parametrize("name", [name for name in FEATURES if name != "PARC"])
@shapes
def test_rotation_makes_no_difference(name, features, labels):
    turned = features @ rotation(features.shape[1])
    if name != "LogME":  # which has no intercept
        turned += 1.0
    score = SCORES[name][0]
    assert score(turned, labels) == pytest.approx(score(features, labels), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", [n for n in FEATURES if n not in ("TransRate", "SFDA")])
@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_scale_makes_no_difference(name, factor):
    features, labels = TALL
    score = SCORES[name][0]
    scaled = pytest.approx(score(features, labels), rel=1e-5, abs=1e-7)
    # The evidence of LogME is a density of the labels, which keep their scale.
    assert score(factor * features, labels) == scaled


@pytest.mark.parametrize("name", ["H-score", "PARC"])
def test_scale_and_shift_of_single_features_make_no_difference(name):
    features, labels = TALL
    rng = np.random.default_rng(0)
    changed = features * rng.uniform(0.01, 100, 6) + rng.normal(size=6)
    score = SCORES[name][0]
    assert score(changed, labels) == pytest.approx(score(features, labels))


@pytest.mark.parametrize("name", ["H-score", "LEEP", "NCE", "TransRate", "GBC", "SFDA"])
@shapes
def test_every_image_twice_makes_no_difference(name, features, labels):
    score, given = SCORES[name][0], seen(name, features, labels)
    twice = np.concatenate([given, given]), np.concatenate([labels, labels])
    assert score(*twice) == pytest.approx(score(given, labels), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_constant_feature(name, value):
    features, labels = TALL
    score = SCORES[name][0]
    more = np.hstack([features, np.full((len(labels), 2), value)])
    if name in ("regularised H-score", "SFDA"):  # it takes part in the mean variance
        assert score(more, labels) == pytest.approx(score(features, labels), rel=0.5)
    elif name == "LogME" and value:  # it is an intercept
        assert score(more, labels) > score(features, labels)
    elif name == "LogME":
        assert score(more, labels) == pytest.approx(score(features, labels))
    else:
        assert score(more, labels) == pytest.approx(score(features, labels))


def strided(values):
    """The same values in memory that goes backwards, has gaps and the axes exchanged."""
    spread = np.zeros((2 * values.shape[1], 3 * values.shape[0]), values.dtype)[::2, ::-3]
    spread[...] = values.T
    return spread.T


FORMS = {
    "bfloat16": lambda v: torch.tensor(v, dtype=torch.bfloat16),
    "float16": lambda v: torch.tensor(v, dtype=torch.float16),
    "float32": lambda v: torch.tensor(v, dtype=torch.float32),
    "with a gradient": lambda v: torch.tensor(v).bfloat16().requires_grad_(),
    "a part of a tensor": lambda v: torch.tensor(np.hstack([v, v])).bfloat16()[:, : v.shape[1]],
    "a transposed tensor": lambda v: torch.tensor(v.T.copy(), dtype=torch.bfloat16).T,
    "a list of tensors": lambda v: list(torch.tensor(v, dtype=torch.bfloat16)),
    "a nested list": lambda v: v.tolist(),
    "strided": strided,
    "by columns": np.asfortranarray,
    **{t: lambda v, t=t: v.astype(t) for t in ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8")},
    "long double": lambda v: v.astype(np.longdouble),
}


@pytest.mark.parametrize("name", SCORES)
def test_values_of_every_type_and_in_any_memory(name):
    features, labels = TALL
    score, given = SCORES[name][0], seen(name, features, labels)
    given = torch.tensor(given).bfloat16().double().numpy()  # what all these types can hold
    expected = score(given, labels)
    assert type(expected) is float
    for form, make in FORMS.items():
        assert score(make(given), labels) == pytest.approx(expected, rel=1e-9), form
    for named in (labels.tolist(), torch.tensor(labels), labels.astype(">i2"), labels[::-1][::-1]):
        assert score(given, named) == expected
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert score(given, torch.tensor(labels).to(dtype)) == expected
    two = score(given, (labels == 1).astype(int))
    assert score(given, labels == 1) == score(given, torch.tensor(labels == 1)) == two


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, ">i2", bool])
def test_features_that_are_whole_numbers(name, dtype):
    rng = np.random.default_rng(0)
    features = rng.integers(2 if dtype is bool else 9, size=(60, 5))
    labels = (features.sum(axis=1) + rng.integers(5, size=60)) % 3
    score = SCORES[name][0]
    assert score(features.astype(dtype), labels) == score(features.astype(float), labels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_of_half_precision_keep_their_rank(dtype):
    # Single ones with a hundredth of the variance count, however many the images are.
    features, labels = classes(4, sizes=(500, 500, 500))
    features = torch.tensor(features / [1, 1, 100, 1000]).to(dtype)
    assert h_score(features, labels) == pytest.approx(h_score(features.double(), labels))


@pytest.mark.parametrize("name", SCORES)
def test_what_is_given_is_not_changed(name):
    features, labels = TALL
    score, given = SCORES[name][0], seen(name, features, labels)
    copies = given.copy(), labels.copy()
    score(given, labels)
    np.testing.assert_array_equal(given, copies[0])
    np.testing.assert_array_equal(labels, copies[1])


# --- More is better


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("seed", range(3))
def test_classes_apart_score_higher_than_shuffled_labels(name, seed):
    features, labels = classes(8, sizes=(40, 40, 40), spread=1.5, seed=seed)
    score, given = SCORES[name][0], seen(name, features, labels)
    shuffled = [np.random.default_rng(draw).permutation(labels) for draw in range(5)]
    assert score(given, labels) > max(score(given, other) for other in shuffled)


@pytest.mark.parametrize("name", FEATURES)
def test_the_further_apart_the_higher(name):
    scores = []
    for spread in (0.1, 0.6, 1.2):
        features, labels = classes(8, sizes=(40, 40, 40), spread=spread)
        scores.append(SCORES[name][0](features, labels))
    assert scores == sorted(scores)
    assert scores[0] < scores[2]


@pytest.mark.parametrize("name", [n for n in FEATURES if n not in ("H-score", "SFDA")])
def test_classes_apart_score_higher_with_more_features_than_images(name):
    # H-score and SFDA cannot: their docstrings say so.
    features, labels = classes(200, sizes=(20, 20, 20), spread=0.5)
    score = SCORES[name][0]
    shuffled = [np.random.default_rng(draw).permutation(labels) for draw in range(5)]
    assert score(features, labels) > max(score(features, other) for other in shuffled)


# --- What they refuse


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, 0], y), r"features have shape \(49,\); needed: \(N, D\)"),
        (lambda x, y: (x[:, :0], y), r"features have shape \(49, 0\); needed: \(N, D\)"),
        (lambda x, y: (x, y[:-1]), "of 49 images and labels have shape .48,."),
        (lambda x, y: (x, y[:, None]), "of 49 images and labels have shape .49, 1."),
        (lambda x, y: (x, y.astype(float)), "labels are of type float64; needed: integers"),
        (lambda x, y: (x, np.zeros_like(y)), "labels have 1 class; needed: at least 2"),
        (lambda x, y: (x, np.arange(len(y))), "49 images of 49 classes; needed: more images"),
        (lambda x, y: (np.where(x == x.max(), np.nan, x), y), "have NaN, infinite"),
        (lambda x, y: (np.where(x == x.max(), -np.inf, x), y), "have NaN, infinite"),
        (lambda x, y: (x.astype(complex), y), "no real values"),
        (lambda x, y: (x.astype(np.longdouble) * np.longdouble("1e4000"), y), "have NaN, infinite"),
        (lambda x, y: (x, y.astype(str)), "labels are of type <U.*; needed: integers"),
        (lambda x, y: (x, torch.tensor(y).bfloat16()), "labels are of type float32; needed: int"),
        (lambda x, y: ([[1.0], [1.0, 2.0]], y), "features: no array .*; needed: .N, D"),
        (lambda x, y: (np.full_like(x, 0.1), y), "features are the same for all images"),
    ],
)
def test_features_and_labels_that_are_refused(name, change, message):
    with pytest.raises(ValueError, match=message):
        SCORES[name][0](*change(*TALL))


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, y: (p[:, 0], y), r"probabilities have shape \(49,\); needed: \(N, Z\)"),
        (lambda p, y: (p, y[:-1]), "probabilities are of 49 images and labels have shape .48,."),
        (lambda p, y: (p, y / 2), "labels are of type float64; needed: integers"),
        (lambda p, y: (p, np.zeros_like(y)), "labels have 1 class; needed: at least 2"),
        (lambda p, y: (p, np.arange(len(y))), "49 images of 49 classes; needed: more images"),
        (lambda p, y: (np.where(p == p.max(), np.nan, p), y), "have NaN, infinite"),
        (lambda p, y: (p - 0.5, y), "go down to -0.4.*softmax"),
        (lambda p, y: (p * 1.01, y), "rows of sum 1.01 to 1.01; needed: 1 .*softmax"),
    ],
)
def test_probabilities_that_are_refused(name, change, message):
    _, labels = TALL
    with pytest.raises(ValueError, match=message):
        SCORES[name][0](*change(source_probabilities(labels), labels))


@pytest.mark.parametrize("name", SCORES)
def test_what_is_no_dense_array_is_refused(name):
    features, labels = TALL
    score, given = SCORES[name][0], seen(name, features, labels)
    for wrong in (torch.tensor(given).to_sparse(), np.ma.masked_greater(given, 0)):
        with pytest.raises(TypeError, match=rf"^{SCORES[name][1]}: a .*; needed: \(N, .\), finite"):
            score(wrong, labels)
    with pytest.raises(TypeError, match=r"^labels: a .*; needed: \(N,\), one whole number"):
        score(given, torch.tensor(labels).to_sparse())


def test_what_single_scores_refuse():
    features, labels = TALL
    with pytest.raises(ValueError, match="50 components for 49 images; needed: from 1"):
        nleep(features, labels, n_components=50)
    with pytest.raises(ValueError, match="0 components"):
        nleep(features, labels, n_components=0)
    for eps in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"eps is .*; needed: a positive number"):
            transrate(features, labels, eps=eps)
    flat = np.where((labels == 1)[:, None], 0.1, features)
    with pytest.raises(ValueError, match="all images of class 8 have the same features"):
        gbc(flat, labels + 7)
    with pytest.raises(ValueError, match="no variance within the classes"):
        sfda(np.array([[0.1], [0.2], [0.7]])[labels], labels)
    for k in (0, 49):
        with pytest.raises(ValueError, match=f"k is {k} for 49 images; needed: from 1 to 48"):
            knn_score(features, labels, k=k)
    with pytest.raises(ValueError, match=r"1 feature varies; .* at least 2"):
        parc(np.hstack([features[:, :1], np.ones((49, 3))]), labels)
    with pytest.raises(ValueError, match=r"more images than classes|at least 2"):
        parc(features, labels, n_images=2)
    with pytest.raises(ValueError, match="image 2 has the same value in all standardised"):
        parc(np.array([[1.0, 2.0], [3.0, -1.0], [2.0, 0.5]]), [0, 1, 1])
    # Any two of these three images have the same correlation.
    with pytest.raises(ValueError, match="equally far apart"):
        parc(np.eye(3), [0, 1, 1])


# --- Speed


@pytest.mark.slow
def test_no_score_takes_longer_than_the_features():
    torch.manual_seed(0)
    network = SmallNetwork("residual", 16, (1, 1, 2)).eval()
    images = torch.randn(1000, 3, 28, 28)
    labels = np.arange(1000) % 10

    def median_seconds(function):
        seconds = []
        for _ in range(3):
            start = time.process_time()
            function()
            seconds.append(time.process_time() - start)
        return sorted(seconds)[1]

    # One thread each, and their own time: threads that wait for one another would count twice.
    with one_thread(), threadpool_limits(1), torch.inference_mode():
        features = network.features(images)
        probabilities = network.head(features).softmax(dim=1)
        forward = median_seconds(lambda: network.features(images))
        given = {"features": features, "probabilities": probabilities}
        taken = {
            name: median_seconds(lambda score=score, kind=kind: score(given[kind], labels))
            for name, (score, kind) in SCORES.items()
        }
    assert features.shape == (1000, 64)
    assert max(taken.values()) < forward, (forward, taken)
