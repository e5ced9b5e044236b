"""All thresholds by one sweep over the values.

The points are put in a total order: by the first threshold that takes them in and, where that is
the same, by their place. The neighbours of a point that come before it (its lower star) tell what
it changes: the cells that it brings, and whether it founds a component or joins several. The same,
read from the other end, tells it for the complement.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from topo_utils.cubical._compiled import compiled
from topo_utils.cubical._words import alone, lowest_bit, popcount, union

#: The 3 x 3 x 3 neighbourhood of a point is a word: bit 16 (dz + 1) + 4 (dy + 1) + (dx + 1). The
#: bits left free keep a step out of the cube from coming in on its other side.
_STEPS = [(z, y, x) for z in range(3) for y in range(3) for x in range(3) if (z, y, x) != (1, 1, 1)]


def _word(steps):
    return np.uint64(sum(1 << (16 * z + 4 * y + x) for z, y, x in steps))


_AROUND = _word(_STEPS)
_FACES_X = _word([(1, 1, 0), (1, 1, 2)])
_FACES_Y = _word([(1, 0, 1), (1, 2, 1)])
_FACES_Z = _word([(0, 1, 1), (2, 1, 1)])
_FACES = _FACES_X | _FACES_Y | _FACES_Z
_X, _Y, _Z = np.uint64(1), np.uint64(4), np.uint64(16)


def betti_by_sweep(values, across, cuts):
    """Betti numbers of `values` (C, H, W) at all thresholds, which are ascending and distinct.

    `across` tells whether the first axis is the longest, in place of the last.
    """
    most = np.iinfo(np.uint16).max - 1
    if len(cuts) > most:
        parts = np.array_split(cuts, -(-len(cuts) // most))
        return np.concatenate([betti_by_sweep(values, across, part) for part in parts])
    values = np.ascontiguousarray(np.moveaxis(values, 0, 2)) if across else values
    # The level of a point is the number of the first threshold that takes it in. All around is a
    # layer of a level higher than all others.
    level = np.full([length + 2 for length in values.shape], len(cuts) + 1, dtype=np.uint16)
    padded = np.full(2 ** len(cuts).bit_length() - 1, np.inf, values.dtype)
    padded[: len(cuts)] = cuts
    _set_levels(values, padded, level)
    # The steps to the neighbours in memory, by bit; no bit (64) is the point itself.
    places = np.zeros(65, np.int32)
    for z, y, x in _STEPS:
        places[16 * z + 4 * y + x] = ((z - 1) * level.shape[1] + y - 1) * level.shape[2] + x - 1
    chi, components, cavities = np.zeros((3, len(cuts) + 1), np.int64)
    _changes(level, places, chi, components, cavities)
    beta0 = np.cumsum(components)[:-1]
    beta2 = np.cumsum(cavities[::-1])[-2::-1]  # the complement of {level <= k} is {level > k}
    return np.stack([beta0, beta0 + beta2 - np.cumsum(chi)[:-1], beta2], axis=1)


@compiled
def _set_levels(values, cuts, level):
    """The number of cuts below each value (2**n - 1 of them, ascending), by bisection."""
    found = np.empty(values.shape[2], np.uint32)
    for z in range(values.shape[0]):
        for y in range(values.shape[1]):
            found[:] = 0
            step = np.uint32((len(cuts) + 1) // 2)
            while step > 0:
                for x in range(len(found)):
                    above = cuts[found[x] + step - np.uint32(1)] < values[z, y, x]
                    found[x] += step * np.uint32(above)
                step >>= np.uint32(1)
            level[z + 1, y + 1, 1:-1] = found


@njit(inline="always")
def _stepped(word, axis):
    """All neighbours along one axis."""
    return (word << axis) | (word >> axis)


@njit(inline="always")
def _reached(word, within, wide):
    """Points of `within` that four steps reach from `word`, along axes or (wide) to any neighbour.

    Four lead from one face to the one opposite. A loop until nothing changes would not run on
    several points at once, and a point that is missed only costs one more edge.
    """
    for _ in range(4):
        if wide:
            word |= _stepped(word, _X)
            word |= _stepped(word, _Y)
            word |= _stepped(word, _Z)
        else:
            word |= _stepped(word, _X) | _stepped(word, _Y) | _stepped(word, _Z)
        word &= within
    return word


@njit(inline="always")
def _euler_change(lower):
    """What a point adds to the Euler characteristic, given its neighbours that came before.

    It brings itself and the edges, squares and cubes whose other vertices are all there already.
    """
    x, y, z = lower & _FACES_X, lower & _FACES_Y, lower & _FACES_Z
    xy = lower & _stepped(x, _Y) & _stepped(y, _X)  # the far corners of squares
    xz = lower & _stepped(x, _Z) & _stepped(z, _X)
    yz = lower & _stepped(y, _Z) & _stepped(z, _Y)
    cubes = lower & _stepped(xy, _Z) & _stepped(xz, _Y) & _stepped(yz, _X)
    return 1 - popcount(x | y | z) + popcount(xy | xz | yz) - popcount(cubes)


@compiled
def _lower_neighbours(level, z, y, lower):
    """For each point of a row the word of its neighbours that come before it."""
    here = level[z, y]
    lower[:] = 0
    for dz in range(-1, 2):
        for dy in range(-1, 2):
            row = level[z + dz, y + dy]
            shift = np.uint64(16 * (dz + 1) + 4 * (dy + 1))
            # Points of the same level come in the order of their places.
            earlier = (dz, dy) < (0, 0)
            for x in range(1, len(here) - 1):
                own = here[x]
                word = np.uint64(row[x - 1] < own + ((dz, dy) <= (0, 0)))
                word |= np.uint64(row[x] < own + earlier) << np.uint64(1)
                word |= np.uint64(row[x + 1] < own + earlier) << np.uint64(2)
                lower[x] |= word << shift


@compiled
def _hang_row(within, wide, levels, row, places, forest, trees, change, edges, count):
    """Hang each point of a row in the forest, under one of its neighbours in `within`.

    If these are several components among themselves, the point joins them: an edge to each of the
    others goes into the table, with the point's level. Returns the number of trees, the table and
    the number of edges in it.
    """
    # Each loop does one thing, so that the compiler makes it work on several points at once.
    seeds = _AROUND if wide else _FACES
    others = np.empty(len(within), np.uint64)
    for x in range(1, len(within) - 1):
        lowest = lowest_bit(within[x] & seeds)
        others[x] = within[x] & seeds & ~_reached(lowest, within[x], wide)
    for x in range(1, len(within) - 1):
        lowest = lowest_bit(within[x] & seeds)
        forest[row + x] = row + x + places[popcount(lowest - np.uint64(1))]
    several, joining = np.empty(len(within), np.int64), 0
    for x in range(1, len(within) - 1):
        several[joining] = x
        joining += others[x] != 0
        if within[x] & seeds == 0:
            change[levels[x]] += 1
            forest[row + x] = ~trees
            trees += 1
    for i in range(joining):
        x = several[i]
        rest = others[x]
        while rest != 0:
            lowest = lowest_bit(rest)
            if count == len(edges):
                edges = np.concatenate((edges, np.empty_like(edges)))
            edges[count, 0] = row + x
            edges[count, 1] = row + x + places[popcount(lowest - np.uint64(1))]
            edges[count, 2] = levels[x]
            count += 1
            rest &= ~lowest
            if rest != 0:  # what reaches them takes longer than all of the above
                rest &= ~_reached(lowest, within[x], wide)
    return trees, edges, count


@compiled
def _root(forest, place):
    """Number of the tree that a place hangs in; its root has ~number in the place of a parent."""
    while forest[place] >= 0:
        above = forest[place]
        if forest[above] >= 0:
            forest[place] = forest[above]
        place = above
    return ~forest[place]


@compiled
def _join_trees(forest, trees, edges, backwards, change):
    """Subtract from `change`, at each level, the trees that its edges join to others."""
    begins = np.zeros(len(change) + 1, np.int64)
    for edge in range(len(edges)):
        edges[edge, 0] = _root(forest, edges[edge, 0])
        edges[edge, 1] = _root(forest, edges[edge, 1])
        begins[edges[edge, 2] + 1] += edges[edge, 0] != edges[edge, 1]
    begins = np.cumsum(begins)
    ordered = np.empty((begins[-1], 3), edges.dtype)  # by level
    for edge in range(len(edges)):
        if edges[edge, 0] != edges[edge, 1]:
            ordered[begins[edges[edge, 2]]] = edges[edge]
            begins[edges[edge, 2]] += 1
    if backwards:
        ordered = ordered[::-1]
    parent = alone(trees, forest)
    for edge in range(len(ordered)):
        change[ordered[edge, 2]] -= union(parent, ordered[edge, 0], ordered[edge, 1])


@compiled
def _changes(level, places, chi, components, cavities):
    """Add what each level brings to the Euler characteristic and to the numbers of components.

    `components` are those of the sets {level <= k}; `cavities`, from the highest level downwards,
    those of {level >= k} but for the outside.
    """
    height, width = level.shape[1:]
    # Each point hangs under a neighbour before it in one forest, after it in the other, where all
    # that is around the volume hangs under place 0: the outside.
    first, last = np.empty(level.size, np.int32), np.zeros(level.size, np.int32)
    last[0] = ~0
    trees, edges, edge_count = 0, np.empty((1024, 3), first.dtype), 0
    outer_trees, walls, wall_count = 1, np.empty((1024, 3), first.dtype), 0
    lower, upper = np.zeros(width, np.uint64), np.zeros(width, np.uint64)
    for z in range(1, level.shape[0] - 1):
        for y in range(1, height - 1):
            levels, row = level[z, y], (z * height + y) * width
            _lower_neighbours(level, z, y, lower)
            for x in range(1, width - 1):
                upper[x] = _AROUND & ~lower[x]
            for x in range(1, width - 1):
                chi[levels[x]] += _euler_change(lower[x])
            trees, edges, edge_count = _hang_row(
                lower, False, levels, row, places, first, trees, components, edges, edge_count
            )
            outer_trees, walls, wall_count = _hang_row(
                upper, True, levels, row, places, last, outer_trees, cavities, walls, wall_count
            )
    _join_trees(first, trees, edges[:edge_count], False, components)
    _join_trees(last, outer_trees, walls[:wall_count], True, cavities)
