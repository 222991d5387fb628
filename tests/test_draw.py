"""Drawings: what a scene says, and what becomes of it in DOT and SVG.

Rendering starts a process, which takes much longer than drawing. So tests that read the
SVG parse it once, or render several drawings side by side.
"""

import functools
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import SVG, texts_of
from graphs import B, C, U, all_routes_vanish, centered, normalized

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn
from tinygrad_bn.draw.layout import PAGE
from tinygrad_bn.draw.scene import number, size_text

G = C.sum(axis=0)
GRID = np.array([[1.0, 2.0], [3.0, 4.0]])


def network(**settings):
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Linear(3, 4, rng=rng, dtype=float), nn.BatchNorm(4, dtype=float, **settings),
        nn.ReLU(), nn.Linear(4, 2, rng=rng, dtype=float),
    )  # fmt: skip
    y = model(Tensor(U, name="images"))
    return nn.cross_entropy(y, np.array([0, 1, 1, 0])).named("L"), model


def chain(n):
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    h = a
    for _ in range(n):
        h = h * 0.999
    return h.sum().named("L"), a


def scene_of(drawing):
    (scene,) = drawing.panels
    return scene


def boxes_of(drawing):
    """The boxes by their titles, or the operations where they have none."""
    scene = scene_of(drawing)
    boxes = {box.title or box.operation: box for box in scene.boxes}
    assert len(boxes) == len(scene.boxes)
    return boxes


def arrows_of(drawing):
    """``{(tail title, head title): streams by group}``."""
    scene = scene_of(drawing)
    titles = {box.key: box.title or box.operation for box in scene.boxes}
    return {
        (titles[a.tail], titles[a.head]): {s.group: s for s in a.streams}
        for a in scene.arrows
    }


def ledger_rows(box):
    return {
        row.group: None if row.entries is None else np.round(row.entries, 2).tolist()
        for row in box.ledger.rows
    }


def all_drawings(y, leaf, **settings):
    """What can be drawn of ``y``: its graph, the routes in it, and the routes alone."""
    settings["direction"] = "LR"
    graph, routes = tg.draw(y, **settings), tg.draw(y, leaf, **settings)
    return tg.side_by_side(graph, routes, tg.draw_routes(y, leaf))


def width_of(drawing):
    """The width of the picture in points."""
    return float(parsed(drawing).get("width").removesuffix("pt"))


def parsed(drawing):
    return ElementTree.fromstring(drawing.svg())


def tooltips_of(drawing):
    """The tooltips. Graphviz makes every second space of a run a no-break space."""
    titles = (t.text for t in parsed(drawing).iter(f"{SVG}title"))
    return [title.replace("\xa0", " ") for title in titles]


# --- The pictures' graphs as data -----------------------------------------------------


def test_the_centering_graph_has_the_boxes_of_the_picture():
    boxes = boxes_of(tg.draw(*centered()))
    assert {title: (b.kind, b.formula, b.note) for title, b in boxes.items()} == {
        "b": ("leaf", "", "(3,)"),
        "u": ("data", "", "(4, 3)"),
        "x": ("op", "u + b", "(4, 3)"),
        "E[x]": ("op", "mean(x)", "(1, 3)"),
        "x̂": ("op", "x − E[x]", "(4, 3)"),
        "L": ("output", "Σ x̂·c", "scalar"),
    }
    assert {t for t, b in boxes.items() if b.group} == {"E[x]"}
    assert boxes["L"].text == ["−5.5"]


def test_the_ledger_of_the_centering_graph_reads_as_in_the_picture():
    ledger = boxes_of(tg.draw(*centered()))["b"].ledger
    assert [(row.group, row.label, row.entries) for row in ledger.rows] == [
        ("direct", "direct", [0.75, 1.5, 1.25]),
        ("E[x]", "via E[x]", [-0.75, -1.5, -1.25]),
    ]
    assert (ledger.values, ledger.total.entries) == ([0.5, -1, 2], [0, 0, 0])
    assert (ledger.of, ledger.columns, ledger.total.norm) == ("∂L/∂b", [], None)
    assert ledger.remark == "the two routes cancel exactly"


def test_streams_carry_the_symbols_given_by_the_caller():
    drawing = tg.draw(*centered(), symbols={"c": C, "G": G})
    labels = {
        ends: {group: (s.amount, s.factor) for group, s in streams.items()}
        for ends, streams in arrows_of(drawing).items()
    }
    mean, factor = "E[x]", "× 1/4 to every row"
    assert labels["b", "x"] == {
        "direct": ("+G", "sum over batch"), mean: ("−G", "sum over batch"),
    }  # fmt: skip
    assert labels["x", "E[x]"] == {mean: ("−G/N", factor)}
    assert labels["E[x]", "x̂"] == {mean: ("−G", "× (−1), sum over batch")}
    assert labels["x", "x̂"] == {"direct": ("c", "× 1")}
    assert labels["x̂", "L"]["common"][0] == "c"
    assert labels["u", "x"] == {}


def test_without_symbols_streams_carry_numbers():
    arrows = arrows_of(tg.draw(*centered()))
    assert arrows["b", "x"]["direct"].amount == "+0.75  +1.50  +1.25"
    assert arrows["b", "x"]["E[x]"].amount == "−0.75  −1.50  −1.25"
    assert arrows["x", "x̂"]["direct"].amount == f"norm {np.linalg.norm(C):.2f}"


def test_a_drawing_does_not_depend_on_how_numpy_prints():
    usual = tg.draw(*normalized()).source
    with np.printoptions(
        suppress=True, linewidth=20, edgeitems=1, sign="+", floatmode="fixed"
    ):
        assert tg.draw(*normalized()).source == usual


def test_zero_has_no_sign():
    assert number(-0.0) == number(-0.0, sign=True) == "0"
    zero = Tensor(0.0, requires_grad=True, name="zero")
    assert boxes_of(tg.draw((zero * -1).named("L")))["L"].text == ["0"]


def test_tiles_show_values_gradients_and_sums_over_the_batch():
    value, gradient = boxes_of(tg.draw(*centered()))["x"].tiles
    np.testing.assert_array_equal(value.values, U + B)
    assert value.heading == "value" and value.sums is None
    np.testing.assert_allclose(gradient.values, C - C.mean(0), atol=1e-15)
    assert gradient.heading == "∂L/∂x"
    np.testing.assert_array_equal(gradient.sums, [0, 0, 0])
    assert not any(b.tiles for b in scene_of(tg.draw(*centered(), tiles=False)).boxes)


def test_stop_gradient_is_drawn_as_a_cut_stream():
    drawing = tg.draw(*centered(tg.stop_gradient))
    arrows = arrows_of(drawing)
    cuts = [(ends, g) for ends, ss in arrows.items() for g, s in ss.items() if s.cut]
    assert cuts == [(("E[x]", "x̂"), "E[x]")]
    ledger = boxes_of(drawing)["b"].ledger
    assert ledger_rows(boxes_of(drawing)["b"]) == {
        "direct": [0.75, 1.5, 1.25], "E[x]": None,
    }  # fmt: skip
    assert ledger.total.entries == [0.75, 1.5, 1.25]
    assert ledger.remark == "E[x] cut: nothing cancels"
    assert drawing.source.count("style=dotted") == 1


@pytest.mark.parametrize("normalize", [tg.batch_norm, tg.fused_batch_norm])
def test_the_ledger_of_batch_norm_reads_as_in_the_picture(normalize):
    boxes = boxes_of(tg.draw(*normalized(normalize)))
    assert ledger_rows(boxes["b"]) == {
        "direct": [0.4, 0.4, 1.58],
        "E[x]": [-0.4, -0.4, -1.58],
        "Var[x]": [0, 0, 0],
    }
    assert boxes["b"].ledger.total.entries == [0, 0, 0]
    assert boxes["b"].ledger.remark == "direct and E[x] cancel"
    np.testing.assert_allclose(boxes["β"].ledger.total.entries, G, rtol=1e-14)
    x_hat = (U - U.mean(0)) / np.sqrt(U.var(0) + 1e-5)
    d_gamma = boxes["γ"].ledger.total.entries
    np.testing.assert_allclose(d_gamma, (C * x_hat).sum(0), rtol=1e-12)
    assert boxes["γ"].ledger.rows == [] and boxes["γ"].ledger.values == [1, 0.5, 2]
    (frame,) = scene_of(tg.draw(*normalized(normalize))).top.frames
    assert frame.title == "batch_norm"


@pytest.mark.parametrize("cut_first", [True, False])
def test_a_ledger_row_is_cut_only_if_all_of_its_routes_are(cut_first):
    b = Tensor(B, requires_grad=True, name="b")
    whole, cut = (lambda: b * 2), (lambda: tg.stop_gradient(b) * 3)
    h = cut() + whole() if cut_first else whole() + cut()
    ledger = boxes_of(tg.draw(h.sum().named("L"), b))["b"].ledger
    assert [(row.group, row.entries) for row in ledger.rows] == [("direct", [2, 2, 2])]
    assert ledger.remark == "one route; nothing cancels it"


@pytest.mark.parametrize(
    ("constants", "rows", "total"),
    [
        (("mean",), ["direct", "Var[x]"], [0.4, 0.4, 1.58]),
        (("var",), ["direct", "E[x]"], [0, 0, 0]),
        (("mean", "var"), ["direct"], [0.4, 0.4, 1.58]),
    ],
)
def test_cut_statistics_have_a_ledger_row_without_numbers(constants, rows, total):
    box = boxes_of(tg.draw(*normalized(constants=constants)))["b"]
    found = ledger_rows(box)
    assert set(found) == {"direct", "E[x]", "Var[x]"}
    assert {group for group, entries in found.items() if entries is not None} == set(
        rows
    )
    assert np.abs(np.round(box.ledger.total.entries, 2)).tolist() == total


def test_a_gradient_whose_rows_sum_to_zero_is_dashed():
    drawing = tg.draw(*normalized())
    streams = arrows_of(drawing)["x", "x − E[x]"]
    assert streams["Var[x]"].cancels and not streams["direct"].cancels
    assert "style=dashed" in drawing.source
    legend = "".join(texts_of(drawing.svg())).replace("\xa0", " ")
    assert "sums to 0 over the batch" in legend
    alive = tg.draw(*centered())
    assert not any(s.cancels for a in scene_of(alive).arrows for s in a.streams)
    assert "style=dashed" not in alive.source


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_that_are_only_rounding_are_drawn_as_zero(dtype):
    net, loss = all_routes_vanish(dtype)
    drawing = tg.draw(loss, net[0].bias)
    boxes, arrows = boxes_of(drawing), arrows_of(drawing)
    assert ledger_rows(boxes["0.bias"]) == {
        "direct": [0, 0, 0], "1.E[x]": [0, 0, 0], "1.Var[x]": [0, 0, 0],
    }  # fmt: skip
    assert "cancel" not in boxes["0.bias"].ledger.remark
    assert boxes["β"].ledger.total.entries == [0, 0, 0]
    assert not boxes["E[x]"].tiles[1].values.any()
    assert not any({"E[x]", "β"} & {*ends} for ends in arrows if arrows[ends])
    assert arrows["0", "x − E[x]"].keys() == {"direct", "1.Var[x]"}
    assert all(s.cancels for s in arrows["0", "x − E[x]"].values())
    assert not [text for text in texts_of(drawing.svg()) if re.search("e[−-]", text)]
    bars = {(b.title, bar.name): bar for b in scene_of(tg.draw(loss)).boxes
            for bar in b.bars}  # fmt: skip
    for bias in (bars["0", "bias"], bars["1", "β"], bars["2", "bias"]):
        assert (bias.norm, bias.parts) == (0, [])
    assert bars["0", "weight"].norm > 1


def test_a_sum_is_compared_with_its_own_terms_entry_by_entry():
    b = Tensor([1e-6, 1.0, 1.0, 1.0], requires_grad=True, name="b")
    c = np.array([[1, 0.1, 1e6, np.inf], [-2, 0.2, 1e6, 1], [1 + 1e-6, -0.3, 1e6, 1]])
    assert c[:, 1].sum() != 0
    ledger = boxes_of(tg.draw(((np.zeros((3, 4)) + b) * c).sum(), b))["b"].ledger
    np.testing.assert_allclose(ledger.total.entries, [1e-6, 0, 3e6, np.inf], rtol=1e-9)


def test_a_product_of_a_tensor_with_itself_has_two_arrows():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    for drawing in (tg.draw((a * a).sum()), tg.draw((a * a).sum(), a)):
        ends = Counter((arrow.tail, arrow.head) for arrow in scene_of(drawing).arrows)
        assert ends[0, 1] == 2
    (box,) = [b for b in scene_of(tg.draw((a * a).sum(), a)).boxes if b.ledger]
    assert box.ledger.total.entries == [2, 4]


def test_a_factor_whose_inverse_overflows_can_be_drawn():
    b = Tensor(1.0, requires_grad=True, name="b")
    drawing = tg.draw((b * 1e-310).named("y"), b)
    assert "× 1e−310" in drawing.source


def test_an_arrow_out_of_an_earlier_batch_norm_carries_the_whole_gradient():
    # Two routes, through E[x] of the later batch norm and around it, meet there.
    rng = np.random.default_rng(0)
    b = Tensor(np.zeros(1), requires_grad=True, name="b")
    h = Tensor(rng.standard_normal((3, 1))) + b
    earlier = tg.batch_norm(h)
    loss = (tg.batch_norm(h * h + earlier) * rng.standard_normal((3, 1))).sum()
    gradient = np.array2string(tg.grad(loss, earlier).data, precision=4, separator=",")
    assert "direct: " + gradient.replace("\n", "&#10;") in tg.draw(loss, b).source


def test_only_a_small_number_added_to_a_variance_is_called_epsilon():
    x = Tensor(np.arange(4.0).reshape(2, 2), requires_grad=True, name="x")
    variance = (x**2).mean(0, keepdims=True).named("Var[x]")
    assert "Var[x] + ε" in tg.draw((variance + 1e-5).sum(), x).source
    assert "Var[x] + 1" in tg.draw((variance + 1.0).sum(), x).source


FORMULAS = {
    "a @ (b·c)": lambda a, b, c: a @ (b * c),
    "(a @ b)·c": lambda a, b, c: (a @ b) * c,
    "(a / b)·c": lambda a, b, c: (a / b) * c,
    "(1 / a)·b": lambda a, b, c: a**-1 * b,
    "a @ b @ c": lambda a, b, c: a @ b @ c,
    "a @ (b @ c)": lambda a, b, c: a @ (b @ c),
    "(a @ b)ᵀ": lambda a, b, c: (a @ b).T,
    "(a^b)^c": lambda a, b, c: (a**b) ** c,
    "a^(b·c)": lambda a, b, c: a ** (b * c),
    "(−a)²": lambda a, b, c: (-a) ** 2,
    "2 − a": lambda a, b, c: 2 - a,
    "a − 2": lambda a, b, c: a - 2,
    "1 / a": lambda a, b, c: 1 / a,
    "1 / (a + b)": lambda a, b, c: 1 / (a + b),
    "a·(1 / b + c)": lambda a, b, c: a * (1 / b + c),
    "a − (b − c)": lambda a, b, c: a - (b - c),
    "a / (b·c)": lambda a, b, c: a / (b * c),
    "a·(−b)": lambda a, b, c: a * -b,
    "(a + b)·c": lambda a, b, c: (a + b) * c,
    "(Σ a)·b": lambda a, b, c: a.sum() * b,
    "|a − b|": lambda a, b, c: abs(a - b),
    "√(a + b)": lambda a, b, c: tg.sqrt(a + b),
    "a[0]": lambda a, b, c: a[0],
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_have_the_parentheses_that_they_need(formula):
    a, b, c = (Tensor(GRID + i, requires_grad=True, name="abc"[i]) for i in range(3))
    y = FORMULAS[formula](a, b, c)
    drawing = tg.draw(y, a, gradient=np.ones(y.shape))
    (box,) = [b for b in scene_of(drawing).boxes if b.kind == "output"]
    assert box.title == formula


def test_unnamed_constants_of_different_values_have_different_names():
    b = Tensor([1.0, 2, 3], requires_grad=True, name="b")
    p, q = np.arange(12.0).reshape(4, 3), np.ones((4, 3))

    def formulas(function):
        boxes = scene_of(tg.draw(function(b).sum().named("L"), b)).boxes
        return [box.formula or box.title for box in boxes]

    assert formulas(lambda b: b * p) == ["b", "Σ b·c"]
    assert formulas(lambda b: b * p * p) == ["b", "Σ b·c·c"]
    assert formulas(lambda b: (b * p).named("h") * q * p) == ["b", "b·c₁", "Σ h·c₂·c₁"]
    shared = Tensor(q)
    assert formulas(lambda b: (b * p * shared).named("h") * shared) == [
        "b", "constant c₂", "b·c₁·c₂", "Σ h·c₂"
    ]  # fmt: skip


def test_batch_norm_written_by_hand_has_the_same_formulas():
    x = Tensor(GRID, requires_grad=True, name="x")
    x_c = x - x.mean(axis=0, keepdims=True).named("E[x]")
    var = (x_c**2).mean(axis=0, keepdims=True).named("Var[x]")
    y = ((x_c * (var + 1e-5) ** -0.5).named("x_hat") ** 3).sum()
    boxes = boxes_of(tg.draw(y, x))
    assert boxes["x̂"].formula == "(x − E[x]) / √(Var[x] + ε)"
    assert boxes["x̂"].formula == boxes_of(tg.draw(*normalized()))["x̂"].formula
    (box,) = scene_of(tg.draw(x + 1e-5, x, gradient=GRID)).boxes[1:]
    assert box.title == "x + 1e−5"


def test_a_number_before_an_operation_is_drawn_before_it():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    operations = {
        "sub(2, ·)": 2 - a,
        "sub 2": a - 2,
        "div(1, ·)": 1 / a,
        "mul 3": a * 3,
    }
    for operation, y in operations.items():
        (box,) = [b for b in scene_of(tg.draw(y)).boxes if b.kind == "output"]
        assert box.operation == operation


def test_values_and_gradients_of_a_row_are_at_the_same_height():
    heights = {}
    for text in parsed(tg.draw(*centered())).iter(f"{SVG}text"):
        heights.setdefault(text.text, set()).add(float(text.get("y")))
    assert heights["2.5"] == heights["1.12"] and len(heights["2.5"]) == 1


def test_numbers_fit_into_their_tiles():
    a = Tensor([[-1.234e-11, 1.0]], requires_grad=True, name="a")
    source = tg.draw((a * a).sum()).source
    (width, *_) = re.findall(
        r'WIDTH="(\d+)" HEIGHT="20"[^>]*><FONT[^>]*>−1.2e−11', source
    )
    assert int(width) > 50


# --- Networks -------------------------------------------------------------------------


def test_a_network_folds_by_module_with_a_bar_per_parameter():
    L, model = network()
    scene = scene_of(tg.draw(L))
    assert [(b.kind, b.title) for b in scene.boxes if not b.bars] == [
        ("data", "images"), ("op", "2"), ("output", "L"),
    ]  # fmt: skip
    bars = {b.title: {bar.name: bar for bar in b.bars} for b in scene.boxes if b.bars}
    assert {title: [*names] for title, names in bars.items()} == {
        "0": ["weight", "bias"], "1": ["γ", "β"], "3": ["weight", "bias"],
    }  # fmt: skip
    assert [b.note for b in scene.boxes if b.title == "1"] == ["BatchNorm 4"]
    gradient = tg.grad(L, model[0].weight).data
    assert bars["0"]["weight"].shape == "3×4"
    np.testing.assert_allclose(bars["0"]["weight"].norm, np.linalg.norm(gradient))
    assert bars["0"]["weight"].parts == []


def test_the_bar_of_a_bias_whose_routes_cancel_shows_the_parts():
    L, model = network()
    (box,) = [b for b in scene_of(tg.draw(L)).boxes if b.title == "0"]
    bias = box.bars[1]
    explanation = tg.explain(L, model[0].bias)
    size = np.linalg.norm(explanation[0].gradient)
    assert bias.norm == 0
    assert [group for group, _ in bias.parts] == ["direct", "1.E[x]"]
    np.testing.assert_allclose([s for _, s in bias.parts], [size, size], rtol=1e-12)
    texts = texts_of(tg.draw(L).svg())
    assert "◆" in texts and "0" in texts
    L, _ = network(constants=("mean",))
    assert not any(bar.parts for b in scene_of(tg.draw(L)).boxes for bar in b.bars)


def test_an_opened_module_is_drawn_from_the_inside_in_its_place():
    L, _ = network()
    drawing = tg.draw(L, open=("1",))
    boxes, arrows = boxes_of(drawing), arrows_of(drawing)
    assert boxes["E[x]"].formula == "mean(x)" and boxes["E[x]"].group == "1.E[x]"
    assert boxes["Var[x]"].group == "1.Var[x]"
    (frame,) = scene_of(drawing).top.frames
    assert (frame.title, frame.note) == ("1", "BatchNorm 4")
    inside = {scene_of(drawing).boxes[key].title for key in frame.boxes}
    assert {"E[x]", "Var[x]", "x̂", "γ", "β"} <= inside
    assert not {"0", "2", "3", "L"} & inside and {"0", "2", "3", "L"} <= boxes.keys()
    assert set(arrows["0", "E[x]"]) == {"1.E[x]"}
    assert set(arrows["E[x]", "x − E[x]"]) == {"1.E[x]"}
    assert set(arrows["0", "x − E[x]"]) == {"direct", "1.Var[x]"}


def test_a_long_caption_of_a_frame_has_two_lines():
    class Renamed(nn.BatchNorm):
        def caption(self):
            return "BatchNorm 4, weight = γ, bias = β"

    norm = nn.Sequential(Renamed(2, dtype=float))
    texts = texts_of(tg.draw((norm(GRID) ** 3).sum(), open="0").svg())
    assert {"\xa0\xa0BatchNorm 4", "weight = γ, bias = β"} <= set(texts)


def test_open_accepts_a_single_name_and_refuses_an_unknown_one():
    L, _ = network()
    assert tg.draw(L, open="1").source == tg.draw(L, open=("1",)).source
    with pytest.raises(ValueError) as error:
        tg.draw(L, open=("bn1",))
    assert str(error.value) == (
        "draw(open=): modules, composites or fused operations of the graph must be "
        "named, but ['bn1'] is not among ['0', '1', '2', '3', 'Sequential', "
        "'batch_norm', 'linear', 'log_softmax', 'mean', 'softmax_cross_entropy']."
    )


def test_a_fused_operation_opens_into_its_definition():
    L, _ = normalized(tg.fused_batch_norm)
    folded = [b.operation for b in scene_of(tg.draw(L)).boxes]
    opened = [b.operation for b in scene_of(tg.draw(L, open=("batch_norm",))).boxes]
    assert "batch_norm" in folded and "sub" not in folded
    assert {"sub", "sum_to", "power 2", "power −0.5"} & set(opened) >= {"sub"}
    assert "batch_norm" not in opened


def test_beyond_max_nodes_the_farthest_operations_fold_and_are_counted():
    L, _ = chain(100)
    scene = scene_of(tg.draw(L, max_nodes=10))
    assert len(scene.boxes) <= 10
    (rest,) = [b for b in scene.boxes if b.kind == "rest"]
    shown = sum(b.kind in ("op", "output") for b in scene.boxes)
    assert rest.note == f"{101 - shown} operations folded"
    assert [b.kind for b in scene_of(tg.draw(L, max_nodes=103)).boxes].count(
        "rest"
    ) == 0


def test_with_max_nodes_1_only_the_ledger_is_left():
    L, b = centered()
    scene = scene_of(tg.draw(L, b, max_nodes=1))
    (box,) = scene.boxes
    assert (box.title, scene.arrows) == ("b", [])
    assert [row.group for row in box.ledger.rows] == ["direct", "E[x]"]


def test_with_max_nodes_1_and_no_leaf_only_the_output_is_left():
    L, _ = centered()
    (box,) = scene_of(tg.draw(L, max_nodes=1)).boxes
    assert (box.kind, box.title, box.text) == ("output", "L", [number(L.item(), 3)])


def test_the_error_about_max_nodes_says_what_1_draws():
    L, b = centered()
    for leaf, alone in ((None, "y"), (b, "the leaf")):
        with pytest.raises(ValueError) as error:
            tg.draw(L, leaf, max_nodes=-3)
        assert str(error.value) == (
            "draw(max_nodes=): max_nodes must be a whole number of at least 1, but -3 "
            f"was received. 1 draws {alone} alone."
        )


@pytest.mark.parametrize("max_nodes", [2, 3])
def test_the_leaf_the_rest_and_the_output_are_drawn_even_if_these_are_too_many(
    max_nodes,
):
    L, a = chain(100)
    boxes = scene_of(tg.draw(L, a, max_nodes=max_nodes)).boxes
    assert [box.kind for box in boxes] == ["leaf", "rest", "output"]


@pytest.mark.parametrize("with_leaf", [False, True])
def test_a_chain_of_a_thousand_operations_is_drawn_folded(with_leaf):
    L, a = chain(1000)
    drawing = tg.draw(L, a if with_leaf else None)
    scene = scene_of(drawing)
    assert len(scene.boxes) <= 40
    assert any(re.fullmatch(r"\d{3} operations folded", b.note) for b in scene.boxes)
    assert parsed(drawing).tag == f"{SVG}svg"


def test_formulas_of_long_chains_stay_readable():
    L, a = chain(60)
    formulas = [b.title + b.formula for b in scene_of(tg.draw(L, a)).boxes]
    assert max(formula.count("(") for formula in formulas) <= 6


def test_the_graph_of_a_gradient_is_drawn_with_the_operations_of_batch_norm():
    L, b = normalized()
    drawing = tg.draw(tg.grad(L, b, create_graph=True), open=("batch_norm",))
    boxes = [box.operation for box in scene_of(drawing).boxes]
    words = {operation.split()[0] for operation in boxes if operation}
    letters = {"add", "sub", "mul", "power", "sum_to", "broadcast_to", "mean"}
    assert words and words <= letters
    assert parsed(drawing).tag == f"{SVG}svg"


def test_a_primitive_has_the_same_color_forward_and_in_the_gradient():
    L, b = normalized()
    colors = {}
    for y in (L, tg.grad(L, b, create_graph=True)):
        source = tg.draw(y, open=("batch_norm",)).source
        for badge in re.findall(
            r'BGCOLOR="(#\w{6})"><TR><TD[^>]*>(<FONT.*?</FONT>)', source
        ):
            color, text = badge
            word = re.sub(r"<[^>]*>|\xa0", "", text).split()
            if word and word[0] in ("mul", "sum_to", "power"):
                colors.setdefault(word[0], []).append(color)
    assert colors.keys() == {"mul", "sum_to", "power"}
    for found in colors.values():
        assert len(found) > 1 and len(set(found)) == 1


# --- Chains ---------------------------------------------------------------------------


def test_routes_are_drawn_as_chains_with_their_gradients_and_a_total():
    (box,) = scene_of(tg.draw_routes(*normalized())).boxes
    sheet = box.sheet
    rows = [chain.row for chain in sheet.chains]
    assert [(row.label, np.round(row.entries, 2).tolist()) for row in rows] == [
        ("direct", [0.4, 0.4, 1.58]),
        ("via E[x]", [-0.4, -0.4, -1.58]),
        ("via Var[x]", [0, 0, 0]),
        ("via Var[x], then E[x]", [0, 0, 0]),
    ]
    assert (sheet.total.label, sheet.total.entries) == ("∂L/∂b", [0, 0, 0])
    titles = [[link.title for link in chain.links] for chain in sheet.chains]
    assert all(t[0] == "L" and t[-1] == "b" for t in titles)
    assert "E[x]" in titles[1] and "Var[x]" not in titles[1]
    assert titles[3].index("Var[x]") < titles[3].index("E[x]")


def test_arrows_out_of_a_folded_module_say_what_multiplies_the_gradient_inside():
    L, model = network()
    (box,) = scene_of(tg.draw_routes(L, model[0].bias)).boxes
    via_mean = {link.title: link.factor for link in box.sheet.chains[1].links}
    assert via_mean["E[x]"] == "× (−1), sum over batch"
    assert via_mean["0"] == "× 1/4 to every row"
    assert via_mean["0.bias"] == "sum over batch"
    arrows = arrows_of(tg.draw(L, model[0].bias))
    assert arrows["0.bias", "0"]["direct"].factor == "sum over batch"
    assert arrows["2", "3"]["common"].factor == "@ weightᵀ"
    assert arrows["x̂·γ + β", "2"]["common"].factor == "× 1 where > 0"


def test_several_paths_inside_a_folded_module_have_no_common_factor():
    class Twice(nn.Module):
        def forward(self, x):
            h = tg.relu(x)
            return h * 2 + h

    b = Tensor(np.ones(3), requires_grad=True, name="b")
    loss = (Twice()(b * 3) ** 2).sum().named("loss")
    (box,) = scene_of(tg.draw_routes(loss, b)).boxes
    (chain,) = box.sheet.chains
    assert [link.factor for link in chain.links] == [
        "", "to every entry, × 2·…", "…", "× 3",
    ]  # fmt: skip
    arrows = arrows_of(tg.draw(loss, b))
    assert [s.factor for streams in arrows.values() for s in streams.values()] == [
        "× 3", "", "to every entry, × 2·…",
    ]  # fmt: skip


# --- Any tensor can be drawn ----------------------------------------------------------


def odd_graphs():
    wild = Tensor([np.nan, np.inf, -np.inf, 1.0], requires_grad=True, name="wild")
    empty = Tensor(np.zeros((0, 3)), requires_grad=True, name="empty")
    scalar = Tensor(3.0, requires_grad=True, name="scalar")
    cube = Tensor(np.ones((2, 3, 4)), requires_grad=True, name="cube")
    single = Tensor(np.float32([1, 2]), requires_grad=True, name="single")
    half = Tensor(np.float16([1, 2]), requires_grad=True, name="half")
    mask, index = Tensor([True, False], name="mask"), Tensor([1, 2], name="index")
    large = Tensor(np.ones((9, 9), bool), name="large mask")
    pair = Tensor([1.0, 2.0], requires_grad=True, name="pair")
    square = Tensor(np.ones((9, 9)), requires_grad=True, name="square")
    unnamed = Tensor([1.0], requires_grad=True)
    huge = Tensor([1e300, 1e-300], requires_grad=True, name="huge")
    return {
        "nan and inf": ((wild * wild).sum(), wild),
        "empty": ((empty * empty).sum(), empty),
        "0-d": (scalar * scalar, scalar),
        "3-d": ((cube * cube).sum(), cube),
        "float32": ((single * single).sum(), single),
        "float16": ((half * half).sum(), half),
        "bool": (tg.where(mask, pair, 0).sum(), pair),
        "bool, large": (tg.where(large, square, 0).sum(), square),
        "int": ((pair * index).sum(), pair),
        "huge": ((huge * 2).sum(), huge),
        "unnamed": ((unnamed * unnamed).sum(), unnamed),
    }


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_any_tensor_can_be_drawn():
    drawings = [
        all_drawings(y, leaf, title=name) for name, (y, leaf) in odd_graphs().items()
    ]
    for drawing in drawings:
        # Graphviz aborts the whole process on a width that is no number.
        assert not re.search(r"(penwidth|WIDTH)=\W?(nan|inf|-)", drawing.source)
    assert {*odd_graphs()} <= {*texts_of(tg.side_by_side(*drawings).svg())}


def test_not_a_number_and_infinities_are_written_out():
    leaf = Tensor([np.nan, np.inf, -np.inf, 1.5], requires_grad=True, name="a")
    (box, *_) = scene_of(tg.draw((leaf * 2).sum())).boxes
    assert box.title == "a"
    drawing = tg.draw((leaf * 2).sum())
    assert {"NaN", "∞", "−∞", "1.5"} <= set(
        re.findall(r">([^<>]+)</FONT>", drawing.source)
    )


def test_a_tensor_that_is_not_a_scalar_is_drawn_without_gradients():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    assert not any(arrow.streams for arrow in scene_of(tg.draw(a * a)).arrows)
    drawn = tg.draw(a * a, a, gradient=[5, 7])
    assert boxes_of(drawn)["a"].ledger.total.entries == [10, 28]
    with pytest.raises(ValueError, match="a backward pass starts from one number"):
        tg.draw(a * a, a)


# --- Hostile names --------------------------------------------------------------------

HOSTILE = [
    '"]; <script>&', r"\N", r"\G\l", r"\E", r"\L\T\H", "\\", r"a\\nb", "<B>", "]]>",
    "&amp;", "&#65;", "{a|b}", "%n", "'", '"', "-->", "名前 ξ é 🎉", "x" * 300, ".",
]  # fmt: skip
REPLACED = {
    "nul\x00x": "nul\ufffdx", "lone\ud800x": "lone\ufffdx", "end\uffff": "end\ufffd",
    "esc\x1b": "esc\ufffd",
}  # fmt: skip


def named_graph(name):
    a = Tensor([1.0, 2.0], requires_grad=True, name=name)
    gate = (a * a).named(name + "2")
    return (gate.sum() + a.sum()).named("L"), a


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HOSTILE, *REPLACED])
def test_a_hostile_name_is_drawn_character_by_character_and_has_no_effect(name):
    shown = REPLACED.get(name, name)
    L, a = named_graph(name)
    for drawing in (tg.draw(L, title=name), tg.draw(L, a, title=name)):
        texts = texts_of(drawing.svg())
        # In the title and as the name of a box. Formulas contain more than the name.
        assert texts.count(shown) >= 2
        assert any(t.startswith(shown + "2") for t in texts)
        root = parsed(drawing)
        assert not list(root.iter(f"{SVG}script"))
    panels = [tg.draw(L, title=f"{name}{i}") for i in range(2)]
    texts = texts_of(tg.side_by_side(*panels, title=name).svg())
    assert {shown, f"{shown}0", f"{shown}1"} <= set(texts)


def test_hostile_names_are_shown_in_tooltips_character_by_character():
    names = [*HOSTILE, *REPLACED]
    tooltips = tooltips_of(tg.side_by_side(*(tg.draw(*named_graph(n)) for n in names)))
    for name in names:
        assert f"{REPLACED.get(name, name)}2: [1., 2.]" in tooltips


@pytest.mark.parametrize("with_leaf", [False, True])
def test_a_name_of_several_lines_is_drawn_in_several_lines(with_leaf):
    graphs = [named_graph(f"two{end}lines") for end in ("\n", "\r\n", "\r")]
    drawings = [tg.draw(L, a if with_leaf else None) for L, a in graphs]
    texts = texts_of(tg.side_by_side(*drawings).svg())
    # Each graph has two such names, and only one of them ends here.
    assert texts.count("two") == 6 and texts.count("lines") >= 3


def test_blank_names_and_titles_can_be_drawn():
    names = ["", " ", "\t", "\n", " \t\n", "  a", "a\tb"]
    drawings = [all_drawings(*named_graph(name), title=name) for name in names]
    texts = texts_of(tg.side_by_side(*drawings).svg())
    assert "".join(texts).count("∂L/∂") >= len(names)


def test_a_title_can_have_several_lines():
    texts = texts_of(tg.draw(*centered(), title="first\nsecond\nthird").svg())
    first = texts.index("first")
    assert texts[first : first + 3] == ["first", "second", "third"]


# --- DOT and SVG ----------------------------------------------------------------------

SAME = """
import sys; sys.path.insert(0, "tests")
import graphs, test_draw, tinygrad_bn as tg
L, model = test_draw.network()
print(tg.draw(*graphs.normalized()).source)
print(tg.draw(L, open=("1",)).source)
print(tg.draw_routes(*graphs.centered()).source)
"""


@pytest.mark.slow
def test_dot_text_is_the_same_in_every_process():
    def text(seed):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        words = [sys.executable, "-c", SAME]
        root = Path(__file__).parents[1]
        return subprocess.run(
            words, env=environment, cwd=root, capture_output=True, check=True
        ).stdout

    first = text("1")
    assert len(first) > 1000 and first == text("2")


def test_dot_text_and_svg_are_the_same_for_the_same_graph_built_twice():
    def build():
        return tg.draw(*normalized(tg.fused_batch_norm), symbols={"c": C}, title="t")

    assert build().source == build().source
    assert build().source == build().dot.source
    assert build().svg() == build().svg()


KINDS = {
    "values": lambda: tg.draw(normalized()[0]),
    "routes": lambda: tg.draw(*normalized(), title="t"),
    "network": lambda: tg.draw(network()[0], open=("1",)),
    "chains": lambda: tg.draw_routes(*normalized()),
    "panels": lambda: tg.side_by_side(
        tg.draw(*centered()), tg.draw(*centered(tg.stop_gradient)), title="both"
    ),
    "dark": lambda: tg.draw(*centered(), theme="dark", direction="TB"),
    "auto": lambda: tg.draw(*centered(), theme="auto"),
}


@functools.cache
def rendered(which):
    drawing = KINDS[which]()
    return drawing, drawing.svg()


@pytest.mark.parametrize("which", KINDS)
def test_an_svg_has_no_ids_that_could_clash_and_no_links(which):
    _, text = rendered(which)
    assert 'id="' not in re.sub(r'data-\w+="[^"]*"', "", text)
    assert "<!DOCTYPE" not in text and "href" not in text and "<script" not in text
    assert "<image" not in text and "url(" not in text
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "://" not in without_namespaces


def marked(root, *names, without=()):
    """The attributes ``names`` of the elements with them and none of ``without``."""
    return [
        tuple(element.get(f"data-{name}") for name in names)
        for element in root.iter()
        if all(element.get(f"data-{name}") is not None for name in names)
        and all(element.get(f"data-{name}") is None for name in without)
    ]


@pytest.mark.parametrize("which", KINDS)
def test_every_box_arrow_and_stream_of_a_scene_can_be_addressed(which):
    drawing, text = rendered(which)
    boxes, arrows, streams = [], [], []
    for i, scene in enumerate(drawing.panels):
        boxes += [(str(i), str(box.key)) for box in scene.boxes]
        for k, arrow in enumerate(scene.arrows):
            ends = (str(i), str(k), str(arrow.tail), str(arrow.head))
            arrows.append(ends)
            streams += [(*ends, stream.group) for stream in arrow.streams]
    ends = ("panel", "arrow", "tail", "head")
    root = ElementTree.fromstring(text)
    assert sorted(marked(root, "panel", "box", without=["row"])) == sorted(boxes)
    assert sorted(marked(root, *ends, without=["stream"])) == sorted(arrows)
    assert sorted(marked(root, *ends, "group")) == sorted(streams)


def values_at(root, **where):
    """The texts of the values at a place, by row and column."""
    found = {}
    for element in root.iter():
        data = {k[5:]: v for k, v in element.attrib.items() if k.startswith("data-")}
        if "row" in data and where.items() <= data.items():
            (text,) = element.iter(f"{SVG}text")
            found[int(data["row"]), int(data["col"])] = text.text
    return found


def test_every_tile_can_be_addressed_by_its_row_and_column():
    drawing = tg.draw(*centered())
    box, root = boxes_of(drawing)["x"], parsed(drawing)
    values, gradients = box.tiles
    for k, shown in enumerate([values.values, gradients.values]):
        texts = values_at(root, box=str(box.key), tiles=str(k))
        for (i, j), value in np.ndenumerate(shown):
            assert texts.pop((i, j)) == number(value)
        assert texts == ({(4, j): "0" for j in range(3)} if k else {})


def test_every_entry_of_a_ledger_can_be_addressed_by_its_line_and_group():
    root = parsed(tg.draw(*centered()))
    assert values_at(root, box="0") == {
        (0, 0): "0.5", (0, 1): "−1", (0, 2): "2",
        (1, 0): "+0.75", (1, 1): "+1.50", (1, 2): "+1.25",
        (2, 0): "−0.75", (2, 1): "−1.50", (2, 2): "−1.25",
        (3, 0): "0", (3, 1): "0", (3, 2): "0",
    }  # fmt: skip
    assert {row for row, _ in values_at(root, group="direct")} == {1}
    assert {row for row, _ in values_at(root, group="E[x]")} == {2}


def test_every_entry_of_a_sheet_can_be_addressed_by_its_line_and_group():
    root = parsed(tg.draw_routes(*centered()))
    assert values_at(root, box="0") == {
        (1, 0): "+0.75", (1, 1): "+1.50", (1, 2): "+1.25",
        (2, 0): "−0.75", (2, 1): "−1.50", (2, 2): "−1.25",
        (3, 0): "0", (3, 1): "0", (3, 2): "0",
    }  # fmt: skip
    assert {row for row, _ in values_at(root, group="direct")} == {1}
    assert {row for row, _ in values_at(root, group="E[x]")} == {2}


def test_every_norm_of_a_folded_module_can_be_addressed_by_its_row():
    drawing = tg.draw(network()[0])
    root = parsed(drawing)
    bars = {str(box.key): box.bars for box in drawing.panels[0].boxes if box.bars}
    assert bars
    for key, shown in bars.items():
        norms = {
            (i, 0): size_text(b.norm) if b.norm else "0" for i, b in enumerate(shown)
        }
        assert values_at(root, box=key) == norms


def test_values_of_panels_belong_to_their_panel():
    panels = [tg.draw(*centered()), tg.draw(*centered(tg.stop_gradient))]
    root = parsed(tg.side_by_side(*panels))
    total = {i: values_at(root, panel=str(i), box="0")[3, 0] for i in range(2)}
    assert total == {0: "0", 1: "+0.75"}


def test_boxes_and_arrows_say_what_they_compute():
    drawing = tg.draw(*centered(), symbols={"c": C})
    rules = [rule for (rule,) in marked(parsed(drawing), "rule")]
    assert "E[x] = mean(x)  (1, 3)" in rules
    assert "data from x to E[x]" in rules
    assert "gradient from x̂ to x: c, × 1" in rules
    cut = marked(parsed(tg.draw(*centered(tg.stop_gradient))), "rule")
    assert ("gradient from x̂ to E[x]: cut",) in cut


def test_tooltips_of_boxes_and_streams_show_values():
    titles = tooltips_of(tg.draw(*centered()))
    assert "[ 0.5, -1. ,  2. ]" in titles
    assert "direct: [0.75, 1.5 , 1.25]" in titles
    assert "E[x]: [-0.75, -1.5 , -1.25]" in titles
    assert not any(re.fullmatch(r"n\d+|n\d+->n\d+", t) for t in titles)


def test_every_text_of_the_legend_belongs_to_something_that_is_drawn():
    def legend(drawing):
        texts = "".join(texts_of(drawing.svg()))
        signs = "cut by stop_gradient", "trainable", "through E[x]", "through Var[x]"
        return [sign for sign in signs if sign in texts]

    assert legend(tg.draw(*centered())) == ["trainable", "through E[x]"]
    assert legend(tg.draw(*centered(tg.stop_gradient))) == [
        "cut by stop_gradient", "trainable", "through E[x]",
    ]  # fmt: skip
    assert legend(tg.draw(*normalized())) == [
        "trainable", "through E[x]", "through Var[x]",
    ]  # fmt: skip
    assert legend(tg.draw(*centered(), gates=())) == ["trainable"]


def test_the_arrows_of_the_legend_point_as_in_the_picture():
    assert {"◄▬", "▬►"}.intersection(texts_of(tg.draw(*centered()).svg())) == {"◄▬"}
    texts = texts_of(tg.draw_routes(*centered()).svg())
    assert {"◄▬", "▬►"}.intersection(texts) == {"▬►"}


def test_the_legend_is_below_the_picture_and_the_title_above():
    drawing = tg.draw(*centered(), title="a title")
    y = {t.text: float(t.get("y")) for t in parsed(drawing).iter(f"{SVG}text")}
    boxes = [y["b"], y["u"], y["−5.5"]]
    assert y["a title"] < min(boxes) and max(boxes) < y["\xa0trainable" + 5 * "\xa0"]


def test_themes_differ_in_colors_only():
    light, dark = (tg.draw(*centered(), theme=t).source for t in ("light", "dark"))
    assert 'bgcolor="#ffffff"' in light and 'bgcolor="#ffffff"' not in dark
    assert light != dark
    colorless = [re.sub(r"#[0-9a-f]{6}", "#", text) for text in (light, dark)]
    assert colorless[0] == colorless[1]


def places_of(drawing, names):
    """Where these texts are in the picture: ``{text: (y, x)}``."""
    texts = parsed(drawing).iter(f"{SVG}text")
    where = {t.text: (float(t.get("y")), float(t.get("x"))) for t in texts}
    return {name: where[name] for name in names}


@pytest.mark.parametrize("title", [None, "a title"])
@pytest.mark.parametrize("direction", ["TB", "LR", "RL", "BT"])
def test_panels_are_in_the_given_order_row_by_row(direction, title):
    names = ["zebra", "apple", "mango"]
    drawings = [tg.draw(*centered(), title=n, direction=direction) for n in names]
    for order in ([0, 1, 2], [2, 0, 1]):
        both = tg.side_by_side(*(drawings[i] for i in order), title=title)
        where = places_of(both, names)
        assert sorted(where, key=where.get) == [names[i] for i in order]


@pytest.mark.parametrize("title", [None, "a title"])
def test_panels_one_below_the_other_fit_a_page_if_each_does(title):
    panels = []
    for constants in ((), ("mean",)):
        L, model = network(constants=constants)
        panels.append(tg.draw(L, model[0].bias))
    both = tg.side_by_side(*panels, title=title)
    assert all(PAGE / 2 < width_of(drawing) <= PAGE for drawing in panels)
    assert width_of(both) <= 1.04 * PAGE


@pytest.mark.parametrize("max_nodes", [1, 40])
def test_panels_that_are_too_wide_for_a_page_are_broken_into_rows(max_nodes):
    names = ["zebra", "apple", "mango", "lemon"]
    panels = [
        tg.draw(*centered(), title=n, max_nodes=max_nodes, tiles=False) for n in names
    ]
    drawing = tg.side_by_side(*panels)
    y = [where[0] for where in places_of(drawing, names).values()]
    assert y[0] == y[1] < y[2] == y[3]
    assert width_of(drawing) <= 1.04 * PAGE
    y = [
        where[0]
        for where in places_of(tg.side_by_side(*panels[:2]), names[:2]).values()
    ]
    assert y[0] == y[1]


def test_one_svg_serves_both_themes():
    light, dark, auto = (
        tg.draw(*centered(), theme=theme) for theme in ("light", "dark", "auto")
    )
    assert auto.source == light.source
    style = re.search("<style>(.*?)</style>", auto.svg(), re.DOTALL).group(1)
    for drawing, css in zip(
        (light, dark), style.split("@media (prefers-color"), strict=True
    ):
        colors = dict(re.findall(r"(--tg-[\w-]+): (#\w+);", css))
        text = re.sub(r"var\((.*?)\)", lambda m: colors[m[1]], auto.svg())  # noqa: B023
        assert text.replace(f"<style>{style}</style>", "", 1) == drawing.svg()


def test_panels_take_the_theme_of_the_whole_and_keep_their_data():
    light, dark = tg.draw(*centered()), tg.draw(*centered(), theme="dark")
    both = tg.side_by_side(light, dark, title="both")
    assert both.theme == "light" and 'bgcolor="#0f151c"' not in both.source
    assert tg.side_by_side(light, light, theme="dark").source == (
        tg.side_by_side(dark, dark).source
    )
    assert both.panels == [*light.panels, *dark.panels]
    assert light.source == tg.draw(*centered()).source


def test_panels_of_panels_are_panels():
    one = tg.draw(*centered(), title="one")
    nested = tg.side_by_side(tg.side_by_side(one, one), one)
    assert len(nested.panels) == 3


# --- Errors, and no side effects ------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"theme": "blue"},
            "theme must be one of ['auto', 'dark', 'light'], but 'blue' was",
        ),
        (
            {"direction": "up"},
            "direction must be LR, TB, RL or BT, but 'up' was received",
        ),
        (
            {"depth": -1},
            "depth must be a whole number of at least 0, but -1 was received. 1",
        ),
        (
            {"max_nodes": 0},
            "max_nodes must be a whole number of at least 1, but 0 was received. 1",
        ),
        ({"max_nodes": "a"}, "at least 1, but 'a' was received"),
        ({"max_nodes": 2.5}, "at least 1, but 2.5 was received"),
        ({"gates": ["E[y]"]}, "The names are 'E[x]', 'x', 'x_hat'"),
        (
            {"gradient": [1, 2]},
            "gradient must have the shape of the tensor it arrives at",
        ),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tg.draw(*centered(), **settings)


def test_panels_need_drawings_of_one_direction():
    with pytest.raises(ValueError, match=r"0 with directions \[\] were received"):
        tg.side_by_side()
    across, down = (tg.draw(*centered(), direction=d) for d in ("LR", "TB"))
    with pytest.raises(ValueError, match="2 with directions"):
        tg.side_by_side(across, down)
    with pytest.raises(TypeError) as error:
        tg.side_by_side(across, "down", None)
    assert str(error.value) == (
        "side_by_side: drawings must be given, such as tg.draw(...) returns, but "
        "Drawing, str, NoneType were received."
    )


def test_an_unrecorded_tensor_and_a_number_are_refused():
    with tg.no_grad():
        L, b = centered()
    for draw in (tg.draw, tg.draw_routes):
        with pytest.raises(ValueError, match="nothing was recorded for 'L'"):
            draw(L, b)
    with pytest.raises(TypeError, match="draw: the output must be a tensor, but 3 was"):
        tg.draw(3)


@pytest.mark.parametrize("leaf", [Tensor([1.0], name="data"), 3])
def test_a_leaf_without_gradient_is_refused(leaf):
    L, _ = centered()
    for draw in (tg.draw, tg.draw_routes):
        with pytest.raises(
            ValueError, match="must be a tensor that requires a gradient"
        ):
            draw(L, leaf)


def test_a_leaf_that_changed_after_it_was_used_is_refused():
    L, b = centered()
    b[0] = 5.0
    for draw in (
        lambda: tg.draw(L),
        lambda: tg.draw(L, b),
        lambda: tg.draw_routes(L, b),
    ):
        with pytest.raises(RuntimeError, match=r"'b'\(3,\) was changed after"):
            draw()


@pytest.mark.parametrize("fused", [True, False])
def test_drawing_changes_nothing_in_the_model(fused):
    L, model = network(fused=fused)
    L.backward()
    state = model.state_dict()
    parameters = model.parameters()
    grads, names = [p.grad.copy() for p in parameters], [p.name for p in parameters]
    with tg.no_grad():
        for drawing in (
            tg.draw(L), tg.draw(L, open=("1",)), tg.draw(L, parameters[1]),
            tg.draw_routes(L, parameters[1]),
        ):  # fmt: skip
            assert drawing.source
    after = model.state_dict()
    for name, value in state.items():
        np.testing.assert_array_equal(after[name], value)
    for p, grad, name in zip(parameters, grads, names):
        np.testing.assert_array_equal(p.grad, grad)
        assert p.name == name
    assert model.training
