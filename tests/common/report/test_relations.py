"""The correlations in relation maps, against NumPy and against what DIST's loss is."""

import numpy as np
import pytest
import torch

from densedist.common.losses import DISTLoss
from densedist.common.report.relations import Relations, draw_relations


def logits(rows=50, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, classes, generator=generator)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_equal_to_numpy_in_any_parts(activation):
    student, teacher = logits(seed=1), logits(seed=2)
    relations = Relations(4, 2.0, activation)
    for part in ([0, 1], [1, 30], [30, 50]):
        relations.add(student[slice(*part)], teacher[slice(*part)])
    p, q = ((x.double() / 2) for x in (student, teacher))
    p, q = (x.softmax(1).numpy() if activation == "softmax" else x.sigmoid().numpy() for x in (p, q))
    np.testing.assert_allclose(relations.student, np.corrcoef(p.T), rtol=0, atol=1e-13)
    np.testing.assert_allclose(relations.teacher, np.corrcoef(q.T), rtol=0, atol=1e-13)
    np.testing.assert_allclose(relations.intra, np.corrcoef(p.T, q.T)[:4, 4:].diagonal(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(relations.inter, np.corrcoef(p, q)[:50, 50:].diagonal(), rtol=0, atol=1e-13)
    assert relations.rows == 50


def test_nothing_is_lost_far_from_zero():
    """Probabilities that hardly vary: a difference of squares would be noise."""
    student = torch.full((1000, 2), 10.0, dtype=torch.float64) + logits(1000, 2).double() * 1e-3
    relations = Relations(2, activation="sigmoid")
    for part in student.split(10):
        relations.add(part)
    np.testing.assert_allclose(relations.student, np.corrcoef(student.sigmoid().numpy().T), atol=1e-8)


def test_intra_and_inter_are_the_terms_of_the_loss():
    student, teacher = logits(seed=1).double(), logits(seed=2).double()
    relations = Relations(4, 3.0)
    relations.add(student, teacher)
    loss = (2 - relations.inter.mean() - relations.intra.mean()) * 3.0**2
    assert float(DISTLoss(tau=3.0)(student, teacher)) == pytest.approx(loss, rel=1e-6)


def test_rising_linear_columns_keep_the_matrix():
    teacher = logits(200, 3).double()
    student = (teacher.sigmoid() * torch.tensor([0.5, 0.2, 0.9]) + 0.05).logit()
    relations = Relations(3, activation="sigmoid")
    relations.add(student, teacher)
    np.testing.assert_allclose(relations.intra, 1, atol=1e-12)
    np.testing.assert_allclose(relations.student, relations.teacher, atol=1e-12)


@pytest.mark.drawn
@pytest.mark.parametrize(("classes", "with_teacher"), [(3, False), (14, True)])
def test_picture(tmp_path, classes, with_teacher):
    relations = Relations(classes)
    student = logits(60, classes)
    student[:, 0] = -torch.inf  # never predicted: no correlation to draw
    relations.add(student, logits(60, classes, 1) if with_teacher else None)
    assert np.isnan(relations.student[0]).all()
    file = tmp_path / "new" / "relations.png"
    draw_relations(relations, [f"name {n}" for n in range(classes)], "pixels", file, with_teacher)
    assert file.stat().st_size > 10_000
