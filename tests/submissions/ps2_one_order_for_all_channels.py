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
# # One random order for all channels
#
# The places are shuffled, and all channels with them. Typical: one indexing does it. What the
# channels have in common at a place is still there, so that it is another null.
#
# expected score: 24


# %% replaces="ps2-null"
def shuffled(volume, rng):
    """All values of a volume (C, H, W) in a random order; `rng` is a numpy Generator."""
    return rng.permutation(volume.ravel()).reshape(volume.shape)


def shuffled_within_channels(volume, rng):
    """The values of every channel of a volume (C, H, W) in a random order of its own."""
    rows = volume.reshape(len(volume), -1)
    return rows[:, rng.permutation(rows.shape[1])].reshape(volume.shape)
