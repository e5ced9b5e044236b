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
# # A kernel that stops
#
# The process ends in the middle of the notebook: here on purpose, else for want of memory or in a
# library. All automatic points are zero, the log and the feedback say why.
#
# expected score: 0


# %% replaces="ps1-cells"
import os


def count_cells(points):
    """Numbers of points, edges, squares and cubes of a boolean array (C, H, W)."""
    os._exit(1)
