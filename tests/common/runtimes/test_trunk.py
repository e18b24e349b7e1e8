"""Which layers are quantized: all with weights but the last, and what lies between them."""

from densedist.common.runtimes.trunk import Layer, trunk


def layers(*rows):
    """(name, kind, names of its inputs); convolutions and Gemm have weights."""
    return [Layer(name, kind, inputs.split(), kind in ("Conv", "Gemm")) for name, kind, inputs in rows]


def test_what_normalizes_images_and_what_makes_logits_stays_in_float():
    found = trunk(
        layers(
            ("normalize", "Div", ""),
            ("first", "Conv", "normalize"),
            ("relu", "Relu", "first"),
            ("second", "Conv", "relu"),
            ("sum", "Add", "second relu"),
            ("head", "Conv", "sum"),
            ("logits", "Resize", "head"),
        )
    )
    assert found == {"first", "relu", "second", "sum"}


def test_boxes_stay_in_float_though_other_layers_look_at_what_lies_in_them():
    found = trunk(
        layers(
            ("backbone", "Conv", ""),
            ("rpn", "Conv", "backbone"),
            ("deltas", "Conv", "rpn"),
            ("boxes", "Add", "deltas"),
            ("chosen", "Gather", "boxes"),
            ("pooled", "RoiAlign", "backbone"),
            ("hidden", "Gemm", "pooled"),
            ("scores", "Gemm", "hidden"),
            ("probabilities", "Softmax", "scores"),
        )
    )
    assert found == {"backbone", "rpn", "pooled", "hidden"}


def test_a_product_of_two_maps_has_no_weights():
    rows = [Layer("q", "Conv", [], True), Layer("k", "Conv", [], True), Layer("qk", "MatMul", ["q", "k"], False)]
    assert trunk(rows) == set()
    assert trunk([*rows, Layer("out", "MatMul", ["qk"], True)]) == {"q", "k", "qk"}
