"""The losses written as slow loops over rows and columns, in float64, from the papers' formulas."""

import math

import torch


def to_rows(logits, valid=None):
    """(R, C) or (N, C, *spatial) as a list of rows, those that count."""
    rows = logits.double().movedim(1, -1).reshape(-1, logits.shape[1])
    keep = torch.ones(len(rows), dtype=torch.bool) if valid is None else valid.reshape(-1)
    return [row for row, counts in zip(rows, keep, strict=True) if counts]


def probabilities(row, tau, activation):
    if activation == "sigmoid":
        return [1 / (1 + math.exp(-z / tau)) for z in row.tolist()]
    powers = [math.exp(z / tau) for z in row.tolist()]
    return [power / sum(powers) for power in powers]


def pearson(a, b, eps=1e-8):
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    a, b = [x - mean_a for x in a], [x - mean_b for x in b]
    norms = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (norms + eps)


def dist(student, teacher, valid=None, beta=1.0, gamma=1.0, tau=1.0, activation="softmax"):
    p = [probabilities(row, tau, activation) for row in to_rows(student, valid)]
    q = [probabilities(row, tau, activation) for row in to_rows(teacher, valid)]
    inter = [1 - pearson(a, b) for a, b in zip(p, q, strict=True)]
    columns = zip(zip(*p, strict=True), zip(*q, strict=True), strict=True)
    intra = [1 - pearson(list(a), list(b)) for a, b in columns]
    return tau**2 * (beta * math.fsum(inter) / len(inter) + gamma * math.fsum(intra) / len(intra))


def kd(student, teacher, valid=None, tau=1.0, activation="softmax"):
    total = []
    for s, t in zip(to_rows(student, valid), to_rows(teacher, valid), strict=True):
        p, q = probabilities(t, tau, activation), probabilities(s, tau, activation)
        terms = [a * math.log(a / b) for a, b in zip(p, q, strict=True)]
        if activation == "sigmoid":
            terms += [(1 - a) * math.log((1 - a) / (1 - b)) for a, b in zip(p, q, strict=True)]
        total.append(math.fsum(terms))
    return tau**2 * math.fsum(total) / len(total)


def standardized(logits):
    """Each row's z-scores; the deviation is that of the whole row, not of a sample."""
    rows = []
    for row in to_rows(logits):
        mean = math.fsum(row.tolist()) / len(row)
        deviation = math.sqrt(math.fsum((z - mean) ** 2 for z in row.tolist()) / len(row))
        rows.append([(z - mean) / (deviation + 1e-7) for z in row.tolist()])
    return torch.tensor(rows, dtype=torch.float64)


def dkd(student, teacher, target, alpha=1.0, beta=0.25, tau=1.0):
    labels = target.flatten().tolist()
    total, rows = [], 0
    for s, t, label in zip(to_rows(student), to_rows(teacher), labels, strict=True):
        if label < 0:
            continue
        p, q = probabilities(t, tau, "softmax"), probabilities(s, tau, "softmax")
        binary = [(p[label], q[label]), (1 - p[label], 1 - q[label])]
        others = [(a / (1 - p[label]), b / (1 - q[label])) for a, b in zip(p, q, strict=True)]
        del others[label]
        for weight, pairs in ((alpha, binary), (beta, others)):
            total.append(weight * math.fsum(a * math.log(a / b) for a, b in pairs))
        rows += 1
    return tau**2 * math.fsum(total) / rows


def mimic(student, teacher):
    pairs = list(zip(student.double().flatten().tolist(), teacher.double().flatten().tolist(), strict=True))
    return math.fsum((a - b) ** 2 for a, b in pairs) / len(pairs)


def cwd(student, teacher, tau=4.0):
    total = []
    for image_s, image_t in zip(student, teacher, strict=True):
        for channel_s, channel_t in zip(image_s, image_t, strict=True):
            p = probabilities(channel_t.double().flatten(), tau, "softmax")
            q = probabilities(channel_s.double().flatten(), tau, "softmax")
            total.append(math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return tau**2 * math.fsum(total) / len(total)


def pkd(student, teacher, eps=1e-6):
    sides = [[_standardize(c, eps) for c in x.double().transpose(0, 1).flatten(1).tolist()] for x in (student, teacher)]
    pairs = [(a, b) for c, d in zip(*sides, strict=True) for a, b in zip(c, d, strict=True)]
    return math.fsum((a - b) ** 2 for a, b in pairs) / len(pairs) / 2


def _standardize(x, eps):
    mean = math.fsum(x) / len(x)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in x) / len(x))
    return [(v - mean) / (deviation + eps) for v in x]


def rkd(student, teacher, distance_weight=25.0, angle_weight=50.0, normalize=True):
    sides = [_samples(x, normalize) for x in (student, teacher)]
    n = len(sides[0])
    d = [_distances(x) for x in sides]
    distance = math.fsum(_huber(d[0][i][j] - d[1][i][j]) for i in range(n) for j in range(n)) / n**2
    angles = [
        _huber(_angle(sides[0], i, j, k) - _angle(sides[1], i, j, k))
        for i in range(n)
        for j in range(n)
        for k in range(n)
    ]
    return distance_weight * distance + angle_weight * math.fsum(angles) / n**3


def _samples(x, normalize):
    rows = x.double().tolist()
    if normalize:
        rows = [[v / _length(row) for v in row] for row in rows]
    return rows


def _length(vector):
    return math.sqrt(math.fsum(v * v for v in vector))


def _minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def _distances(x):
    raw = [[_length(_minus(a, b)) for b in x] for a in x]
    positive = [v for row in raw for v in row if v > 0]
    mean = math.fsum(positive) / len(positive)
    return [[v / mean for v in row] for row in raw]


def _angle(x, i, j, k):
    a, b = _minus(x[j], x[i]), _minus(x[k], x[i])
    if not _length(a) or not _length(b):
        return 0.0
    return math.fsum(p * q for p, q in zip(a, b, strict=True)) / (_length(a) * _length(b))


def _huber(x):
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def attention(student, teacher, tau=0.5):
    total, count = [], 0
    for s, t in zip(student.double(), teacher.double(), strict=True):
        channels, places = t.shape[0], t[0].numel()
        s, t = s.flatten(1).tolist(), t.flatten(1).tolist()
        at_place = [math.fsum(abs(t[c][p]) for c in range(channels)) / channels / tau for p in range(places)]
        at_channel = [math.fsum(abs(v) for v in t[c]) / places / tau for c in range(channels)]
        sums = [math.fsum(math.exp(v) for v in logits) for logits in (at_place, at_channel)]
        for c in range(channels):
            for p in range(places):
                weight = places * math.exp(at_place[p]) / sums[0] * channels * math.exp(at_channel[c]) / sums[1]
                total.append(weight * (s[c][p] - t[c][p]) ** 2)
                count += 1
    return math.fsum(total) / count


def giou(a, b):
    """Generalized intersection over union of two boxes x0, y0, x1, y1."""
    side = lambda first, last: max(last - first, 0)  # noqa: E731
    area = lambda box: side(box[0], box[2]) * side(box[1], box[3])  # noqa: E731
    inside = side(max(a[0], b[0]), min(a[2], b[2])) * side(max(a[1], b[1]), min(a[3], b[3]))
    union = area(a) + area(b) - inside
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return inside / union - (hull - union) / hull


def box(student, teacher, distance="giou", beta=0.0):
    total = weights = 0.0
    for s, t in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        weight = 1 / (1 + math.exp(-t[4]))
        if distance == "giou":
            far = 1 - giou(s[:4], t[:4])
        else:
            each = [abs(x - y) for x, y in zip(s[:4], t[:4], strict=True)]
            far = math.fsum(e**2 / (2 * beta) if e < beta else e - beta / 2 for e in each)
        total, weights = total + weight * far, weights + weight
    return total / max(weights, 1)


def proposals(student, teacher, factor=1.0):
    sums, counts = [0.0, 0.0], [0.0, 0.0]
    for s, t in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        p, q = (1 / (1 + math.exp(-x[4])) for x in (t, s))
        divergence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        for n, weight in enumerate((p, 1 - p)):
            sums[n] += weight * divergence
            counts[n] += weight
    objectness = math.fsum(total / max(count, 1) for total, count in zip(sums, counts, strict=True)) / 2
    return objectness + factor * box(student, teacher)


def cross_head(student, teacher, objects, factor=1.0):
    """Objects: for each image and anchor 1, 0, or -1 where the labels leave it open or there are none."""
    total, count, rows = 0.0, 0.0, zip(student.double().tolist(), teacher.double().tolist(), strict=True)
    for image in objects.tolist():
        found = 0.0
        for label in image:
            s, t = next(rows)
            each = [tuple(1 / (1 + math.exp(-x)) for x in pair) for pair in zip(s[4:], t[4:], strict=True)]
            sure = max(p for _, p in each)
            found += sure if max(image) < 0 else max(label, 0)
            if label >= 0 or max(image) < 0:
                total += math.fsum(-abs(q - p) * (p * math.log(q) + (1 - p) * math.log(1 - q)) for q, p in each)
                total += factor * sure * (1 - giou(s[:4], t[:4]))
        count += max(found, 1)
    return total / count


def mgd(student, teacher):
    each = zip(student.double().flatten().tolist(), teacher.double().flatten().tolist(), strict=True)
    return math.fsum((a - b) ** 2 for a, b in each) / len(student)


def cirkd(student, teacher, tau=0.1):
    sides = [[_pixels(image) for image in x.double()] for x in (student, teacher)]
    pairs = [(a, b) for a in range(len(student)) for b in range(len(student))]
    total = []
    for a, b in pairs:
        for ours, theirs in zip(sides[0][a], sides[1][a], strict=True):
            q, p = (
                probabilities(torch.tensor([_dot(pixel, x) for x in side[b]], dtype=torch.float64), tau, "softmax")
                for pixel, side in ((ours, sides[0]), (theirs, sides[1]))
            )
            divergence = math.fsum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
            total.append(divergence / len(sides[0][a]))
    return math.fsum(total) / len(pairs)


def afdcd(student, teacher, contrast, reconstruction, tau, groups, patch, pool):
    student, teacher = student.double(), teacher.double()
    error = math.fsum((student - teacher).flatten().square().tolist()) / len(student)
    total, count = [], 0
    for s, t in zip(_pooled(student, pool), _pooled(teacher, pool), strict=True):
        height, width = (min(patch, side) for side in s.shape[1:])
        for top in range(0, s.shape[1] - height + 1, height):
            for left in range(0, s.shape[2] - width + 1, width):
                places = [(y, x) for y in range(top, top + height) for x in range(left, left + width)]
                ours, theirs = (
                    [[x[:, a, b].chunk(groups)[g].tolist() for g in range(groups)] for a, b in places] for x in (s, t)
                )
                total += _choices(ours, theirs, tau)
                count += len(places)
    return reconstruction * error + contrast * math.fsum(total) / count


def _pooled(features, side):
    rows, columns = (range(0, length, side) for length in features.shape[2:])
    cells = [[features[:, :, y : y + side, x : x + side].amax((2, 3)) for x in columns] for y in rows]
    return torch.stack([torch.stack(row, 2) for row in cells], 2)


def _choices(ours, theirs, tau):
    """Of each place and group of a patch the cross entropy of finding its own among those of other groups."""
    losses = []
    for place, vectors in enumerate(ours):
        for group, vector in enumerate(vectors):
            own = _nearness(vector, theirs[place][group], tau)
            others = [_nearness(vector, x[g], tau) for x in theirs for g in range(len(x)) if g != group]
            highest = max([own, *others])
            losses.append(highest + math.log(math.fsum(math.exp(x - highest) for x in [own, *others])) - own)
    return losses


def _nearness(a, b, tau):
    return -math.fsum(map(abs, _minus(a, b))) / tau


def _pixels(image):
    """(C, H, W) as a list of vectors of length 1."""
    vectors = image.flatten(1).T.tolist()
    return [[v / _length(vector) for v in vector] for vector in vectors]


def _dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def object_scales(boxes, stride, height, width):
    """One over the number of places of the smallest box that touches a place, 0 in the background."""
    scales = [[0.0] * width for _ in range(height)]
    for box in boxes.tolist():
        touched = [
            (y, x)
            for y in range(height)
            for x in range(width)
            if x * stride < box[2] and (x + 1) * stride > box[0] and y * stride < box[3] and (y + 1) * stride > box[1]
        ]
        for y, x in touched:
            scales[y][x] = max(scales[y][x], 1 / len(touched))
    return torch.tensor(scales)


def fgd(student, teacher, target, alpha=1e-3, beta=5e-4, gamma=5e-4, tau=0.5):
    total = []
    for s, t, scales in zip(student.double(), teacher.double(), target.double().flatten(1).tolist(), strict=True):
        (at, of), (their_at, their_of) = _attention(s, tau), _attention(t, tau)
        background = sum(scale == 0 for scale in scales)
        s, t = s.flatten(1).tolist(), t.flatten(1).tolist()
        for place, scale in enumerate(scales):
            weight = alpha * scale if scale > 0 else beta / background if scale == 0 else 0
            for c in range(len(s)):
                total.append(weight * their_at[place] * their_of[c] * (s[c][place] - t[c][place]) ** 2)
        total += [gamma * abs(a - b) for a, b in [*zip(at, their_at, strict=True), *zip(of, their_of, strict=True)]]
    return math.fsum(total) / len(student)


def _attention(image, tau):
    """Of places and of channels, either with the mean 1."""
    values = image.abs().flatten(1).tolist()
    means = [[math.fsum(column) / len(column) for column in rows] for rows in (list(zip(*values, strict=True)), values)]
    found = []
    for each in means:
        powers = [math.exp(v / tau) for v in each]
        found.append([len(each) * power / math.fsum(powers) for power in powers])
    return found
