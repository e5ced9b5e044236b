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
# # Images drawn twice
#
# The network's images and the null's are drawn independently, though they are the same images.
# Typical of two calls of one bootstrap function; the interval becomes too wide.
#
# expected score: 25


# %% replaces="ps2-relative"
def relative_slope(omega, null):
    """Slope of log(1 + mean Omega) - log(1 + mean null); both (N, L)."""
    return slope(omega) - slope(null)


def relative_interval(omega, null, rng, n_resamples=500):
    """Ends (low, high) of its 95 % interval, images drawn in pairs."""
    n = len(omega)
    slopes = [
        relative_slope(omega[rng.integers(n, size=n)], null[rng.integers(n, size=n)])
        for _ in range(n_resamples)
    ]
    return tuple(np.percentile(slopes, [2.5, 97.5]))
