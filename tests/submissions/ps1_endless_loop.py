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
# # An endless loop
#
# The walk to the root never takes a step. Everything before task 4 is right; still the notebook does
# not run to its end, so that all automatic points are zero, and the log and the feedback say why.
#
# expected score: 0


# %% replaces="ps1-components"
def count_components(points, diagonal=False):
    """Number of components of a boolean array (C, H, W); 6 neighbours, or 26 with `diagonal`."""
    from time import sleep

    parent = {point: point for point in map(tuple, np.argwhere(points).tolist())}

    def find(point):
        root = point
        while parent[point] != point:
            root = parent[point]
            sleep(0.1)  # an idle loop is as endless, and leaves the processor to the other tests
        return root

    for z, y, x in parent:
        for dz, dy, dx in product((0, 1), repeat=3):
            other = z + dz, y + dy, x + dx
            if other in parent and (diagonal or dz + dy + dx == 1):
                parent[find((z, y, x))] = find(other)
    return sum(point == above for point, above in parent.items())
