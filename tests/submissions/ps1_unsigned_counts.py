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
# # Unsigned overflow
#
# The cells are counted right, but in numbers without a sign, so that a negative Euler characteristic
# starts again at the greatest value. Typical of arrays that began as an image of uint8, whose sums
# numpy makes uint64.
#
# expected score: 30


# %% replaces="ps1-cells"
def count_cells(points):
    """Numbers of points, edges, squares and cubes of a boolean array (C, H, W)."""
    p = points.astype(np.uint8)
    x, y, z = p[:, :, 1:] * p[:, :, :-1], p[:, 1:] * p[:, :-1], p[1:] * p[:-1]
    xy, xz, yz = x[:, 1:] * x[:, :-1], x[1:] * x[:-1], y[1:] * y[:-1]
    xyz = xy[1:] * xy[:-1]
    return (
        p.sum(),
        x.sum() + y.sum() + z.sum(),
        xy.sum() + xz.sum() + yz.sum(),
        xyz.sum(),
    )
