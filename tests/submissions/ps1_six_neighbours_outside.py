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
# # 6 neighbours in the complement as well
#
# Points and complement are treated alike. Typical: the symmetry looks natural, and only where two
# points of the complement touch at an edge or a corner does it go wrong.
#
# expected score: 24


# %% replaces="ps1-betti"
def betti(points):
    """(beta0, beta1, beta2) of a boolean array (C, H, W)."""
    b0 = count_components(points)
    b2 = count_components(~np.pad(points, 1)) - 1
    return b0, b0 + b2 - euler_characteristic(points), b2
