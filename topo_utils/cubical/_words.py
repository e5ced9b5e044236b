"""One threshold: a row of 64 grid points is one machine word, and the set is counted by words."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from topo_utils.cubical._compiled import compiled

#: So many points, and so as many pieces of them, are numbered with 64 bits in place of 32.
_BEYOND_32_BITS = 2**31


def betti_at_each(values, across, cuts):
    """Betti numbers of `values` (C, H, W) at each threshold, one after the other.

    `across` tells whether the first axis makes the rows, in place of the last.
    """
    depth, height, width = (*values.shape[1:], len(values)) if across else values.shape
    # Two layers or three of background before and behind, above and below: the outside of beta2,
    # and even numbers of rows.
    rows = np.zeros((depth + 2 + depth % 2, height + 2 + height % 2, -(-width // 64)), np.uint64)
    starts = np.empty((rows.shape[0], rows.shape[1] // 2, rows.shape[2]), np.uint64)
    base = np.empty(starts.shape, np.int32 if 64 * rows.size < _BEYOND_32_BITS else np.int64)
    result = np.empty((len(cuts), 3), dtype=np.int64)
    for row, cut in zip(result, cuts, strict=True):
        (_pack_across if across else _pack)(values, cut, rows)
        beta0 = _components_6(rows, starts, base)
        beta2 = _components_26(rows, starts, base) - 1
        row[:] = beta0, beta0 + beta2 - _euler_characteristic(rows), beta2
    return result


# ---------------------------------------------------------------------------------------------
# Words.


@intrinsic
def popcount(typing_context, word):
    """Number of set bits of a 64-bit word, as the processor counts them."""

    def code(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), code


@njit(inline="always")
def _up_to_lowest_bit(word):
    """All bits up to and including the lowest set one; all bits for zero."""
    return word ^ (word - np.uint64(1))


@njit(inline="always")
def lowest_bit(word):
    """The lowest set bit alone."""
    return word & (~word + np.uint64(1))


@njit(inline="always")
def _shifted(word, before):
    """Every bit of a row moved up by one; the word `before` hands over its last bit."""
    return (word << np.uint64(1)) | (before >> np.uint64(63))


@compiled
def _pack(values, cut, rows):
    """Set the points of `rows` whose value is <= cut; rows run along the last axis."""
    for z in range(values.shape[0]):
        for y in range(values.shape[1]):
            for w in range(rows.shape[2]):
                part = values[z, y, 64 * w : 64 * w + 64]
                word = np.uint64(0)
                for i in range(len(part)):
                    word |= np.uint64(part[i] <= cut) << np.uint64(i)
                rows[z + 1, y + 1, w] = word


@compiled
def _pack_across(values, cut, rows):
    """Set the points of `rows` whose value is <= cut; rows run along the first axis."""
    flat = values.reshape(len(values), -1)  # long loops over what lies side by side in memory
    words = np.empty(flat.shape[1], np.uint64)
    for w in range(rows.shape[2]):
        words[:] = 0
        for i in range(min(64, len(flat) - 64 * w)):
            for j in range(len(words)):
                words[j] |= np.uint64(flat[64 * w + i, j] <= cut) << np.uint64(i)
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                rows[y + 1, x + 1, w] = words[y * values.shape[2] + x]


@compiled
def _euler_characteristic(rows):
    """Vertices - edges + squares - cubes of the points that are set."""
    chi = 0
    for z in range(1, rows.shape[0]):
        for y in range(1, rows.shape[1]):
            x_before = y_before = z_before = yz_before = np.uint64(0)
            for w in range(rows.shape[2]):
                # Cells without extent along the row: a vertex, two edges and a square. Two set
                # bits side by side are such a cell times an interval.
                vertex = rows[z, y, w]
                edge_y = vertex & rows[z, y - 1, w]
                edge_z = vertex & rows[z - 1, y, w]
                square = edge_y & edge_z & rows[z - 1, y - 1, w]
                chi += popcount(vertex) - popcount(vertex & _shifted(vertex, x_before))
                chi -= popcount(edge_y) - popcount(edge_y & _shifted(edge_y, y_before))
                chi -= popcount(edge_z) - popcount(edge_z & _shifted(edge_z, z_before))
                chi += popcount(square) - popcount(square & _shifted(square, yz_before))
                x_before, y_before, z_before, yz_before = vertex, edge_y, edge_z, square
    return chi


# ---------------------------------------------------------------------------------------------
# Union-find. Its nodes are pieces: runs of consecutive points of a row, or of several rows that
# are read as one. The pieces of a row follow one another, so that a count of their first points
# (`starts`), and of all pieces before a word (`base`), gives the number of the piece at any point.


@compiled
def alone(pieces, index):
    """That many sets of one piece each, numbered with the type of the array `index`."""
    parent = np.empty(pieces, index.dtype)
    for piece in range(pieces):
        parent[piece] = piece
    return parent


@compiled
def union(parent, a, b):
    """Join the sets of a and b; 1 if they were two, 0 if they were one."""
    # Rem's algorithm: both paths are walked at once, always from the larger parent, and each step
    # hangs the node it leaves under the other path.
    while parent[a] != parent[b]:
        if parent[a] < parent[b]:
            a, b = b, a
        above = parent[a]
        parent[a] = parent[b]
        if a == above:
            return 1
        a = above
    return 0


@njit(inline="always")
def _piece(starts, base, upto):
    """Number of the piece at the highest of the bits `upto`, wherever that piece began."""
    return base + popcount(starts & upto) - 1


@compiled
def _union_at(points, parent, pieces_a, pieces_b):
    """Join the pieces (starts, base) of two words at each point; how many components that costs."""
    joined = 0
    while points != 0:
        upto = _up_to_lowest_bit(points)
        a = _piece(pieces_a[0], pieces_a[1], upto)
        joined += union(parent, a, _piece(pieces_b[0], pieces_b[1], upto))
        points &= ~upto
    return joined


@compiled
def _hang_at(points, parent, pieces_a, pieces_b):
    """The same where each piece a is still alone: as many as there are points, and no search."""
    while points != 0:
        upto = _up_to_lowest_bit(points)
        a = _piece(pieces_a[0], pieces_a[1], upto)
        parent[a] = parent[_piece(pieces_b[0], pieces_b[1], upto)]
        points &= ~upto


# The points of a word fall into segments, which begin at `starts` and at bit 0. One addition finds
# something out about all segments at once: a carry runs through a segment and stops at its end.


@njit(inline="always")
def _ends(starts):
    """The last points of the segments of a word."""
    return (starts >> np.uint64(1)) | np.uint64(1 << 63)


@njit(inline="always")
def _any_in(flags, ends):
    """The ends of the segments with a flag: added to all points but the ends, it makes a carry."""
    return (((flags & ~ends) + ~ends) | flags) & ends


@njit(inline="always")
def _lowest_in(flags, starts, ends):
    """The lowest flag of each segment: the carry of its start runs up to there."""
    return ((~flags & ~ends) + (starts | np.uint64(1))) & flags


@compiled
def _components_6(rows, starts, base):
    """Number of 6-connected components of the points that are set.

    Two rows, one on the other, make a strip. Two components of a strip never share an x (there
    they would touch), so that they follow one another like the runs of a single row, and what is
    joined within a strip takes no union. The second axis must be even. `starts` and `base` are
    overwritten, with the first points of a strip's pieces and the number of pieces before a word.
    """
    depth, height, words = starts.shape
    zero = np.uint64(0)
    pieces = 0
    for z in range(depth):
        for y in range(height):
            before_a = before_b = zero
            for w in range(words):
                a, b = rows[z, 2 * y, w], rows[z, 2 * y + 1, w]
                goes_on = (a & _shifted(a, before_a)) | (b & _shifted(b, before_b))
                starts[z, y, w] = (a | b) & ~goes_on
                base[z, y, w] = pieces
                pieces += popcount(starts[z, y, w])
                before_a, before_b = a, b
    parent = alone(pieces, base)
    joined = 0
    for z in range(1, depth):  # the first plane and the first and last rows are background
        for y in range(height):
            for w in range(words):
                a, b = rows[z, 2 * y, w], rows[z, 2 * y + 1, w]
                if a | b == 0:
                    continue
                here = start, _ = starts[z, y, w], base[z, y, w]
                behind = start_z, _ = starts[z - 1, y, w], base[z - 1, y, w]
                behind_a, behind_b = rows[z - 1, 2 * y, w], rows[z - 1, 2 * y + 1, w]
                # Between two starts the pair of pieces is the same: one union does for a segment.
                ends = _ends(start | start_z)
                along_z = _any_in((a & behind_a) | (b & behind_b), ends)
                along_y, above = zero, (zero, base[z, y, w])
                if y > 0:
                    above = start_y, _ = starts[z, y - 1, w], base[z, y - 1, w]
                    across = a & rows[z, 2 * y - 1, w]
                    along_y = _any_in(across, _ends(start | start_y))
                    # Where a unit square is in the set, its other three sides join these two.
                    along_z &= ~_any_in(across & behind_a & rows[z - 1, 2 * y - 1, w], ends)
                # The first union of a piece that began in this word finds it alone.
                began = ~(lowest_bit(start) - np.uint64(1))
                hung = _lowest_in(along_y | along_z, start, _ends(start)) & began
                joined += popcount(hung)
                _hang_at(hung & along_y, parent, here, above)
                _hang_at(hung & ~along_y, parent, here, behind)
                joined += _union_at(along_y & ~hung, parent, here, above)
                # A piece that hangs under the one above is not yet joined to the one behind.
                joined += _union_at(along_z & ~(hung & ~along_y), parent, here, behind)
    return pieces - joined


@njit(inline="always")
def _facing(rows, z, y, dz, dy, w):
    """Points that are *not* set in those rows of bundle (z, y) that look towards (dz, dy).

    Two rows across a face, one across an edge, all four for (0, 0).
    """
    z0, z1 = 2 * z + (dz > 0), 2 * z + (dz >= 0)
    y0, y1 = 2 * y + (dy > 0), 2 * y + (dy >= 0)
    return ~(rows[z0, y0, w] & rows[z0, y1, w] & rows[z1, y0, w] & rows[z1, y1, w])


@njit(inline="always")
def _touching(rows, z, y, dz, dy, w):
    """Where bundle (z, y) touches its neighbour towards (dz, dy) at the same x."""
    return _facing(rows, z, y, dz, dy, w) & _facing(rows, z + dz, y + dy, -dz, -dy, w)


@njit(inline="always")
def _joined_elsewhere(rows, z, y, dz, dy, w):
    """Where pairs that were joined before this one connect (z, y) to (z + dz, y + dy)."""
    if dz == 0:
        return np.uint64(0)
    if dy == 1:
        return _touching(rows, z, y, -1, 0, w) & _touching(rows, z - 1, y + 1, 0, -1, w)
    if y == 0:
        return np.uint64(0)
    above = _touching(rows, z, y, 0, -1, w)
    above_behind = above & _touching(rows, z, y - 1, -1, 0, w)
    across = _touching(rows, z - 1, y, 0, -1, w)
    if dy == 0:
        return (above & _touching(rows, z, y - 1, -1, 1, w)) | (above_behind & across)
    return above_behind | (_touching(rows, z, y, -1, 0, w) & across)


@compiled
def _components_26(rows, starts, base):
    """Number of 26-connected components of the points that are *not* set, and the outside.

    Two by two rows make one bundle: all points of a bundle at x and x + 1 are neighbours, so a
    bundle is connected like a single row, the union of its four, and there are a quarter as many.
    Both first axes must be even. `starts` and `base` are overwritten.
    """
    depth, height, words = rows.shape[0] // 2, rows.shape[1] // 2, rows.shape[2]
    zero, one = np.uint64(0), np.uint64(1)
    pieces = 0
    for z in range(depth):
        for y in range(height):
            before = zero
            for w in range(words):
                bundle = _facing(rows, z, y, 0, 0, w)
                starts[z, y, w] = bundle & ~_shifted(bundle, before)
                base[z, y, w] = pieces
                pieces += popcount(starts[z, y, w])
                before = bundle
    parent = alone(pieces, base)
    joined = 0
    for z in range(depth):
        for y in range(height):
            # Both ends of a row look outside, where piece 0 is.
            if _facing(rows, z, y, 0, 0, 0) & one != 0:
                joined += union(parent, base[z, y, 0], 0)
            if _facing(rows, z, y, 0, 0, words - 1) >> np.uint64(63) != 0:
                last = _piece(starts[z, y, words - 1], base[z, y, words - 1], ~zero)
                joined += union(parent, last, 0)
            for dz, dy in ((0, -1), (-1, 0), (-1, -1), (-1, 1)):  # the neighbours seen before
                zn, yn = z + dz, y + dy
                if zn < 0 or yn < 0 or yn >= height:
                    continue
                before_a = before_b = all_before_a = all_before_b = zero
                for w in range(words):
                    # Bundle a and its neighbour b: the points that face each other, and all points.
                    a, b = _facing(rows, z, y, dz, dy, w), _facing(rows, zn, yn, -dz, -dy, w)
                    all_a, all_b = _facing(rows, z, y, 0, 0, w), _facing(rows, zn, yn, 0, 0, w)
                    left_a, all_left_a = _shifted(a, before_a), _shifted(all_a, all_before_a)
                    left_b, all_left_b = _shifted(b, before_b), _shifted(all_b, all_before_b)
                    before_a, before_b, all_before_a, all_before_b = a, b, all_a, all_b
                    # Two pieces meet at x, or by a step from x - 1 to x. Where both go on to x, or
                    # both came from x - 1, a step joins the same pieces as a meeting there.
                    step_a, step_b = a & left_b, b & left_a
                    meeting = (a & b) | (step_a & all_b) | (step_b & all_a)
                    step_a &= ~all_b
                    step_b &= ~all_a
                    meeting |= ((step_a & all_left_a) | (step_b & all_left_b)) >> one
                    step_a &= ~all_left_a | one  # bit 0 came from the word before
                    step_b &= ~all_left_b | one

                    start_a, base_a = starts[z, y, w], base[z, y, w]
                    start_b, base_b = starts[zn, yn, w], base[zn, yn, w]
                    ends = _ends(start_a | start_b)
                    meeting = _any_in(meeting, ends)
                    meeting &= ~_any_in(_joined_elsewhere(rows, z, y, dz, dy, w), ends)
                    pieces_a, pieces_b = (start_a, base_a), (start_b, base_b)
                    joined += _union_at(meeting, parent, pieces_a, pieces_b)
                    # With starts << 1, a point gives the piece at the point before it.
                    joined += _union_at(step_a, parent, pieces_a, (start_b << one, base_b))
                    joined += _union_at(step_b, parent, (start_a << one, base_a), pieces_b)
    return pieces - joined
