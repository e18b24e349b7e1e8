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
