"""The kernels of triton_backend. Those that read logits begin with the same arguments:

student, teacher: the logits, and the steps from an image, a class, a place to the next.
keep: a byte for each place of each image, not 0 = the row counts; None = all count.
places: of an image; blocks: tiles of an image; tiles: of all images.
scale: 1 / tau.
C: classes; CLASSES: a power of two from C on; PLACES: of a tile, a power of two.
FAR: the values of an image lie further apart than 32 bits count.
"""

import triton
import triton.language as tl

AHEAD = tl.constexpr(64)  # rows that are looked at together where few count

# Sizes change from call to call. Of a step that it knows to be 1 Triton would make more than is good: it deals out a
# tile in the order of memory, and with classes spread over a warp each sum over them is shuffled together.
jit = triton.jit(
    do_not_specialize=[
        *("s_image", "s_class", "s_place", "t_image", "t_class", "t_place", "o_image", "o_class", "o_place"),
        *("places", "blocks", "tiles", "rows", "step"),
    ]
)


@jit
def shift(
    student, s_image, s_class, s_place,
    teacher, t_image, t_class, t_place,
    keep, places, blocks, tiles, scale, eps,
    out, rows, step,
    C: tl.constexpr, CLASSES: tl.constexpr, PLACES: tl.constexpr, SOFTMAX: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """Write the mean (2, C) of rows 0, step, 2·step … that count; if none does, of the first after each of them that
    does, from as few rows on as have one.

    In float64, as the mean of one number again and again must be that number.
    """
    row = tl.arange(0, PLACES).to(tl.int64) * step
    counts = row < rows
    if keep is not None:
        counts = counts & (tl.load(keep + row, counts, 0) != 0)
        start = 1
        ahead = tl.arange(0, AHEAD)
        while (tl.max(counts.to(tl.int32), 0) == 0) & (start < step):
            after = row[:, None] + (start + ahead)[None, :]
            there = after < rows
            there = there & (tl.load(keep + after, there, 0) != 0)
            first = tl.min(tl.where(there, ahead[None, :], AHEAD), 1)
            counts = first < AHEAD
            row = tl.where(counts, row + start + first, row)
            start += AHEAD
    index = tl.arange(0, CLASSES)
    inside = (index < C)[:, None]
    read = inside & counts[None, :]
    image, place = row // places, row % places
    p = _probabilities(
        student + image[None, :] * s_image + place[None, :] * s_place + index.to(tl.int64)[:, None] * s_class,
        read, inside, scale, SOFTMAX,
    )  # fmt: skip
    q = _probabilities(
        teacher + image[None, :] * t_image + place[None, :] * t_place + index.to(tl.int64)[:, None] * t_class,
        read, inside, scale, SOFTMAX,
    )  # fmt: skip
    number = tl.maximum(tl.sum(counts.to(tl.int32), 0), 1)
    tl.store(out + index, tl.sum(tl.where(read, p, 0).to(tl.float64), 1) / number, index < C)
    tl.store(out + C + index, tl.sum(tl.where(read, q, 0).to(tl.float64), 1) / number, index < C)


@jit
def sums(
    student, s_image, s_class, s_place,
    teacher, t_image, t_class, t_place,
    keep, places, blocks, tiles, scale, eps,
    shift, partial,
    C: tl.constexpr, CLASSES: tl.constexpr, PLACES: tl.constexpr, SOFTMAX: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """Write this program's share of Sums.of into its row of partial: by class Σp … Σpq, then count, correlation."""
    index = tl.arange(0, CLASSES)
    shift_p = tl.load(shift + index, index < C, 0)[:, None]
    shift_q = tl.load(shift + C + index, index < C, 0)[:, None]
    sum_p = tl.zeros([CLASSES, PLACES], tl.float32)
    sum_q, sum_pp, sum_qq, sum_pq = sum_p, sum_p, sum_p, sum_p
    number = tl.zeros([PLACES], tl.float32)
    correlation = number
    tile, end = _share(tiles)
    while tile < end:
        counts, p, q, a, b = _rows(
            student, s_image, s_class, s_place, teacher, t_image, t_class, t_place,
            keep, places, tile // blocks, tile % blocks, scale, C, CLASSES, PLACES, SOFTMAX, FAR,
        )  # fmt: skip
        lengths = tl.sqrt(tl.sum(a * a, 0)) * tl.sqrt(tl.sum(b * b, 0))
        correlation += tl.where(counts, tl.sum(a * b, 0) / (lengths + eps), 0)
        number += counts.to(tl.float32)
        p = tl.where(counts[None, :], p - shift_p, 0)
        q = tl.where(counts[None, :], q - shift_q, 0)
        sum_p += p
        sum_q += q
        sum_pp += p * p
        sum_qq += q * q
        sum_pq += p * q
        tile += 1

    row = partial + tl.program_id(0) * (5 * C + 2)
    tl.store(row + index, tl.sum(sum_p, 1), index < C)
    tl.store(row + C + index, tl.sum(sum_q, 1), index < C)
    tl.store(row + 2 * C + index, tl.sum(sum_pp, 1), index < C)
    tl.store(row + 3 * C + index, tl.sum(sum_qq, 1), index < C)
    tl.store(row + 4 * C + index, tl.sum(sum_pq, 1), index < C)
    tl.store(row + 5 * C, tl.sum(number, 0))
    tl.store(row + 5 * C + 1, tl.sum(correlation, 0))


@triton.jit
def center(total, shift, means, moments, C: tl.constexpr, CLASSES: tl.constexpr):
    """Write the means (2, C) and moments (3, C) of Sums.of, from the sum of all rows of partial and the shift."""
    index = tl.arange(0, CLASSES)
    inside = index < C
    rows = tl.maximum(tl.load(total + 5 * C), 1)
    sum_p, sum_q = tl.load(total + index, inside, 0), tl.load(total + C + index, inside, 0)
    offset_p, offset_q = sum_p / rows, sum_q / rows
    tl.store(means + index, tl.load(shift + index, inside, 0) + offset_p, inside)
    tl.store(means + C + index, tl.load(shift + C + index, inside, 0) + offset_q, inside)
    tl.store(moments + index, tl.load(total + 2 * C + index, inside, 0) - sum_p * offset_p, inside)
    tl.store(moments + C + index, tl.load(total + 3 * C + index, inside, 0) - sum_q * offset_q, inside)
    tl.store(moments + 2 * C + index, tl.load(total + 4 * C + index, inside, 0) - sum_p * offset_q, inside)


@triton.jit
def finish(
    rows, correlation, moments, inter, intra, by_class, by_row, eps, tiny,
    loss, own, other, row, C: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """Write what terms.finish returns, from Sums; inter and intra are the weights of the loss, by_class and by_row
    those of the slopes."""
    index = tl.arange(0, CLASSES)
    inside = index < C
    count = tl.load(rows)
    student = tl.sqrt(tl.maximum(tl.load(moments + index, inside, 0), 0))
    teacher = tl.sqrt(tl.maximum(tl.load(moments + C + index, inside, 0), 0))
    product = student * teacher + eps
    columns = tl.load(moments + 2 * C + index, inside, 0) / product
    at_least_one = tl.maximum(count, 1)
    sum_inter, sum_intra = 1 - tl.load(correlation) / at_least_one, 1 - tl.sum(columns, 0) / C
    tl.store(loss, (inter * sum_inter + intra * sum_intra) * tl.minimum(count, 1))
    to_other = by_class / product
    tl.store(other + index, to_other, inside)
    tl.store(own + index, -to_other * columns * (teacher / tl.maximum(student, tiny)), inside)
    tl.store(row, by_row / at_least_one)


@jit
def gradient(
    student, s_image, s_class, s_place,
    teacher, t_image, t_class, t_place,
    keep, places, blocks, tiles, scale, eps,
    means, own, other, row, upstream, out, o_image, o_class, o_place, tiny,
    C: tl.constexpr, CLASSES: tl.constexpr, PLACES: tl.constexpr, SOFTMAX: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """Write the gradient of Slopes, times upstream, into out."""
    index = tl.arange(0, CLASSES)
    inside = (index < C)[:, None]
    factor = tl.load(upstream)
    mean_p = tl.load(means + index, index < C, 0).to(tl.float32)[:, None]
    mean_q = tl.load(means + C + index, index < C, 0).to(tl.float32)[:, None]
    own = (tl.load(own + index, index < C, 0) * factor).to(tl.float32)[:, None]
    other = (tl.load(other + index, index < C, 0) * factor).to(tl.float32)[:, None]
    row = (tl.load(row) * factor).to(tl.float32)
    tile, end = _share(tiles)
    while tile < end:
        counts, p, q, a, b = _rows(
            student, s_image, s_class, s_place, teacher, t_image, t_class, t_place,
            keep, places, tile // blocks, tile % blocks, scale, C, CLASSES, PLACES, SOFTMAX, FAR,
        )  # fmt: skip
        length_a, length_b = tl.sqrt(tl.sum(a * a, 0)), tl.sqrt(tl.sum(b * b, 0))
        product = length_a * length_b + eps
        to_b = row / product
        to_a = -to_b * (tl.sum(a * b, 0) / product) * (length_b / tl.maximum(length_a, tiny))
        slope = own * (p - mean_p) + other * (q - mean_q) + to_a[None, :] * a + to_b[None, :] * b
        slope *= p
        # For the softmax minus p Σ(p·slope), for the sigmoid times 1 - p.
        slope = slope - p * tl.sum(slope, 0)[None, :] if SOFTMAX else slope * (1 - p)
        slope = tl.where(counts[None, :], slope, 0)
        image, block = tile // blocks, tile % blocks
        exists = (block * PLACES + tl.arange(0, PLACES) < places)[None, :]
        tl.store(out + _at(image, block, index, o_image, o_class, o_place, PLACES, FAR), slope, inside & exists)
        tile += 1


@triton.jit
def _share(tiles):
    """Return this program's first tile and the end of its tiles, which are neighbors: they share sectors of memory."""
    share = tl.cdiv(tiles, tl.num_programs(0))
    first = tl.program_id(0) * share
    return first, tl.minimum(first + share, tiles)


@triton.jit
def _rows(
    student, s_image, s_class, s_place,
    teacher, t_image, t_class, t_place,
    keep, places, image, block, scale,
    C: tl.constexpr, CLASSES: tl.constexpr, PLACES: tl.constexpr, SOFTMAX: tl.constexpr, FAR: tl.constexpr,
):  # fmt: skip
    """Return which places of a tile count, the probabilities p and q, and these centered."""
    index = tl.arange(0, CLASSES)
    inside = (index < C)[:, None]
    counts = _counts(keep, image, block, places, PLACES)
    read = inside & counts[None, :]
    ours = student + _at(image, block, index, s_image, s_class, s_place, PLACES, FAR)
    theirs = teacher + _at(image, block, index, t_image, t_class, t_place, PLACES, FAR)
    p = _probabilities(ours, read, inside, scale, SOFTMAX)
    q = _probabilities(theirs, read, inside, scale, SOFTMAX)
    return counts, p, q, _centered(p, inside, C, SOFTMAX), _centered(q, inside, C, SOFTMAX)


@triton.jit
def _counts(keep, image, block, places, PLACES: tl.constexpr):
    """Return which places of a tile count, (PLACES,)."""
    place = block * PLACES + tl.arange(0, PLACES)
    counts = place < places
    if keep is not None:
        counts = counts & (tl.load(keep + image.to(tl.int64) * places + place, counts, 0) != 0)
    return counts


@triton.jit
def _at(image, block, index, by_image, by_class, by_place, PLACES: tl.constexpr, FAR: tl.constexpr):
    """Return where the values (CLASSES, PLACES) of a tile lie; from its first on in 32 bits, unless they are FAR."""
    first = image.to(tl.int64) * by_image + (block * PLACES).to(tl.int64) * by_place
    lane = tl.arange(0, PLACES)
    if FAR:
        index, lane = index.to(tl.int64), lane.to(tl.int64)
    return first + (index[:, None] * by_class + lane[None, :] * by_place)


@triton.jit
def _probabilities(pointers, read, inside, scale, SOFTMAX: tl.constexpr):
    """Return probabilities (CLASSES, PLACES) in float32, 0 beyond the C classes; logits not read are taken for 0."""
    z = tl.load(pointers, read, 0).to(tl.float32) * scale
    if SOFTMAX:
        z = tl.where(inside, z, -float("inf"))
        powers = tl.exp(z - tl.max(z, 0)[None, :])
        total = tl.sum(powers, 0)
        return powers * tl.div_rn(tl.full(total.shape, 1, tl.float32), total)[None, :]
    return tl.where(inside, tl.sigmoid(z), 0)


@triton.jit
def _centered(p, inside, C: tl.constexpr, SOFTMAX: tl.constexpr):
    """Return p minus the mean of its row; exactly 0 where the row is constant, however its values were rounded."""
    if SOFTMAX:
        return tl.where(inside, p - 1 / C, 0)
    below = tl.where(inside, p - tl.max(p, 0)[None, :], 0)
    return tl.where(inside, below - (tl.sum(below, 0) / C)[None, :], 0)
