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
# # Bars that still count at their death
#
# birth ≤ η ≤ death instead of birth ≤ η < death. Typical: published code does it. It differs only
# where values are equal to the threshold.
#
# expected score: 27


# %% replaces="ps1-gudhi"
def betti_by_gudhi(volume, eta):
    """(beta0, beta1, beta2) of the sublevel set {volume <= eta} of an array (C, H, W)."""
    complex_ = gudhi.CubicalComplex(vertices=np.asarray(volume, dtype=float))
    complex_.compute_persistence()
    numbers = []
    for degree in range(3):
        bars = complex_.persistence_intervals_in_dimension(degree).reshape(-1, 2)
        numbers.append(int(np.sum((bars[:, 0] <= eta) & (eta <= bars[:, 1]))))
    return tuple(numbers)
