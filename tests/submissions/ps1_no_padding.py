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
# # The forgotten padding
#
# The complement is taken within the grid, and one of its components is subtracted as the outside
# though there is none (or there are several). Typical, since the formula has a "less one" that works
# on every example that keeps away from the border.
#
# expected score: 19


# %% replaces="ps1-betti"
def betti(points):
    """(beta0, beta1, beta2) of a boolean array (C, H, W)."""
    b0 = count_components(points)
    b2 = count_components(~points, diagonal=True) - 1
    return b0, b0 + b2 - euler_characteristic(points), b2
