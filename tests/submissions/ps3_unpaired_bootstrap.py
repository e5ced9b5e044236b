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
# # An unpaired bootstrap of paired images
#
# The argument `paired` is ignored: each side is given a draw of its own. The most common mistake of
# such tests; the difference between pictures, which both sides share, is then counted as noise, and
# the interval is far too wide.
#
# expected score: 22


# %% replaces="ps3-resamples"
def resampled_distances(omega_a, omega_b, paired, n_resamples, rng):
    """Distances (n_resamples,) of images drawn with replacement; `rng` is a numpy Generator."""
    distances = []
    for _ in range(n_resamples):
        draw_a = rng.integers(len(omega_a), size=len(omega_a))
        draw_b = rng.integers(len(omega_b), size=len(omega_b))
        distances.append(distance(omega_a[draw_a], omega_b[draw_b]))
    return np.array(distances)
