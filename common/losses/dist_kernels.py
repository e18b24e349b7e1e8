"""The kernels of dist_numba, which walk over tiles."""

import math
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from densedist.common.losses import dist_tiles
from densedist.common.losses.dist_tiles import (
    CENTER,
    CROSS,
    EXACT,
    GROUP,
    LANES,
    PART,
    REORDERED,
    SIDE,
    SPARE,
    STUDENT,
    TEACHER,
    TO_STUDENT,
    TO_TEACHER,
    WEIGHT,
    WIDTH,
    ZERO,
    blank,
    jit,
    some_do_not_count,
    store,
    tile,
)

# Numba keeps what it compiled until this file is newer, whatever became of what the kernels call.
if os.stat(dist_tiles.__file__).st_mtime > os.stat(__file__).st_mtime:
    with suppress(OSError):
        Path(__file__).touch()


@jit(EXACT)
def sums(student, s_layout, teacher, t_layout, keep, rows, softmax, scale, eps, shift, p, q, vectors, out):
    """Σp, Σq, Σp², Σq², Σpq by class, all with the shift subtracted, then count, correlation: see Sums.of.

    Args:
        student, teacher: the memory of the logits; layouts: see _load in dist_tiles.
        keep: (rows,), not 0 = the row counts; empty = all count.
        scale: 1 / tau.
        shift: (2, C).
        p, q: scratch (K, C, WIDTH); vectors: (K, VECTORS · WIDTH); K = 1, or the number of tiles: gradient can go on
            from what they then hold.
        out: (5·C + 2,), is added to.
    """
    classes = shift.shape[1]
    for first in range(0, rows, LANES):
        k = first // LANES % len(p)
        v = vectors[k]
        tile(student, s_layout, teacher, t_layout, keep, first, rows, softmax, scale, p[k], q[k], v)
        count = 0.0
        correlation = 0.0
        for lane in range(LANES):
            lengths = math.sqrt(v[STUDENT + lane]) * math.sqrt(v[TEACHER + lane])
            count += v[WEIGHT + lane]
            correlation += v[WEIGHT + lane] * (v[CROSS + lane] / (lengths + eps))
        out[5 * classes] += count
        out[5 * classes + 1] += correlation
        _column_sums(p[k], q[k], v, shift, out)


@jit(EXACT)
def gradient(
    student, s_layout, teacher, t_layout, keep, rows, softmax, scale, eps,
    slopes, row, tiny, known, p, q, vectors, spare, out, o_layout,
):  # fmt: skip
    """The gradient of Slopes, into the memory out.

    Args:
        slopes: (4, C): the means of p and q, own, other; row: see Slopes.
        known: p, q and vectors are as sums has left them. Other scratch: spare, (C, WIDTH).
    """
    for first in range(0, rows, LANES):
        k = first // LANES % len(p)
        v = vectors[k]
        if not known:
            tile(student, s_layout, teacher, t_layout, keep, first, rows, softmax, scale, p[k], q[k], v)
        if some_do_not_count(keep, first, rows):
            blank(p[k], v)  # of which their gradient is a multiple
        for lane in range(LANES):
            length_a = np.sqrt(v[STUDENT + lane])
            length_b = np.sqrt(v[TEACHER + lane])
            product = length_a * length_b + eps
            to_b = row / product
            longer = tiny if length_a < tiny else length_a
            v[TO_TEACHER + lane] = to_b
            v[TO_STUDENT + lane] = -to_b * (v[CROSS + lane] / product) * (length_b / longer)
        _slopes(p[k], q[k], v, slopes, softmax, spare)
        store(spare, first, rows, out, o_layout)


@jit(EXACT)
def means(student, s_layout, teacher, t_layout, keep, rows, softmax, scale, eps, p, q, vectors, out):
    """Σp, Σq by class, added to out (2, C); and how many rows count. Other arguments as of sums.

    In float64, as the mean of one number again and again must be that number.
    """
    count = 0.0
    for first in range(0, rows, LANES):
        tile(student, s_layout, teacher, t_layout, keep, first, rows, softmax, scale, p[0], q[0], vectors[0])
        for lane in range(LANES):
            count += vectors[0, WEIGHT + lane]
        _wide_sums(p[0], vectors[0], out[0])
        _wide_sums(q[0], vectors[0], out[1])
    return count


@jit(REORDERED)
def _column_sums(p, q, v, shift, out):
    """The tile's share of sums."""
    classes = len(p)
    for c in range(classes):
        shift_p, shift_q = shift[0, c], shift[1, c]
        sum_p = sum_q = sum_pp = sum_qq = sum_pq = ZERO
        for lane in range(LANES):
            x = (p[c, lane] - shift_p) * v[WEIGHT + lane]
            y = (q[c, lane] - shift_q) * v[WEIGHT + lane]
            sum_p += x
            sum_q += y
            sum_pp += x * x
            sum_qq += y * y
            sum_pq += x * y
        out[c] += sum_p
        out[classes + c] += sum_q
        out[2 * classes + c] += sum_pp
        out[3 * classes + c] += sum_qq
        out[4 * classes + c] += sum_pq


@jit(REORDERED)
def _wide_sums(p, v, out):
    for c in range(len(p)):
        total = 0.0
        for lane in range(LANES):
            total += p[c, lane] * v[WEIGHT + lane]
        out[c] += total


@jit(EXACT)
def _slopes(p, q, v, slopes, softmax, out):
    """The gradient, (C, WIDTH)."""
    v[SPARE:WIDTH] = ZERO
    for start in range(0, len(p), GROUP):
        v[PART : PART + WIDTH] = ZERO
        for c in range(start, min(start + GROUP, len(p))):
            mean_p, mean_q, own, other = slopes[0, c], slopes[1, c], slopes[2, c], slopes[3, c]
            for lane in range(LANES):
                value = p[c, lane]
                slope = own * (value - mean_p) + other * (q[c, lane] - mean_q)
                slope = slope + v[TO_STUDENT + lane] * (value - v[CENTER + lane])
                slope = (slope + v[TO_TEACHER + lane] * (q[c, lane] - v[SIDE + CENTER + lane])) * value
                out[c, lane] = slope
                v[PART + lane] += slope
        for lane in range(LANES):
            v[SPARE + lane] += v[PART + lane]
    for c in range(len(p)):
        for lane in range(LANES):
            total = v[SPARE + lane] if softmax else out[c, lane]
            out[c, lane] -= p[c, lane] * total
