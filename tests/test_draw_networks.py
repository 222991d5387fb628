"""Drawings of networks: what is folded, what stays, and what the arrows claim."""

import functools
import re

import numpy as np
import pytest
from conftest import SVG, random_leaf, texts_of
from test_draw import all_drawings, arrows_of, boxes_of, parsed, scene_of, width_of

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn
from tinygrad_bn.draw import FEW_BOXES
from tinygrad_bn.draw.layout import PAGE
from tinygrad_bn.draw.scene import values_text
from tinygrad_bn.tape import Primitive

STATISTICS = {"E[x]", "Var[x]"}


def linear(rng, fan_in, fan_out):
    return nn.Linear(fan_in, fan_out, rng=rng, dtype=float)


def perceptron(norms, width=8, dtype=float):
    rng = np.random.default_rng(norms)
    layers, fan_in = [], 3
    for _ in range(norms):
        layers += [
            nn.Linear(fan_in, width, rng=rng, dtype=dtype),
            nn.BatchNorm(width, dtype=dtype),
            nn.ReLU(),
        ]
        fan_in = width
    return nn.Sequential(*layers, nn.Linear(fan_in, 4, rng=rng, dtype=dtype))


class Block(nn.Module):
    """A residual block: ``x + relu(bn(lin(x)))``."""

    def __init__(self, rng, width):
        self.lin = linear(rng, width, width)
        self.bn, self.act = nn.BatchNorm(width, dtype=float), nn.ReLU()

    def forward(self, x):
        return x + self.act(self.bn(self.lin(x)))


class Repeated(nn.Module):
    """A cell that is called three times."""

    def __init__(self, rng, width):
        self.inp, self.out = linear(rng, 3, width), linear(rng, width, 4)
        self.cell, self.bn = (
            linear(rng, width, width),
            nn.BatchNorm(width, dtype=float),
        )

    def forward(self, x):
        h = self.inp(x)
        for _ in range(3):
            h = tg.relu(self.bn(self.cell(h)))
        return self.out(h)


class WeightNorm(nn.Module):
    def __init__(self, rng):
        self.v = Tensor(rng.standard_normal((3, 8)), requires_grad=True)
        self.g = Tensor(np.ones(8), requires_grad=True)

    def forward(self, x):
        norm = (self.v**2).sum(axis=0, keepdims=True) ** 0.5
        return x @ (self.v / norm).named("w") * self.g


class Channels(nn.Module):
    """A bias per channel of images (N, C, H, W), in front of batch norm."""

    def __init__(self):
        self.b = Tensor(np.zeros((3, 1, 1)), requires_grad=True)
        self.bn = nn.BatchNorm(3, axes=(0, 2, 3), dtype=float)

    def forward(self, x):
        return self.bn(x + self.b)


def residual():
    rng = np.random.default_rng(0)
    blocks = [Block(rng, 8) for _ in range(3)]
    return nn.Sequential(linear(rng, 3, 8), *blocks, linear(rng, 8, 4))


def loss_of(model, images=None):
    rng = np.random.default_rng(1)
    if images is None:
        images = Tensor(rng.standard_normal((16, 3)), name="images")
    return nn.cross_entropy(model(images), rng.integers(0, 4, 16)).named("loss")


@functools.cache
def questions():
    """Networks, and for each of them the parameter whose gradient is explained."""
    rng = np.random.default_rng(2)
    mlps = {f"{n} batch norms": (perceptron(n), "0.bias") for n in (1, 5, 20)}
    weight_norm = nn.Sequential(
        WeightNorm(rng), nn.BatchNorm(8, dtype=float), nn.ReLU(), linear(rng, 8, 4)
    )
    return mlps | {
        "in the middle": (perceptron(20), "30.bias"),
        "in a residual block": (residual(), "1.lin.bias"),
        "before residual blocks": (residual(), "0.bias"),
        "a shared cell": (Repeated(rng, 8), "cell.bias"),
        "weight norm": (weight_norm, "0.v"),
    }


def asked(which):
    model, name = questions()[which]
    return loss_of(model), dict(model.named_parameters())[name]


@pytest.mark.slow
@pytest.mark.parametrize("which", questions())
def test_a_leaf_of_any_network_is_explained_in_a_picture_that_fits_a_page(which):
    loss, leaf = asked(which)
    drawing = tg.draw(loss, leaf)
    assert len(scene_of(drawing).boxes) <= FEW_BOXES
    assert width_of(drawing) <= PAGE
    (ledger,) = [b.ledger for b in scene_of(drawing).boxes if b.ledger]
    rows = [row for row in ledger.rows if row.entries is not None]
    sums = np.sum([row.entries for row in rows], axis=0)
    np.testing.assert_allclose(sums, ledger.total.entries, atol=1e-12)
    d = tg.grad(loss, leaf).data
    np.testing.assert_allclose(ledger.total.norm, np.linalg.norm(d), atol=1e-12)


@pytest.mark.parametrize("norms", [1, 5, 20])
def test_a_bias_under_any_number_of_batch_norms_has_the_same_picture(norms):
    loss, leaf = asked(f"{norms} batch norms")
    boxes = boxes_of(tg.draw(loss, leaf))
    assert {"images", "0", "0.bias", "x − E[x]", "x̂", "loss"} | STATISTICS <= set(boxes)
    ledger = boxes["0.bias"].ledger
    assert [row.group for row in ledger.rows] == ["direct", "1.E[x]", "1.Var[x]"]
    assert not any(ledger.total.entries) and ledger.total.norm == 0
    assert ledger.remark == "direct and 1.E[x] cancel"
    if norms > 1:
        (rest,) = [box for box in boxes.values() if box.kind == "rest"]
        assert (rest.title, rest.note) == (
            f"2 … {3 * norms}", f"{3 * norms - 1} modules folded",
        )  # fmt: skip


def test_what_comes_before_the_leaf_and_what_comes_after_it_fold_separately():
    loss, leaf = asked("in the middle")
    rests = [b.title for b in scene_of(tg.draw(loss, leaf)).boxes if b.kind == "rest"]
    assert rests == ["0 … 29", "32 … 60"]


def test_a_large_leaf_shows_its_largest_entries_with_signs_and_the_norm():
    loss, leaf = asked("5 batch norms")
    ledger = boxes_of(tg.draw(loss, leaf))["0.bias"].ledger
    direct, through_mean, _ = ledger.rows
    explanation = tg.explain(loss, leaf)
    indices = explanation.columns()
    assert ledger.columns == [f"[{i}]" for (i,) in indices]
    assert direct.entries == [explanation[0].gradient[i] for i in indices]
    opposite = [-v for v in direct.entries]
    np.testing.assert_allclose(through_mean.entries, opposite, rtol=1e-9)
    np.testing.assert_allclose(direct.norm, np.linalg.norm(explanation[0].gradient))


def test_weight_norm_is_drawn_with_its_formula():
    boxes = boxes_of(tg.draw(*asked("weight norm")))
    assert boxes["w"].formula == "v / √(Σ v²)"
    assert boxes["x"].formula == "(images @ w)·g"


def test_a_module_that_is_called_again_shows_its_parameters_once():
    scene = scene_of(tg.draw(*asked("a shared cell")))
    notes = [(b.title, b.note, bool(b.bars)) for b in scene.boxes]
    assert notes.count(("bn", "BatchNorm 8", True)) == 1
    assert notes.count(("bn", "BatchNorm 8, again", False)) == 2


def test_a_bias_that_cancels_is_shown_as_0_in_a_shared_module_too():
    scene = scene_of(tg.draw(asked("a shared cell")[0]))
    bars = {(b.title, bar.name): bar for b in scene.boxes for bar in b.bars}
    assert bars["cell", "bias"].norm == 0 and bars["inp", "bias"].norm == 0
    assert [group for group, _ in bars["cell", "bias"].parts] == ["direct", "bn.E[x]"]


def test_images_of_several_axes_sum_to_zero_over_all_axes_of_the_batch():
    model, rng = Channels(), np.random.default_rng(0)
    images = Tensor(rng.standard_normal((4, 3, 5, 5)), name="images")
    c = rng.standard_normal((4, 3, 5, 5))
    drawing = tg.draw((tg.tanh(model(images)) * c).sum().named("loss"), model.b)
    boxes, arrows = boxes_of(drawing), arrows_of(drawing)
    assert boxes["x"].formula == "images + b"
    assert boxes["b"].ledger.remark == "direct and bn.E[x] cancel"
    assert arrows["x", "x − E[x]"]["bn.Var[x]"].cancels
    assert not arrows["x", "x − E[x]"]["direct"].cancels
    assert arrows["b", "x"]["direct"].factor == "sum over axes (0,2,3)"


# --- What an arrow claims -------------------------------------------------------------


def test_routes_that_separate_and_meet_again_are_not_drawn_as_all_routes():
    rng = np.random.default_rng(0)
    u, c = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    b = Tensor(np.zeros(3), requires_grad=True, name="b")
    h = (Tensor(u, name="u") + b).named("h")
    x = tg.relu(h).named("x")
    loss = (tg.batch_norm(x) * c).sum().named("L")
    arrows = arrows_of(tg.draw(loss, b))
    streams = arrows["h", "x"]
    assert set(streams) == {"direct", "E[x]", "Var[x]"}
    total = np.linalg.norm(tg.grad(loss, b).data)
    direct = np.linalg.norm(tg.explain(loss, b)[0].gradient)
    assert abs(direct - total) > 0.01
    commons = {ends for ends, s in arrows.items() if "common" in s}
    assert ("h", "x") not in commons and ("b", "h") not in commons
    assert any(head == "L" for _, head in commons)


def test_with_a_skip_connection_no_arrow_of_batch_norm_carries_all_routes():
    rng = np.random.default_rng(0)
    b = Tensor(np.zeros(3), requires_grad=True, name="b")
    x = (Tensor(rng.standard_normal((4, 3)), name="u") + b).named("x")
    y = (x + tg.batch_norm(x)).named("y")
    drawing = tg.draw((y * rng.standard_normal((4, 3))).sum().named("L"), b)
    arrows = arrows_of(drawing)
    assert "common" in arrows["y", "L"]
    assert set(arrows["x", "y"]) == {"around"} and set(arrows["x̂", "y"]) == {"direct"}
    rows = [row.group for row in boxes_of(drawing)["b"].ledger.rows]
    assert rows == ["direct", "E[x]", "Var[x]", "around"]


def test_what_leads_to_other_leaves_than_the_one_explained_carries_all_routes():
    model = perceptron(norms=2)
    hidden = model[2](model[1](model[0](np.eye(8, 3))))
    layer, norm = model[3], model[4]
    loss = (norm(layer(hidden)) ** 3).mean().named("loss")
    arrows = arrows_of(tg.draw(loss, layer.bias))
    (stream,) = arrows["ReLU", "Linear 8 → 8"].values()
    whole = values_text(tg.grad(loss, hidden).data)
    assert (stream.group, stream.tooltip) == ("common", f"common: {whole}")
    assert set(arrows["Linear 8 → 8", "x − E[x]"]) == {"direct", "Var[x]"}


@pytest.mark.parametrize("fused", [True, False])
def test_an_opened_batch_norm_separates_the_routes_at_x_hat(fused):
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        linear(rng, 3, 4), nn.BatchNorm(4, fused=fused, dtype=float), linear(rng, 4, 4)
    )
    arrows = arrows_of(tg.draw(loss_of(model), open="1"))
    y = "x̂·γ + β"
    for ends in (("x̂", y), ("γ", y), ("β", y), (y, "2"), ("2", "loss")):
        assert set(arrows[ends]) == {"common"}
    assert set(arrows["x − E[x]", "x̂"]) == {"direct"}
    assert set(arrows["Var[x]", "x̂"]) == {"1.Var[x]"}


def test_bars_of_one_picture_share_a_scale():
    source = tg.draw(loss_of(perceptron(2))).source
    bars = [
        (bar.norm, bar.name)
        for box in scene_of(tg.draw(loss_of(perceptron(2)))).boxes
        for bar in box.bars
        if not bar.parts
    ]
    widths = re.findall(r'BGCOLOR="#0072b2" WIDTH="(\d+)" HEIGHT="11"', source)
    widths = [float(w) for w in widths]
    largest = max(norm for norm, _ in bars)
    expected = [110 * norm / largest for norm, _ in bars]
    found = [w for w in widths if min(abs(w - e) for e in expected) <= 1]
    assert len(found) >= len(bars) and max(widths) == 110


# --- Folding and opening --------------------------------------------------------------


def titles(drawing):
    return [b.title or b.operation for b in scene_of(drawing).boxes]


def test_the_setting_depth_folds_blocks():
    loss = loss_of(residual())
    assert titles(tg.draw(loss, depth=0)) == ["images", "Sequential", "loss"]
    top = ["images", "0", "1", "2", "3", "4", "loss"]
    assert titles(tg.draw(loss, depth=1)) == top
    assert "2.bn" in titles(tg.draw(loss, depth=2))
    assert titles(tg.draw(loss)) == titles(tg.draw(loss, depth=2))


def test_the_parameters_of_a_folded_block_are_named_as_seen_from_the_block():
    boxes = boxes_of(tg.draw(loss_of(residual()), depth=1))
    inside = ["lin.weight", "lin.bias", "bn.γ", "bn.β"]
    assert [bar.name for bar in boxes["2"].bars] == inside
    assert [bar.name for bar in boxes["0"].bars] == ["weight", "bias"]


def test_open_works_on_containers_and_on_what_is_inside_them():
    loss = loss_of(residual())
    opened = titles(tg.draw(loss, depth=1, open="2"))
    inside = ["2.lin", "2.bn", "2.act", "add"]
    assert opened == ["images", "0", "1", *inside, "3", "4", "loss"]
    inner = titles(tg.draw(loss, depth=1, open="2.bn"))
    assert {"2.lin", "E[x]", "x̂", "1", "3"} <= set(inner) and "2.bn" not in inner


@pytest.mark.parametrize("fused", [True, False])
def test_open_works_on_composites_inside_modules(fused):
    model = nn.Sequential(
        linear(np.random.default_rng(0), 3, 4),
        nn.BatchNorm(4, fused=fused, dtype=float),
    )
    drawn = titles(tg.draw(loss_of(model), open="batch_norm"))
    assert {"E[x]", "Var[x]", "x̂", "power −0.5"} <= set(drawn) and "0" in drawn
    drawn = titles(
        tg.draw(loss_of(model), open=("softmax_cross_entropy", "log_softmax"))
    )
    assert {"exp", "log", "0", "1"} <= set(drawn)


def test_data_computed_without_parameters_has_a_box():
    images = Tensor(np.random.default_rng(0).random((16, 3)), name="images") / 255 - 0.5
    model = perceptron(1)
    loss = loss_of(model, images)
    for drawing in (tg.draw(loss), tg.draw(loss, model[0].bias)):
        (box,) = [b for b in scene_of(drawing).boxes if b.kind == "data"]
        assert (box.title, box.note) == ("input", "(16, 3)")


@pytest.mark.parametrize(("n", "direction"), [(2, "LR"), (30, "TB")])
def test_the_shape_of_the_graph_determines_the_direction(n, direction):
    h = Tensor([1.0, 2.0], requires_grad=True, name="a")
    for _ in range(n):
        h = h * 0.5
    drawing = tg.draw(h.sum())
    assert drawing.direction == direction
    assert f"rankdir={direction}" in drawing.source
    assert "rankdir=RL" in tg.draw(h.sum(), direction="RL").source


# --- NaN and infinity -----------------------------------------------------------------


def alarms(drawing):
    return {b.title: b.alarms for b in scene_of(drawing).boxes if b.alarms}


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_a_drawing_shows_where_a_network_becomes_infinite():
    model = perceptron(3)
    model[3].weight.data[0, 0] = np.inf
    loss = loss_of(model)
    everything = tg.draw(loss)
    assert alarms(everything)["3"] == ["first ∞, forward"]
    assert sum(len(words) for words in alarms(everything).values()) == 2
    asked = tg.draw(loss, model[0].bias)
    for drawing in (everything, asked, tg.draw_routes(loss, model[0].bias)):
        assert parsed(drawing).tag == f"{SVG}svg"
    assert "NaN" in "".join(texts_of(asked.svg()))
    assert boxes_of(asked)["0.bias"].ledger.remark == "not finite"


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_a_drawing_shows_where_a_gradient_becomes_infinite():
    x = Tensor([0.0, 4.0], requires_grad=True, name="x")
    loss = tg.sqrt((x * 2).named("h")).sum().named("L")
    assert alarms(tg.draw(loss, x)) == {"h": ["first ∞, backward"]}


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_an_infinite_gradient_does_not_make_the_finite_ones_look_small():
    x = Tensor([0.0, 4.0, 9.0, 16.0], requires_grad=True, name="x")
    root = tg.sqrt((x * 2).named("h")).named("root")
    scene = scene_of(tg.draw((root * 3).sum().named("L"), x))
    streams = [stream for arrow in scene.arrows for stream in arrow.streams]
    assert len(streams) > 2
    assert {stream.norm for stream in streams} == {1.0}
    assert {stream.amount for stream in streams} >= {"∞", "norm 6.00"}


def test_infinity_is_not_shown_as_zero():
    u = Tensor([1.0, 2.0], requires_grad=True, name="u")
    drawing = tg.draw((u * np.array([np.inf, 3])).sum().named("L"), u)
    ledger = boxes_of(drawing)["u"].ledger
    assert ledger.total.entries == [np.inf, 3] and ledger.remark == "not finite"


# --- What is zero ---------------------------------------------------------------------


def test_small_float16_gradients_are_not_mistaken_for_rounding():
    b = Tensor(np.float16([1, 2]), requires_grad=True, name="b")
    drawing = tg.draw((b * np.float16([1, 0.5])).sum(), b)
    assert boxes_of(drawing)["b"].ledger.total.entries == [1, 0.5]


def test_rounding_at_a_large_mean_is_shown_as_zero():
    rng = np.random.default_rng(0)
    u = (1e4 + rng.standard_normal((64, 3))).astype(np.float32)
    b = Tensor(np.zeros(3, np.float32), requires_grad=True, name="b")
    y = tg.batch_norm((Tensor(u, name="u") + b).named("x"))
    loss = (y * rng.standard_normal((64, 3)).astype(np.float32)).sum().named("L")
    assert np.abs(tg.grad(loss, b).data).max() > 0
    ledger = boxes_of(tg.draw(loss, b))["b"].ledger
    assert ledger.total.entries == [0, 0, 0] and ledger.rows[2].entries == [0, 0, 0]


# --- Any graph can be drawn -----------------------------------------------------------


@functools.cache
def unusual_graphs():
    rng = np.random.default_rng(0)

    x = random_leaf(rng, 4, 3, name="x")
    w, b = random_leaf(rng, 3, 2, name="w"), random_leaf(rng, 2, name="b")
    gamma, c = random_leaf(rng, 3, name="gamma"), rng.standard_normal((4, 3))
    normalized = tg.fused_batch_norm(x, gamma)
    cubed = (tg.fused_batch_norm(x, gamma) ** 3).sum().named("L")
    second = (tg.grad(cubed, x, create_graph=True) ** 2).sum().named("s")
    shift = Tensor(np.zeros((0, 3)), requires_grad=True, name="shift")
    return {
        "fused": ((normalized * c).sum(), x),
        "fused, its scale": ((normalized * c).sum(), gamma),
        "linear": ((nn.Linear(3, 2, rng=0, dtype=float)(x) ** 2).sum(), x),
        "product": (((x @ w + b) ** 2).sum(), b),
        "second order": (second, x),
        "second order, its scale": (second, gamma),
        "empty batch": (((shift + gamma) * 2).sum(), gamma),
        "empty leaf": ((shift * 2).sum(), shift),
    }


def test_unusual_graphs_can_be_drawn():
    graphs = unusual_graphs().items()
    drawings = [all_drawings(y, leaf, title=name) for name, (y, leaf) in graphs]
    assert {*unusual_graphs()} <= {*texts_of(tg.side_by_side(*drawings).svg())}


@pytest.mark.parametrize("which", unusual_graphs())
def test_the_ledger_of_an_unusual_graph_shows_the_gradient(which):
    y, leaf = unusual_graphs()[which]
    boxes = scene_of(tg.draw(y, leaf)).boxes
    (ledger,) = [b.ledger for b in boxes if b.ledger and b.ledger.rows]
    if leaf.size <= 6:
        np.testing.assert_allclose(
            ledger.total.entries, tg.grad(y, leaf).data.ravel(), rtol=1e-9
        )


# --- Time -----------------------------------------------------------------------------


@pytest.mark.parametrize("with_leaf", [False, True])
def test_the_work_of_a_drawing_grows_linearly_with_depth(with_leaf, monkeypatch):
    calls = 0
    original = Primitive.apply_pullbacks

    def counted(*inputs):
        nonlocal calls
        calls += 1
        return original(*inputs)

    monkeypatch.setattr(Primitive, "apply_pullbacks", counted)

    def work(norms):
        nonlocal calls
        model = perceptron(norms)
        loss, calls = loss_of(model), 0
        tg.draw(loss, model[0].bias if with_leaf else None)
        return calls

    assert work(5) > 0
    assert work(20) < 4.5 * work(5)


# --- Legibility -----------------------------------------------------------------------


@pytest.mark.parametrize("which", ["1 batch norms", "a shared cell"])
def test_no_text_is_smaller_than_11_points(which):
    loss, leaf = asked(which)
    for drawing in (tg.draw(loss), tg.draw(loss, leaf), tg.draw_routes(loss, leaf)):
        fonts = re.findall(r'POINT-SIZE="(\d+)"[^>]*>(?:<B>)?([^<]*)', drawing.source)
        assert {words for size, words in fonts if int(size) < 11} <= {"◆"}


@pytest.mark.slow
def test_routes_of_a_deep_network_fit_a_page():
    loss, leaf = asked("20 batch norms")
    drawing = tg.draw_routes(loss, leaf)
    assert width_of(drawing) <= 1.05 * PAGE
    (box,) = scene_of(drawing).boxes
    labels = [chain.row.label for chain in box.sheet.chains]
    assert labels == [
        "direct",
        "via 1.E[x]",
        "via 1.Var[x]",
        "via 1.Var[x], then 1.E[x]",
    ]
    for chain in box.sheet.chains:
        names = [link.title for link in chain.links]
        assert names[:2] == ["loss", "2 … 60"] and names[-2:] == ["0", "0.bias"]


def test_a_leaf_that_the_output_does_not_depend_on_can_be_drawn():
    a, b = (Tensor([1.0, 2.0], requires_grad=True, dtype=np.float32) for _ in range(2))
    y = (a.named("a") * 2).sum().named("L")
    assert "no route" in str(tg.explain(y, b.named("b")))
    assert {"a", "L"} <= {box.title for box in scene_of(tg.draw(y, a)).boxes}
    assert len(scene_of(tg.draw(y, b)).boxes) >= 1
    assert tg.draw_routes(y, b).source
    folded = scene_of(tg.draw(y, b, max_nodes=2))
    assert 1 <= len(folded.boxes) <= 2


def test_an_opened_batch_norm_without_parameters_before_it_carries_all_routes():
    # Nothing separates the routes at its statistics: they lead to no leaf of their own.
    norms = nn.BatchNorm(2, affine=False), nn.BatchNorm(2)
    model = nn.Sequential(nn.Linear(3, 2, rng=0), *norms)
    rng = np.random.default_rng(0)
    loss = (model(rng.standard_normal((6, 3))) * rng.standard_normal((6, 2))).sum()
    groups = {
        stream.group
        for arrow in scene_of(tg.draw(loss, open="2")).arrows
        for stream in arrow.streams
    }
    assert groups == {"common"}
    opened = scene_of(tg.draw(loss, open="1")).arrows
    assert "direct" in {stream.group for arrow in opened for stream in arrow.streams}
