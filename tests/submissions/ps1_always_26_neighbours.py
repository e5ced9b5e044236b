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
# # 26 neighbours for the points as well
#
# Every point that touches is joined, diagonal or not. Typical: it is what one sees when the points
# are drawn as cubes, and it is what image libraries call connectivity 3.
#
# expected score: 18


# %% replaces="ps1-components"
def count_components(points, diagonal=False):
    """Number of components of a boolean array (C, H, W); 6 neighbours, or 26 with `diagonal`."""
    parent = {point: point for point in map(tuple, np.argwhere(points).tolist())}
    steps = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]

    def find(point):
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = parent[point]
        return point

    for z, y, x in parent:
        for dz, dy, dx in steps:
            other = z + dz, y + dy, x + dx
            if other in parent:
                parent[find((z, y, x))] = find(other)
    return sum(point == above for point, above in parent.items())
