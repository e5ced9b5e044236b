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
# # The mean of the logarithms, on block numbers
#
# The logarithm before the mean, and depth counted in blocks. Both give a slope that looks plausible.
#
# expected score: 17


# %% replaces="ps2-decay"
def slope(omega):
    """Decay of Omega (N, L): slope of log(1 + mean over images) on relative depth."""
    logs = np.log1p(omega).mean(axis=0)
    return np.polyfit(np.arange(1, len(logs) + 1), logs, 1)[0]


def slope_interval(omega, rng, n_resamples=500):
    """Ends (low, high) of the 95 % interval of the decay; `rng` is a numpy Generator."""
    n = len(omega)
    slopes = [slope(omega[rng.integers(n, size=n)]) for _ in range(n_resamples)]
    return tuple(np.percentile(slopes, [2.5, 97.5]))
