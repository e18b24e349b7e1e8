"""DIST's two passes over the logits as Triton kernels: each reads the logits once, in whatever order they lie."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from densedist.common.losses.dist_terms import TINY, Relation, Slopes, Sums

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_CLASSES = 4096  # of which a tile fits the registers
# A warp to a tile of this many values: then no sum over classes or places leaves the warp.
TILE = 1024
PROGRAMS_PER_PROCESSOR = 16


def can(logits: Tensor) -> bool:
    """Whether the kernels take such logits: not float64, not more than MAX_CLASSES."""
    return logits.dtype in DTYPES and logits.shape[1] <= MAX_CLASSES


def sums(student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> tuple[Sums, None]:
    """What the loss needs of the logits; nothing is kept for the gradient. Arguments as in dist_blocks.sums."""
    classes = student.shape[1]
    launch = _Launch(student, teacher, valid, relation)
    shift = torch.empty(2, classes, device=student.device)
    partial = torch.empty(launch.programs, 5 * classes + 2, device=student.device)
    launch(_sums_kernel, shift, partial)
    total = partial.sum(0, dtype=torch.float64)
    return Sums.of(total[-2], total[-1], shift, total[:-2].view(5, classes)), None


def gradient(
    student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation, slopes: Slopes, kept: None = None
) -> Tensor:
    """The loss's gradient with respect to the student's logits, of their shape and dtype."""
    launch = _Launch(student, teacher, valid, relation)
    out = torch.empty_like(launch.student)
    classes = torch.cat([slopes.means, slopes.own.unsqueeze(0), slopes.other.unsqueeze(0)]).float()
    launch(_gradient_kernel, classes, slopes.row.float(), out, *out.stride(), TINY)
    return out[0].t() if student.dim() == 2 else out.view(student.shape)


class _Launch:
    """Starts either kernel on the logits seen as (N, C, L), in tiles of all C classes and a few of L places."""

    def __init__(self, student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> None:
        self.student, teacher = _places_last(student), _places_last(teacher)
        images, classes, places = self.student.shape
        keep = None if valid is None else valid.contiguous().view(torch.uint8)
        class_block = triton.next_power_of_2(classes)
        place_block = max(4, TILE // class_block)
        blocks = triton.cdiv(places, place_block)
        self.tiles = images * blocks
        self.programs = min(self.tiles, PROGRAMS_PER_PROCESSOR * _processors(student))
        self.inputs = (self.student, *self.student.stride(), teacher, *teacher.stride(), keep)
        self.sizes = (places, blocks, self.tiles, 1 / relation.tau, relation.eps)
        self.constants = {
            "C": classes,
            "CLASSES": class_block,
            "PLACES": place_block,
            "SOFTMAX": relation.activation == "softmax",
            "num_warps": min(16, max(1, class_block * place_block // TILE)),
        }

    def __call__(self, kernel, *more) -> None:
        with torch.cuda.device_of(self.student):
            kernel[(self.programs,)](*self.inputs, *self.sizes, *more, **self.constants)


def _places_last(logits: Tensor) -> Tensor:
    """(R, C) as (1, C, R), (N, C, *spatial) as (N, C, L)."""
    return logits.t().unsqueeze(0) if logits.dim() == 2 else logits.flatten(2)


def _processors(logits: Tensor) -> int:
    return torch.cuda.get_device_properties(logits.device).multi_processor_count if logits.is_cuda else 1


@triton.jit
def _sums_kernel(
    student, s_image, s_class, s_place,
    teacher, t_image, t_class, t_place,
    keep, places, blocks, tiles, scale, eps,
    shift, partial,
    C: tl.constexpr, CLASSES: tl.constexpr, PLACES: tl.constexpr, SOFTMAX: tl.constexpr,
):  # fmt: skip
    """Each program's share of Sums.of: a row of partial, Σp, Σq, Σp², Σq², Σpq by class, then count, correlation."""
    index = tl.arange(0, CLASSES)
    first = tl.program_id(0) * 0
    place, counts = _rows(keep, first, places, blocks, PLACES)
    p = _probabilities(student, s_image, s_class, s_place, first // blocks, place, counts, scale, C, CLASSES, SOFTMAX)
    q = _probabilities(teacher, t_image, t_class, t_place, first // blocks, place, counts, scale, C, CLASSES, SOFTMAX)
    # All programs shift by the mean of the same tile, so that float32 resolves small variances.
    number = tl.maximum(tl.sum(counts.to(tl.float32), 0), 1)
    shift_p = tl.sum(tl.where(counts[None, :], p, 0), 1) / number
    shift_q = tl.sum(tl.where(counts[None, :], q, 0), 1) / number
    if tl.program_id(0) == 0:
        tl.store(shift + index, shift_p, index < C)
        tl.store(shift + C + index, shift_q, index < C)

    sum_p = tl.zeros([CLASSES], tl.float32)
    sum_q, sum_pp, sum_qq, sum_pq = sum_p, sum_p, sum_p, sum_p
    count = tl.sum(sum_p, 0)
    correlation = count
    tile = tl.program_id(0)
    while tile < tiles:
        image = tile // blocks
        place, counts = _rows(keep, tile, places, blocks, PLACES)
        p = _probabilities(student, s_image, s_class, s_place, image, place, counts, scale, C, CLASSES, SOFTMAX)
        q = _probabilities(teacher, t_image, t_class, t_place, image, place, counts, scale, C, CLASSES, SOFTMAX)
        a, b = _centered(p, C, CLASSES), _centered(q, C, CLASSES)
        lengths = tl.sqrt(tl.sum(a * a, 0)) * tl.sqrt(tl.sum(b * b, 0))
        correlation += tl.sum(tl.where(counts, tl.sum(a * b, 0) / (lengths + eps), 0), 0)
        count += tl.sum(counts.to(tl.float32), 0)
        p = tl.where(counts[None, :], p - shift_p[:, None], 0)
        q = tl.where(counts[None, :], q - shift_q[:, None], 0)
        sum_p += tl.sum(p, 1)
        sum_q += tl.sum(q, 1)
        sum_pp += tl.sum(p * p, 1)
        sum_qq += tl.sum(q * q, 1)
        sum_pq += tl.sum(p * q, 1)
        tile += tl.num_programs(0)

    row = partial + tl.program_id(0) * (5 * C + 2)
    tl.store(row + index, sum_p, index < C)
    tl.store(row + C + index, sum_q, index < C)
    tl.store(row + 2 * C + index, sum_pp, index < C)
    tl.store(row + 3 * C + index, sum_qq, index < C)
    tl.store(row + 4 * C + index, sum_pq, index < C)
    tl.store(row + 5 * C, count)
    tl.store(row + 5 * C + 1, correlation)


@triton.jit
def _gradient_kernel(
    student, s_image, s_class, s_place,
    teacher, t_image, t_class, t_place,
    keep, places, blocks, tiles, scale, eps,
    slopes, row, out, o_image, o_class, o_place, tiny,
    C: tl.constexpr, CLASSES: tl.constexpr, PLACES: tl.constexpr, SOFTMAX: tl.constexpr,
):  # fmt: skip
    """The gradient of Slopes; slopes is (4, C): the means of p and q, own, other."""
    index = tl.arange(0, CLASSES)
    mean_p = tl.load(slopes + index, index < C, 0)[:, None]
    mean_q = tl.load(slopes + C + index, index < C, 0)[:, None]
    own = tl.load(slopes + 2 * C + index, index < C, 0)[:, None]
    other = tl.load(slopes + 3 * C + index, index < C, 0)[:, None]
    row = tl.load(row)
    tile = tl.program_id(0)
    while tile < tiles:
        image = tile // blocks
        place, counts = _rows(keep, tile, places, blocks, PLACES)
        p = _probabilities(student, s_image, s_class, s_place, image, place, counts, scale, C, CLASSES, SOFTMAX)
        q = _probabilities(teacher, t_image, t_class, t_place, image, place, counts, scale, C, CLASSES, SOFTMAX)
        a, b = _centered(p, C, CLASSES), _centered(q, C, CLASSES)
        length_a, length_b = tl.sqrt(tl.sum(a * a, 0)), tl.sqrt(tl.sum(b * b, 0))
        product = length_a * length_b + eps
        to_b = row / product
        to_a = -to_b * (tl.sum(a * b, 0) / product) * (length_b / tl.maximum(length_a, tiny))
        slope = own * (p - mean_p) + other * (q - mean_q) + to_a[None, :] * a + to_b[None, :] * b
        slope *= p
        # For the softmax minus p Σ(p·slope), for the sigmoid times 1 - p.
        slope = slope - p * tl.sum(slope, 0)[None, :] if SOFTMAX else slope * (1 - p)
        slope = tl.where(counts[None, :], slope, 0)
        inside = (index < C)[:, None] & (place < places)[None, :]
        tl.store(_at(out, o_image, o_class, o_place, image, index, place), slope, inside)
        tile += tl.num_programs(0)


@triton.jit
def _rows(keep, tile, places, blocks, PLACES: tl.constexpr):
    """A tile's places (PLACES,), and which of them count."""
    place = (tile % blocks) * PLACES + tl.arange(0, PLACES)
    counts = place < places
    if keep is not None:
        start = keep + (tile // blocks).to(tl.int64) * places
        counts = counts & (tl.load(start + place, counts, 0) != 0)
    return place, counts


@triton.jit
def _probabilities(
    logits, by_image, by_class, by_place, image, place, counts, scale,
    C: tl.constexpr, CLASSES: tl.constexpr, SOFTMAX: tl.constexpr,
):  # fmt: skip
    """(CLASSES, PLACES) in float32, 0 beyond the C classes; of rows that do not count the logits are not read."""
    index = tl.arange(0, CLASSES)
    inside = (index < C)[:, None]
    pointers = _at(logits, by_image, by_class, by_place, image, index, place)
    z = tl.load(pointers, inside & counts[None, :], 0).to(tl.float32) * scale
    if SOFTMAX:
        z = tl.where(inside, z, -float("inf"))
        powers = tl.exp(z - tl.max(z, 0)[None, :])
        return powers / tl.sum(powers, 0)[None, :]
    return tl.where(inside, tl.sigmoid(z), 0)


@triton.jit
def _centered(p, C: tl.constexpr, CLASSES: tl.constexpr):
    """p minus the mean of its row; exactly 0 where the row is constant, however its values were rounded."""
    inside = (tl.arange(0, CLASSES) < C)[:, None]
    below = tl.where(inside, p - tl.max(p, 0)[None, :], 0)
    return tl.where(inside, below - (tl.sum(below, 0) / C)[None, :], 0)


@triton.jit
def _at(start, by_image, by_class, by_place, image, index, place):
    """Pointers to (classes index, places place) of an image, for more than 2³¹ values too."""
    columns = start + image.to(tl.int64) * by_image + place.to(tl.int64)[None, :] * by_place
    return columns + index.to(tl.int64)[:, None] * by_class
