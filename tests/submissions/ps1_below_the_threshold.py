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
# # The threshold missed by one
#
# Points *below* the threshold, instead of up to it. Typical, and invisible with real numbers: only in
# an image of whole numbers are there points at the threshold itself.
#
# expected score: 28


# %% replaces="ps1-curve"
def betti_curve(image, thresholds):
    """Betti numbers (T, 3) of the sublevel sets of an image (H, W) at T thresholds."""
    return np.array([betti(image[None] < eta) for eta in thresholds])
