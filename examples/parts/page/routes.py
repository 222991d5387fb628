"""Chapter 2: the gradient on its way to the bias, one operation at a time.

What belongs to a step is shown from that step on (``data-since`` in the page).

    step    one operation, forward or backward; 0 is before the first
    part    a box or an arrow that a reader can point at
"""

import html
from dataclasses import asdict, dataclass

import tinygrad_bn as tg
from parts.page import bias
from parts.page.svg import arrow, box, element, figure, pill, words
from parts.page.text import listed, plain, signed


class Graph:
    """The centering graph of chapter 1, and what the engine computes for it."""

    def __init__(self) -> None:
        u = tg.Tensor(bias.U, name="u")
        b = tg.Tensor(bias.B, requires_grad=True, name="b")
        x = (u + b).named("x")
        mean = x.mean().named("E[x]")
        x_hat = (x - mean).named("x_hat")
        loss = (x_hat * bias.C).sum().named("L")
        self.x, self.mean, self.x_hat = x.data, mean.item(), x_hat.data
        self.loss = loss.item()
        self.d_x_hat, self.d_x = (t.data for t in tg.grad(loss, [x_hat, x]))
        self.d_mean, self.total = (t.item() for t in tg.grad(loss, [mean, b]))
        to_x, to_b = (tg.explain(loss, t, gates=["E[x]"]) for t in (x, b))
        self.x_direct, self.x_through = (route.gradient for route in to_x)
        self.direct, self.through = (float(route.gradient) for route in to_b)


G = Graph()
# What each step says. Steps 1 to 4 go forward, 5 to 10 backward, 11 adds up.
STEPS = f"""\
Only u and b are known. Press Next.
Forward. Each of the four samples gets the same b.
E[x] is the mean of the samples: {plain(G.mean)}.
x̂ is what is left when E[x] is subtracted from each sample.
The loss weights x̂ with c = ({listed(bias.C)}).
Backward. The loss hands each sample of x̂ its weight, c.
x̂ = x − E[x]. One route leads straight to x and carries c on, unchanged.
The other leads to E[x]. All four subtract it, so it gets minus the sum of c, \
{signed(G.d_mean, 3)}.
E[x] is an average, so each sample gets a quarter: {signed(G.x_through[0], 3)}.
b was added to each sample: each row of x is summed. Directly: {signed(G.direct, 3)}.
Through E[x]: four quarters, {signed(G.through, 3)}. Guess the sum, then press Next.
The sum is {signed(G.total)}. No single gradient on the way is zero, only their sum is.
""".splitlines()
LAST = len(STEPS) - 1


@dataclass(frozen=True)
class Part:
    """A box or an arrow: what to call it, since when it is shown, and what it says."""

    name: str
    since: int
    rule: str
    values: str


_SUMMED = "The row of x is summed: b was added four times."
PARTS = {
    "u": Part("u", 0, "The data: four samples of one feature.", listed(bias.U)),
    "b": Part("b", 0, "The bias, one number for all samples.", plain(bias.B)),
    "x": Part("x = u + b", 1, "b is added to every sample.", listed(G.x)),
    "mean": Part("E[x]", 2, "The sum of the samples, divided by 4.", plain(G.mean)),
    "hat": Part("x̂ = x − E[x]", 3, "E[x] is subtracted.", listed(G.x_hat)),
    "loss": Part("L = Σ c·x̂", 4, "Weighted with c, and summed.", plain(G.loss)),
    "loss-hat": Part("L to x̂", 5, "Times c, the weights.", listed(G.d_x_hat, 3)),
    "hat-x": Part("x̂ to x", 6, "Times 1: x̂ contains x.", listed(G.x_direct, 3)),
    "hat-mean": Part(
        "x̂ to E[x]", 7, "Times −1, summed over the samples.", signed(G.d_mean, 3)
    ),
    "mean-x": Part(
        "E[x] to x", 8, "A quarter of it to each sample.", listed(G.x_through, 3)
    ),
    "x-b-direct": Part("x to b, directly", 9, _SUMMED, signed(G.direct, 3)),
    "x-b-through": Part("x to b, through E[x]", 10, _SUMMED, signed(G.through, 3)),
}


def numbers() -> dict:
    """What the script shows: the words of each step and of each part."""
    parts = {key: asdict(part) for key, part in PARTS.items()}
    return {"steps": STEPS, "alternatives": _alternatives(), "parts": parts}


def _alternatives() -> list[str]:
    start = "A graph. u and b lead to x; x leads to E[x] and to x̂; x̂ leads to the loss."
    texts, shown = [], ""
    for step in range(LAST + 1):
        for part in PARTS.values():
            if part.since == step:
                shown += f" {part.name}: {part.values}."
        texts.append(f"{start} Step {step} of {LAST}.{shown}")
    return texts


def parts() -> dict[str, object]:
    """What the template contains of this chapter."""
    return {
        "figure": drawing(), "last": LAST, "ledger": ledger(), "b": f"{bias.B:g}"
    }  # fmt: skip


def drawing() -> str:
    return figure("routes", 468, *_forward(), *_backward(), *_boxes(), role="group")


def _boxes():
    b_rows = [("value", [bias.B], 0), ("∂L/∂b", [G.total], LAST, "total")]
    yield _box("b", 4, 4, 156, "b", b_rows, "leaf")
    yield _box("u", 168, 4, 196, "u", [("", bias.U, 0)], "data")
    # Two rows, not their sum: neither of them sums to 0.
    x_rows = [
        ("value", G.x, 1),
        ("directly", G.x_direct, 6, "direct"),
        ("through E[x]", G.x_through, 8, "mean"),
    ]
    yield _box("x", 4, 118, 344, "x = u + b", x_rows)
    mean_rows = [("value", [G.mean], 2), ("∂L/∂E[x]", [G.d_mean], 7)]
    yield _box("mean", 4, 236, 144, "E[x] = mean(x)", mean_rows, "of-mean")
    hat_rows = [("value", G.x_hat, 3), ("∂L/∂x̂", G.d_x_hat, 5)]
    yield _box("hat", 56, 336, 292, "x̂ = x − E[x]", hat_rows)
    yield _box("loss", 104, 434, 160, "L = Σ c·x̂", [(None, [G.loss], 4)], "data")


def _box(key, x, y, width, title, rows, class_=""):
    """A box with a title and rows of values, aligned at the right.

    A row without a label stands beside the title.
    """
    color = {"leaf": "bias", "of-mean": "mean"}.get(class_, "")
    below = y + (20 if rows[0][0] is None else 18)
    content = [words(title, x + 8, below, f"bold {color}")]
    for i, (label, values, since, *route) in enumerate(rows):
        shown = route[0] if route else ""
        if label is not None:
            below += 18
            color = shown or "quiet"
            content.append(words(label, x + 8, below, color, data_since=since))
        decimals = 3 if label and label != "value" else 2
        for j, v in enumerate(reversed(values)):
            at = x + width - 8 - (60 if label else 50) * j
            text = signed(v) if shown == "total" else plain(v, decimals)
            place = f"end {shown}".strip()
            column = len(values) - 1 - j
            address = {"data_box": key, "data_row": i, "data_col": column}
            content.append(words(text, at, below, place, data_since=since, **address))
    return _part(key, box(x, y, width, below + 8 - y, class_), *content)


def _part(key, *content):
    return element(
        "g", *content, data_part=key, tabindex=0, role="button",
        aria_label=PARTS[key].name, class_="part",
    )  # fmt: skip


def _forward():
    for tail, head, *points in (
        ("b", "x", (152, 66), (152, 118)), ("u", "x", (266, 48), (266, 118)),
        ("x", "mean", (50, 198), (32, 236)), ("x", "hat", (304, 198), (304, 336)),
        ("mean", "hat", (32, 298), (70, 336)), ("hat", "loss", (216, 398), (216, 434)),
    ):  # fmt: skip
        yield arrow(points, 8, "forward", data_tail=tail, data_head=head)


def _backward():
    c = "c (4 numbers)"
    yield _stream("loss-hat", [(168, 434), (168, 398)], "all", c, 140, 417)
    yield _stream("hat-x", [(256, 336), (256, 198)], "direct", c, 232, 268)
    yield _stream(
        "hat-mean", [(116, 336), (96, 298)], "mean", signed(G.d_mean, 3), 148, 317
    )
    each = f"{signed(G.x_through[0], 3)} each"
    yield _stream("mean-x", [(96, 236), (116, 198)], "mean", each, 172, 217)
    through, direct = signed(G.through, 3), signed(G.direct, 3)
    yield _stream("x-b-through", [(40, 118), (40, 66)], "mean", through, 40, 93)
    yield _stream("x-b-direct", [(112, 118), (112, 66)], "direct", direct, 112, 93)


def _stream(key, points, route, text, x, y):
    """A gradient on its way: faint until its step, then with what it carries."""
    (x0, y0), (x1, y1) = points
    # As in the drawings of the engine, a gradient has the ends of its data.
    head, tail, *_ = key.split("-")
    ends = {"data_tail": tail, "data_head": head, "data_group": route}
    target = element("line", x1=x0, y1=y0, x2=x1, y2=y1, class_="target")
    label = pill(text, x, y, route, data_since=PARTS[key].since)
    return _part(key, target, arrow(points, 14, f"stream {route}", **ends), label)


def ledger() -> str:
    """The rows of the table; each number is hidden until its step."""
    rows = [
        ("direct", "directly", signed(G.direct, 3), 9),
        ("mean", "through E[x]", signed(G.through, 3), 10),
        ("total", "∂L/∂b", signed(G.total), LAST),
    ]
    return "\n".join(
        f'<tr class="{class_}"><th scope="row">{html.escape(name)}</th>'
        f'<td><span data-since="{since}">{value}</span></td></tr>'
        for class_, name, value, since in rows
    )
