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
# # sys.exit() in a task
#
# Left over from a script. The kernel outlives it: the tests that call it fail, the others count.
#
# expected score: 27


# %% replaces="ps1-gudhi"
import sys


def betti_by_gudhi(volume, eta):
    """(beta0, beta1, beta2) of the sublevel set {volume <= eta} of an array (C, H, W)."""
    sys.exit("finished")
