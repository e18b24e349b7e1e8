"""The kernels of numba_backend: those that read logits, those between them, then what is computed for a tile of logits.

A tile is LANES rows, which are the lanes of the processor's vectors: every inner loop runs over them.
"""

import math

import numba
import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

LANES = 128  # rows of a tile: its scratch stays in the cache
WIDTH = LANES + 16  # of the scratch: a power of two would give the classes of a row few lines of the cache to share
GROUP = 32  # classes that are summed by themselves first: float32 loses a digit in a sum of a thousand

# Where in a tile's vectors each begins: numbers of the student's side, of the teacher's, and of both.
SPARE, CENTER, SIDE = 0, WIDTH, 2 * WIDTH
WEIGHT, STUDENT, TEACHER, CROSS, TO_STUDENT, TO_TEACHER, PART = (WIDTH * number for number in range(4, 11))
VECTORS = 13  # the last three: sums over a group

ZERO, ONE = np.float32(0), np.float32(1)
LOG2E = np.float32(math.log2(math.e))
# ln 2 in two parts, the first of so few digits that its multiples are exact.
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(math.log(2) - 0.693359375)
# A number to which this was added ends in the bits of the nearest whole number.
ROUND = np.float32(1.5 * 2**23)
LARGEST = np.float32(87)  # e to the power of this, and of minus this, is a normal number
# Of e^x from -ln(2) / 2 to ln(2) / 2, within 3e-9.
E0, E1, E2, E3, E4, E5, E6 = (
    Chebyshev.interpolate(np.exp, 6, [-math.log(2) / 2, math.log(2) / 2])
    .convert(kind=Polynomial)
    .coef.astype(np.float32)
)

# Nothing may take NaN or infinity for impossible; only sums over rows may be added in another order.
EXACT = {"contract"}
REORDERED = {"contract", "reassoc", "nsz"}


def jit(fastmath):
    """Return numba.njit without Python's lock; compiled code is kept on disk where a folder can be written to."""

    def decorate(function):
        try:
            return numba.njit(nogil=True, fastmath=fastmath, error_model="numpy", cache=True)(function)
        except RuntimeError:  # no folder that can be written to
            return numba.njit(nogil=True, fastmath=fastmath, error_model="numpy")(function)

    return decorate


@jit(EXACT)
def sums(student, s_layout, teacher, t_layout, keep, rows, softmax, scale, eps, shift, p, q, vectors, out):
    """Add Σp, Σq, Σp², Σq², Σpq by class, with the shift subtracted, then count and correlation, to out: see Sums.of.

    Args:
        student, teacher: the memory of the logits; layouts: see _load.
        keep: (rows,), not 0 = the row counts; empty = all count.
        scale: 1 / tau.
        shift: (2, C).
        p, q: scratch (K, C, WIDTH); vectors: (K, VECTORS · WIDTH); K = 1, or the number of tiles: gradient can go on
            from what they then hold.
        out: (5·C + 2,).
    """
    classes = shift.shape[1]
    for first in range(0, rows, LANES):
        k = first // LANES % len(p)
        v = vectors[k]
        _tile(student, s_layout, teacher, t_layout, keep, first, rows, softmax, scale, p[k], q[k], v)
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
    """Write the gradient of Slopes into the memory out.

    Args:
        slopes: (4, C): the means of p and q, own, other; row: see Slopes.
        known: p, q and vectors are as sums has left them. Other scratch: spare, (C, WIDTH).
    """
    for first in range(0, rows, LANES):
        k = first // LANES % len(p)
        v = vectors[k]
        if not known:
            _tile(student, s_layout, teacher, t_layout, keep, first, rows, softmax, scale, p[k], q[k], v)
        if _some_do_not_count(keep, first, rows):
            _blank(p[k], v)  # of which their gradient is a multiple
        for lane in range(LANES):
            length_a = np.sqrt(v[STUDENT + lane])
            length_b = np.sqrt(v[TEACHER + lane])
            product = length_a * length_b + eps
            to_b = row / product
            longer = tiny if length_a < tiny else length_a
            v[TO_TEACHER + lane] = to_b
            v[TO_STUDENT + lane] = -to_b * (v[CROSS + lane] / product) * (length_b / longer)
        _slopes(p[k], q[k], v, slopes, softmax, spare)
        _store(spare, first, rows, out, o_layout)


@jit(EXACT)
def means(student, s_layout, teacher, t_layout, keep, rows, softmax, scale, eps, p, q, vectors, out):
    """Add Σp and Σq by class to out (2, C); return how many rows count. Other arguments as for sums.

    In float64, as the mean of one number again and again must be that number.
    """
    count = 0.0
    for first in range(0, rows, LANES):
        _tile(student, s_layout, teacher, t_layout, keep, first, rows, softmax, scale, p[0], q[0], vectors[0])
        for lane in range(LANES):
            count += vectors[0, WEIGHT + lane]
        _wide_sums(p[0], vectors[0], out[0])
        _wide_sums(q[0], vectors[0], out[1])
    return count


@jit(EXACT)
def center(total, shift, means, moments):
    """Write the means (2, C) and moments (3, C) of Sums.of, from what sums has added up and the shift."""
    classes = shift.shape[1]
    rows = max(total[5 * classes], 1.0)
    for c in range(classes):
        sum_p, sum_q = total[c], total[classes + c]
        offset_p, offset_q = sum_p / rows, sum_q / rows
        means[0, c], means[1, c] = shift[0, c] + offset_p, shift[1, c] + offset_q
        moments[0, c] = total[2 * classes + c] - sum_p * offset_p
        moments[1, c] = total[3 * classes + c] - sum_q * offset_q
        moments[2, c] = total[4 * classes + c] - sum_p * offset_q


@jit(EXACT)
def finish(rows, correlation, moments, inter, intra, by_class, by_row, eps, tiny, own, other):
    """Return the loss and the slope by row, and write those by class, all of them as terms.finish has them.

    Args:
        rows, correlation, moments: of Sums.
        inter, intra: the weights of the loss; by_class, by_row: those of the slopes.
    """
    classes = len(own)
    total = 0.0
    for c in range(classes):
        # NaN stays, and the loss then says so.
        student = math.sqrt(0.0 if moments[0, c] < 0.0 else moments[0, c])
        teacher = math.sqrt(0.0 if moments[1, c] < 0.0 else moments[1, c])
        product = student * teacher + eps
        column = moments[2, c] / product
        total += column
        other[c] = by_class / product
        own[c] = -other[c] * column * (teacher / (tiny if student < tiny else student))
    at_least_one = max(rows, 1.0)
    loss = inter * (1.0 - correlation / at_least_one) + intra * (1.0 - total / classes)
    return loss * min(rows, 1.0), by_row / at_least_one


@jit(REORDERED)
def _column_sums(p, q, v, shift, out):
    """Add the tile's share of sums to out."""
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
    """Write the tile's gradient into out (C, WIDTH)."""
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


@jit(EXACT)
def _tile(student, s_layout, teacher, t_layout, keep, first, rows, softmax, scale, p, q, vectors):
    """Write a tile's probabilities into p and q, and what relates its rows into vectors.

    Logits of rows that do not count are taken for 0.
    """
    for lane in range(LANES):
        vectors[WEIGHT + lane] = ONE if first + lane < rows else ZERO
    if len(keep):
        for lane in range(min(LANES, rows - first)):
            vectors[WEIGHT + lane] = ONE if keep[first + lane] else ZERO
    _load(student, s_layout, first, rows, p)
    _load(teacher, t_layout, first, rows, q)
    if _some_do_not_count(keep, first, rows):
        _blank(p, vectors)
        _blank(q, vectors)
    if softmax:
        _softmax(p, vectors[:SIDE], vectors[PART:], scale)
        _softmax(q, vectors[SIDE:], vectors[PART:], scale)
    else:
        _sigmoid(p, vectors[:SIDE], vectors[PART:], scale)
        _sigmoid(q, vectors[SIDE:], vectors[PART:], scale)
    _relate(p, q, vectors)


@jit(EXACT)
def _some_do_not_count(keep, first, rows):
    """Return whether the tile may have such rows."""
    return len(keep) > 0 or rows - first < LANES


@jit(EXACT)
def _blank(logits, vectors):
    for c in range(len(logits)):
        for lane in range(LANES):
            logits[c, lane] = logits[c, lane] if vectors[WEIGHT + lane] != ZERO else ZERO


@jit(EXACT)
def _load(logits, layout, first, rows, out):
    """Load LANES rows, or what is left of them, from the memory of logits into out (C, WIDTH).

    Args:
        layout: how many places an image has, and the steps from an image, a class and a place to the next.
        first: the row, counted through all images, that comes first.
    """
    places, by_image, by_class, by_place = layout
    lane, end = 0, min(LANES, rows - first)
    while lane < end:
        image, place = divmod(first + lane, places)
        run = min(end - lane, places - place)  # rows of one image
        start = image * by_image + place * by_place
        if by_place == 1:
            for c in range(len(out)):
                source = logits[start + c * by_class :]
                target = out[c, lane:]
                for i in range(run):
                    target[i] = source[i]
        elif by_class == 1:
            for i in range(run):
                source = logits[start + i * by_place :]
                for c in range(len(out)):
                    out[c, lane + i] = source[c]
        else:
            for c in range(len(out)):
                source = logits[start + c * by_class :]
                for i in range(run):
                    out[c, lane + i] = source[i * by_place]
        lane += run


@jit(EXACT)
def _store(values, first, rows, out, layout):
    """Store rows (C, WIDTH) into the memory out: the reverse of _load."""
    places, by_image, by_class, by_place = layout
    lane, end = 0, min(LANES, rows - first)
    while lane < end:
        image, place = divmod(first + lane, places)
        run = min(end - lane, places - place)  # rows of one image
        start = image * by_image + place * by_place
        if by_place == 1:
            for c in range(len(values)):
                target = out[start + c * by_class :]
                source = values[c, lane:]
                for i in range(run):
                    target[i] = source[i]
        elif by_class == 1:
            for i in range(run):
                target = out[start + i * by_place :]
                for c in range(len(values)):
                    target[c] = values[c, lane + i]
        else:
            for c in range(len(values)):
                target = out[start + c * by_class :]
                for i in range(run):
                    target[i * by_place] = values[c, lane + i]
        lane += run


@jit(EXACT)
def _softmax(p, side, part, scale):
    """Replace logits by their softmax over the classes, and write the rows' means into side."""
    even = ONE / np.float32(len(p))
    for lane in range(LANES):
        side[SPARE + lane] = p[0, lane]
        side[CENTER + lane] = ZERO
    for c in range(1, len(p)):
        for lane in range(LANES):
            side[SPARE + lane] = p[c, lane] if p[c, lane] > side[SPARE + lane] else side[SPARE + lane]
    for start in range(0, len(p), GROUP):
        part[:LANES] = ZERO
        for c in range(start, min(start + GROUP, len(p))):
            for lane in range(LANES):
                power = _exp((p[c, lane] - side[SPARE + lane]) * scale)
                p[c, lane] = power
                part[lane] += power
        for lane in range(LANES):
            side[CENTER + lane] += part[lane]
    for lane in range(LANES):
        side[SPARE + lane] = ONE / side[CENTER + lane]
        side[CENTER + lane] = even
    for c in range(len(p)):
        for lane in range(LANES):
            p[c, lane] *= side[SPARE + lane]


@jit(EXACT)
def _sigmoid(p, side, part, scale):
    """Replace logits by their sigmoids, and write the rows' means into side: of a constant row exactly its value."""
    for lane in range(LANES):
        side[SPARE + lane] = ONE / (ONE + _exp(-p[0, lane] * scale))
        side[CENTER + lane] = ZERO
    for start in range(0, len(p), GROUP):
        part[:LANES] = ZERO
        for c in range(start, min(start + GROUP, len(p))):
            for lane in range(LANES):
                p[c, lane] = ONE / (ONE + _exp(-p[c, lane] * scale))
                part[lane] += p[c, lane] - side[SPARE + lane]
        for lane in range(LANES):
            side[CENTER + lane] += part[lane]
    share = ONE / np.float32(len(p))
    for lane in range(LANES):
        side[CENTER + lane] = side[SPARE + lane] + side[CENTER + lane] * share


@jit(EXACT)
def _exp(x):
    """Return e to the power of x, which is cut to ±LARGEST; NaN stays."""
    x = -LARGEST if x < -LARGEST else x
    x = LARGEST if x > LARGEST else x
    rounded = np.float32(x * LOG2E + ROUND)
    whole = rounded - ROUND
    rest = x - whole * LN2_HIGH
    rest = rest - whole * LN2_LOW
    power = E6 * rest + E5
    power = power * rest + E4
    power = power * rest + E3
    power = power * rest + E2
    power = power * rest + E1
    power = power * rest + E0
    # The whole number becomes the exponent of a float32.
    return power * np.int32((np.int32(rounded.view(np.int32)) + 127) << 23).view(np.float32)


@jit(EXACT)
def _relate(p, q, v):
    """Write the inner products of the centered rows into v."""
    v[STUDENT:TO_STUDENT] = ZERO
    for start in range(0, len(p), GROUP):
        v[PART:] = ZERO
        for c in range(start, min(start + GROUP, len(p))):
            for lane in range(LANES):
                a = p[c, lane] - v[CENTER + lane]
                b = q[c, lane] - v[SIDE + CENTER + lane]
                v[PART + lane] += a * a
                v[PART + WIDTH + lane] += b * b
                v[PART + 2 * WIDTH + lane] += a * b
        for lane in range(LANES):
            v[STUDENT + lane] += v[PART + lane]
            v[TEACHER + lane] += v[PART + WIDTH + lane]
            v[CROSS + lane] += v[PART + 2 * WIDTH + lane]
