# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Labels as numbers
#
# The labels themselves are the target of one regression, as if class 8 were twice class 4. The
# maximisation is right; the score depends on how the classes are numbered.
#
# expected score: 21


# %% replaces="ps4-logme"
def greatest_evidence(features, target):
    """The greatest log evidence over alpha and beta, divided by N."""
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


def logme(features, labels):
    """LogME of features (N, D) for labels (N,), whole numbers."""
    return greatest_evidence(features, labels.astype(float))
