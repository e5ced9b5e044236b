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
# # The evidence is not divided by N
#
# The logarithm of the whole density is given, so that scores of samples of different size cannot be
# compared. With one target it makes no difference, so the first test passes.
#
# expected score: 17


# %% replaces="ps4-evidence"
def log_evidence(features, target, alpha, beta):
    """Log evidence of targets (N,) given features (N, D), divided by N."""
    n, d = features.shape
    a = alpha * np.eye(d) + beta * features.T @ features
    m = beta * np.linalg.solve(a, features.T @ target)
    misfit = np.sum((features @ m - target) ** 2)
    log_p = n * np.log(beta) + d * np.log(alpha) - n * np.log(2 * np.pi)
    return (log_p - beta * misfit - alpha * m @ m - np.linalg.slogdet(a)[1]) / 2
