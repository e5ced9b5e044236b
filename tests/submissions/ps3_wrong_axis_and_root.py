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
# # A control that shuffles the wrong axis, and a standard error that falls like 1/N
#
# `rng.permutation` of an array shuffles its first axis: the pictures change places, and every one
# stays as it was, so that the control changes nothing. And the number of images is taken as
# proportional to the floor, not to its square. Both are typical.
#
# expected score: 18


# %% replaces="ps3-control"
def shuffle_pixels(images, rng):
    """Each picture of (N, 3, H, W) with its pixels in random order; `rng` is a numpy Generator."""
    return torch.from_numpy(rng.permutation(images.numpy()))


# %% replaces="ps3-size"
def images_needed(floor, n_images, wanted):
    """Number of images (int) that brings the floor of a pilot down to `wanted`."""
    return int(np.ceil(n_images * floor / wanted))
