"""Chapter 4: which dependence protects the bias? The same graph in eight cases.

All cases share one frame: an element of the figure is drawn once, and lists the cases
that it belongs to. Boxes therefore never move. The words and numbers of a case come
from its own graph.

    route    "direct", "mean" (through E[x]), "var" (through Var[x]) or "around" (around
             batch norm); its number is on its arrows and in its row of the ledger
"""

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

import tinygrad_bn as tg
from parts.page.svg import arrow, box, element, figure, pill, words
from parts.page.text import signed
from support import drawings as example
from tinygrad_bn import Tensor

HEIGHT = 310
ROUTES = {"direct": "1", "mean": "2", "var": "3", "around": "4"}
NO_ROUTE = "–"


@dataclass(frozen=True)
class Case:
    """One case: its name, the tensor ``y`` it computes from ``x = u + b``, its words.

    ``cut`` names the routes that are cut, ``absent`` those that do not exist.
    """

    name: str
    y: Callable[[Tensor], Tensor]
    said: str
    x: str = "x = u + b"
    mean: str = "E[x]"
    var: str = "Var[x]"
    loss: str = "L = Σ c·x̂"
    cut: tuple[str, ...] = ()
    absent: tuple[str, ...] = ("around",)
    gates: tuple[str, ...] = ("E[x]", "Var[x]")
    b: tuple[float, ...] = tuple(example.B)

    def graph(self, shift: float = 0) -> tuple[Tensor, Tensor]:
        """The loss and the bias, to which ``shift`` is added."""
        b = Tensor(np.add(self.b, shift), requires_grad=True, name="b")
        return example.loss(self.y((Tensor(example.U, name="u") + b).named("x"))), b


def _evaluation(x):
    return tg.batch_norm(x, mean=example.U.mean(axis=0), var=example.U.var(axis=0))


CASES = {
    "batch-norm": Case(
        "batch norm",
        tg.batch_norm,
        "What arrives directly, E[x] takes back. That is right: x̂ does not depend "
        "on b.",
    ),
    "mean-constant": Case(
        "E[x] as a constant",
        lambda x: tg.batch_norm(x, constants=("mean",)),
        "The backward pass treats E[x] as a constant, but it follows b. The gradient "
        "is wrong: x̂ does not depend on b.",
        cut=("mean",),
    ),
    "var-constant": Case(
        "Var[x] as a constant",
        lambda x: tg.batch_norm(x, constants=("var",)),
        "For b nothing changes: what Var[x] sends to the samples always sums to 0.",
        cut=("var",),
    ),
    "both-constant": Case(
        "both as constants",
        lambda x: tg.batch_norm(x, constants=("mean", "var")),
        "As with E[x] alone: b gets a gradient, and it is wrong.",
        cut=("mean", "var"),
    ),
    "evaluation": Case(
        "evaluation mode",
        _evaluation,
        "Mean and variance are given numbers that do not follow b. So x̂ depends on b, "
        "and b gets its gradient.",
        mean="given mean",
        var="given var",
        absent=("mean", "var", "around"),
        gates=(),
    ),
    "relu": Case(
        "a ReLU between",
        lambda x: tg.batch_norm(tg.relu(x)),
        "The ReLU stops some samples, so b does not move all alike, and E[x] cannot "
        "follow.",
        x="x = relu(u + b)",
        # With this bias, the ReLU stops a sample or two of each feature.
        b=(0.5, 0.5, -1),
    ),
    "skip": Case(
        "a skip connection",
        lambda x: x + tg.batch_norm(x),
        "Inside batch norm the routes cancel. The one around it reaches b untouched.",
        loss="L = Σ c·(x + x̂)",
        absent=(),
        gates=("x_hat", "E[x]", "Var[x]"),
    ),
    "layer-norm": Case(
        "layer norm",
        lambda x: tg.batch_norm(x, axes=(1,)),
        "The mean over the features takes back only what all features have in common.",
        mean="row mean",
        var="row var",
    ),
}


@dataclass(frozen=True)
class Row:
    """A line of a ledger, with an entry for each feature.

    An entry is a number, "cut", or ``NO_ROUTE``.
    """

    route: str
    label: str
    entries: tuple[str, ...]


def ledger(case: Case) -> list[Row]:
    """What arrives at b, route by route, and its sum."""
    loss, b = case.graph()
    # Var[x] contains E[x]; the route through both brings 0 in every case.
    routes = [
        route
        for route in tg.explain(loss, b, gates=case.gates)
        if not {"E[x]", "Var[x]"} <= {*route.gates}
    ]
    found = {_name(route, case): _entries(route, case) for route in routes}
    labels = {
        "direct": "directly", "mean": f"through {case.mean}",
        "var": f"through {case.var}", "around": "skip connection",
    }  # fmt: skip
    nothing = (NO_ROUTE,) * len(case.b)
    rows = [
        Row(name, f"{number} {labels[name]}", found.get(name, nothing))
        for name, number in ROUTES.items()
    ]
    total = tuple(signed(v, 3) for v in tg.grad(loss, b).data)
    return [*rows, Row("total", "∂L/∂b", total)]


def _name(route, case):
    if "x_hat" in case.gates and "x_hat" not in route.gates:
        return "around"
    if "Var[x]" in route.gates:
        return "var"
    return "mean" if "E[x]" in route.gates else "direct"


def _entries(route, case):
    if route.cut:
        return ("cut",) * len(case.b)
    return tuple(signed(v, 3) for v in route.gradient)


def kind(case: Case) -> str:
    """What b gets."""
    if {*ledger(case)[-1].entries} == {"0"}:
        return "0, which is right"
    return "a wrong gradient" if "mean" in case.cut else "the right gradient"


def overview() -> str:
    """The rows of a table of all cases, one row for each kind."""
    found: dict[str, list[str]] = {}
    for case in CASES.values():
        found.setdefault(kind(case), []).append(html.escape(case.name))
    return "\n".join(
        element("tr", element("th", name, scope="row"), element("td", ", ".join(names)))
        for name, names in found.items()
    )


def numbers() -> dict:
    """The words and the ledger of each case."""
    cases = {}
    for key, case in CASES.items():
        *rows, total = ledger(case)
        spoken = ". ".join(
            f"{row.label[2:]}: {', '.join(row.entries)}"
            for row in rows
            if NO_ROUTE not in row.entries
        )
        cases[key] = {
            "said": case.said,
            "rows": [[row.label, row.entries] for row in (*rows, total)],
            "alternative": f"A graph for {case.name}. What arrives at b: {spoken}. "
            f"Their sum: {', '.join(total.entries)}.",
        }
    return {"cases": cases, "first": next(iter(CASES))}


def parts() -> dict[str, str]:
    """What the template contains of this chapter: the figure and the choices."""
    options = (
        element("option", html.escape(case.name), value=key)
        for key, case in CASES.items()
    )
    options = "".join(options)
    return {
        "figure": drawing(), "options": options, "rows": table(),
        "overview": overview(),
    }  # fmt: skip


def table() -> str:
    """The ledger of the first case; those of the others have the same rows."""
    return "\n".join(
        element(
            "tr",
            element("th", html.escape(row.label), scope="row"),
            *(element("td", entry) for entry in row.entries),
            class_=row.route,
        )
        for row in ledger(next(iter(CASES.values())))
    )


def drawing() -> str:
    """One frame for all cases; ``data-in`` lists the cases of an element.

    Without JavaScript, the page shows the first case.
    """
    first, belongs = next(iter(CASES)), {}
    for key, case in CASES.items():
        for part in elements(case):
            belongs.setdefault(part, []).append(key)
    groups = (
        element(
            "g",
            part,
            data_in=" ".join(keys),
            class_=None if first in keys else "absent",
        )
        for part, keys in belongs.items()
    )
    return figure("cases", HEIGHT, *groups)


def elements(case: Case) -> Iterator[str]:
    """All that the drawing of one case shows."""
    yield from _forward(case)
    yield from _backward(case)
    # "E[x]" of the batch itself, but "mean" where it is another one.
    mean, var = (name.split()[-1] for name in (case.mean, case.var))
    x_hat = f"x̂ = (x − {mean}) / √({var} + ε)"
    for x, y, width, text, class_ in (
        (4, 4, 204, "b", "leaf"), (220, 4, 124, "u", ""), (4, 82, 280, case.x, ""),
        (4, 148, 104, case.mean, "of-mean"), (146, 148, 84, f"x − {mean}", ""),
        (262, 148, 84, case.var, "of-var"),
        (72, 214, 232, x_hat, ""), (92, 278, 192, case.loss, ""),
    ):  # fmt: skip
        color = {"leaf": "bias", "of-mean": "mean", "of-var": "var"}.get(class_, "")
        text = words(text, x + width / 2, y + 19, f"middle bold {color}")
        yield box(x, y, width, 28, class_) + text


def _forward(case):
    lines = [
        [(202, 32), (202, 82)], [(252, 32), (252, 82)], [(224, 110), (224, 148)],
        [(108, 156), (146, 156)], [(204, 176), (204, 214)], [(326, 176), (268, 214)],
        [(204, 242), (204, 278)],
    ]  # fmt: skip
    if "mean" not in case.absent:
        lines += [[(30, 110), (30, 148)], [(230, 156), (262, 156)]]
    if "around" not in case.absent:
        lines.append([(284, 90), (364, 90), (364, 298), (284, 298)])
    for points in lines:
        yield arrow(points, 8, "forward")


def _backward(case):
    yield _stream("all", [(168, 278), (168, 242)])
    yield _stream("all", [(168, 214), (168, 176)])
    yield _stream("direct", [(164, 148), (164, 110)], (147, 129))
    yield _stream("direct", [(82, 82), (82, 32)], (99, 57))
    if "around" not in case.absent:
        points = [(284, 286), (355, 286), (355, 102), (284, 102)]
        yield _stream("around", points, (355, 216))
        yield _stream("around", [(164, 82), (164, 32)], (181, 57))
    if "mean" in case.cut:
        yield _cut("mean", [(146, 168), (108, 168)], (127, 168))
    elif "mean" not in case.absent:
        yield _stream("mean", [(146, 168), (108, 168)])
        yield _stream("mean", [(64, 148), (64, 110)], (81, 129))
        yield _stream("mean", [(40, 82), (40, 32)], (57, 57))
    if "var" in case.cut:
        yield _cut("var", [(236, 214), (290, 176)], (262, 195))
    elif "var" not in case.absent:
        # Dashed: what arrives is not 0 for each sample, but its sum is.
        entries = {e for row in ledger(case) if row.route == "var" for e in row.entries}
        dashed = "dashed" if entries == {"0"} else ""
        yield _stream("var", [(236, 214), (290, 176)])
        yield _stream("var", [(262, 168), (230, 168)])
        yield _stream("var", [(188, 148), (188, 110)], (205, 129), dashed)
        yield _stream("var", [(124, 82), (124, 32)], (141, 57), dashed)


def _stream(route, points, label=None, class_=""):
    line = arrow(points, 12, f"stream {route} {class_}", data_group=route)
    return line + (pill(ROUTES[route], *label, route) if label else "")


def _cut(route, points, at):
    line = arrow(points, 12, f"stream {route} cut", data_group=route)
    return line + pill("✕", *at, route)
