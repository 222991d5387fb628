"""Tensors as formulas: what a box computes, and the local factors of its gradient.

This file comes after ``scene.py`` in the reading order; ``places.py`` is next.

Left out on purpose: algebra. A formula repeats the operations that were recorded, and
does not simplify them.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..gates import batch_norm_around
from ..graph import Unfolded
from ..scopes import Scope
from ..tensor import Tensor
from .scene import number, typeset

# Levels of precedence, from the lowest to what never needs parentheses.
SUM, PREFIX, MATRIX, QUOTIENT, PRODUCT, POWER, ATOM = range(7)
LONGEST, SHORT, MOST_FACTORS = 34, 16, 3
_INFIX = {
    "add": (" + ", SUM),
    "sub": (" − ", SUM),
    "mul": ("·", PRODUCT),
    "div": (" / ", QUOTIENT),
    "matmul": (" @ ", MATRIX),
}
_SILENT = {"broadcast_to", "reshape", "astype", "stop_gradient"}
_SHORT_NAMES = {"max_to": "max"}
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class Formula(NamedTuple):
    """A formula and its level, which decides where it needs parentheses."""

    text: str
    level: int


class Formulas:
    """The formula of each tensor, in terms of those that have a name or their own box.

    ``visit`` tensors oldest first. An unfolded operation has the same formula as its
    definition.
    """

    def __init__(self, graph: Unfolded):
        self.graph, self.definitions = graph, graph.definitions
        self.texts: dict[Tensor, Formula] = {}
        self.folded: set[Tensor] = set()
        self.shown: set[Tensor] = set()
        # The unnamed inputs of batch norm, which its formulas call x.
        self.normalized: set[Tensor] = set()
        self.constants: dict[Tensor, str] = {}
        self._call: Scope | None = None

    def name_constants(self, nodes: Iterable[Tensor]) -> None:
        """Call the unnamed data among the inputs of ``nodes`` c, or c₁, c₂, ...

        Data of the same values have the same name.
        """
        values: dict[Any, list[Tensor]] = defaultdict(list)
        for x in (x for t in nodes for x in self.graph.inputs(t)):
            data = isinstance(x, Tensor) and x.op is None and not x.requires_grad
            if data and x.size != 1 and self.graph.name(x) is None:
                values[x.shape, x.data.tobytes()].append(x)
        for i, equal in enumerate(values.values(), 1):
            name = "c" + str(i).translate(_SUBSCRIPTS) if len(values) > 1 else "c"
            self.constants |= dict.fromkeys(equal, name)

    def visit(self, t: Tensor) -> str:
        """Work out the formula of ``t``, whose inputs must have been visited."""
        self._call = batch_norm_around(t)
        self.texts[t] = self._in_words(t)
        return self.texts[t].text

    def show(self, t: Tensor) -> None:
        """Give ``t`` a box of its own: other formulas then refer to it as a whole."""
        self.shown.add(t)

    def reference(self, x: Any) -> Formula:
        """An input within a formula: its name, or its own formula if it has none."""
        if not isinstance(x, Tensor):
            return _number(x)
        name = self.graph.name(x)
        if name is not None:
            return Formula(typeset(name.rpartition(".")[2] or name), ATOM)
        if self._call and x.op is not None and batch_norm_around(x) is not self._call:
            self.normalized.add(x)
            return Formula("x", ATOM)
        if x in self.folded:
            return Formula("…", ATOM)
        if x.op is None and x.requires_grad:
            return Formula("leaf", ATOM)
        if x.op is None:
            name = self.constants.get(x, "c")
            return _number(x.item()) if x.size == 1 else Formula(name, ATOM)
        formula = self.texts[x]
        if x not in self.shown:
            return formula
        return Formula("…" if len(formula.text) > SHORT else _wrap(formula, ATOM), ATOM)

    def _in_words(self, t: Tensor) -> Formula:
        if t.scope is not None and t.scope.owner is None and t.scope.name == "mean":
            source = t.inputs[0]
            if source.op is not None and source.scope is t.scope:
                return self.texts[source]
            return Formula(f"mean({self.reference(source).text})", ATOM)
        if t in self.definitions and self.definitions[t] not in self.folded:
            return self.reference(self.definitions[t])
        args = [self.reference(x) for x in t.inputs]
        assert t.op is not None
        name = t.op.name
        if name in _SILENT:
            return args[0]
        if name == "mul" and _is_number(t.inputs[1], -1):
            return Formula("−" + _wrap(args[0], MATRIX), PREFIX)
        if name == "mul" and _is_reciprocal(args[1]):
            return Formula(_wrap(args[0], PRODUCT) + args[1].text[1:], QUOTIENT)
        if _is_eps(t):
            return Formula(f"{_wrap(args[0], SUM)} + ε", SUM)
        if name in _INFIX:
            return _infix(name, *args)
        if name == "power":
            return _power(args[0], t.inputs[1], args[1])
        if name == "sum_to":
            return Formula("Σ " + _wrap(args[0], PRODUCT), PREFIX)
        if name == "transpose":
            return Formula(_wrap(args[0], ATOM) + "ᵀ", POWER)
        if name == "absolute":
            return Formula(f"|{args[0].text}|", ATOM)
        if name == "getitem":
            index = t.params["index"]
            index = index if isinstance(index, int) else "…"
            return Formula(f"{_wrap(args[0], ATOM)}[{index}]", ATOM)
        if name == "sqrt":
            return Formula(f"√({args[0].text})", ATOM)
        inside = ", ".join(arg.text for arg in args if arg.text != "None")
        return Formula(f"{_SHORT_NAMES.get(name, name)}({inside})", ATOM)

    def factor(self, node: Tensor, slot: int) -> str:
        """What a gradient is multiplied by when it goes from ``node`` to an input."""
        assert node.op is not None
        name, inputs = node.op.name, node.inputs
        if node in self.definitions or name in (
            "add", "reshape", "astype", "transpose", "getitem", "scatter_add",
        ):  # fmt: skip
            return ""
        if name == "sub":
            return "× (−1)" if slot else ""
        if name in ("mul", "div") and slot < 2:
            if name == "div" and slot == 1:
                return "× div′"
            return self._times(inputs[1 - slot], inverse=name == "div")
        if name == "broadcast_to":
            return _axes_in_words("sum over", node.shape, inputs[0].shape)
        if name == "sum_to":
            return _axes_in_words("to every", inputs[0].shape, node.shape)
        if name == "matmul":
            other = _wrap(self.reference(inputs[1 - slot]), ATOM)
            return f"@ {_short(other)}ᵀ" if slot == 0 else f"{_short(other)}ᵀ @"
        if name == "power" and slot == 0 and isinstance(inputs[1], float | int):
            n = inputs[1]
            base = _short(_wrap(self.reference(inputs[0]), ATOM))
            return f"× {number(n)}·{base}" + (f"^{number(n - 1)}" if n != 2 else "")
        if name == "relu":
            return "× 1 where > 0"
        return f"× {name}′"

    def _times(self, other: Any, inverse: bool) -> str:
        if isinstance(other, Tensor) and other.size != 1:
            text = _wrap(self.reference(other), POWER if inverse else QUOTIENT)
            return f"× {'1/' if inverse else ''}{_short(text)}"
        value = float(other.data.item()) if isinstance(other, Tensor) else float(other)
        if inverse and value:
            value = 1 / value
        # 1 / value overflows if value is tiny.
        if 1e-9 < abs(value) < 1 and abs(1 / value - round(1 / value)) < 1e-9:
            sign = "−" if value < 0 else ""
            return f"× {sign}1/{abs(round(1 / value))}"
        text = number(value, 3)
        return f"× ({text})" if value < 0 else f"× {text}"


def together(factors: list[str]) -> str:
    """Local factors in the order in which the gradient meets them; "" if too many."""
    joined = ", ".join(f for f in factors if f and f != "× 1")
    joined = joined.replace(", to every", " to every")
    return "" if joined.count(", ") >= MOST_FACTORS else joined or "× 1"


def _is_reciprocal(formula: Formula) -> bool:
    return formula.level == QUOTIENT and formula.text.startswith("1 / ")


def operation_text(t: Tensor) -> str:
    """The operation of a tensor, with the plain numbers among its inputs.

    If a number comes first, a dot stands for the tensor, as in ``sub(2, ·)``.
    """
    assert t.op is not None
    name, first = t.op.name, t.inputs[0]
    numbers = [number(x, 3) for x in t.inputs if isinstance(x, float | int)]
    if isinstance(first, float | int) and name in ("sub", "div", "power"):
        return f"{name}({numbers[0]}, ·)"
    return " ".join([name, *numbers])


def _infix(name: str, left: Formula, right: Formula) -> Formula:
    if right.text == "…" and left.text.endswith("… + …"):
        return left  # One row of dots stands for any number of them.
    sign, level = _INFIX[name]
    if name == "matmul":
        left, right = _unlike_product(left), _unlike_product(right)
    # Only addition needs no parentheses around the same operation on its right.
    after = _wrap(right, {"add": SUM, "div": POWER}.get(name, level + 1))
    after = f"({after})" if after.startswith("−") else after
    return Formula(_wrap(left, level) + sign + after, level)


def _unlike_product(formula: Formula) -> Formula:
    """The formula with parentheses around a product, as in ``a @ (b·c)``."""
    wrapped = Formula(f"({formula.text})", ATOM)
    return wrapped if formula.level in (QUOTIENT, PRODUCT) else formula


def _axes_in_words(verb: str, large: tuple, small: tuple) -> str:
    lead = len(large) - len(small)
    axes = [i for i, n in enumerate(large) if i < lead or n != small[i - lead]]
    spread = verb == "to every"
    if not axes:
        return ""
    if len(large) == len(axes):
        return "to every entry" if spread else "sum over all"
    if axes == [0]:
        return "to every row" if spread else "sum over batch"
    where = (
        f"axis {axes[0]}" if len(axes) == 1 else f"axes ({','.join(map(str, axes))})"
    )
    return f"{verb} place of {where}" if spread else f"{verb} {where}"


def _wrap(formula: Formula, at_least: int) -> str:
    return formula.text if formula.level >= at_least else f"({formula.text})"


def _short(text: str) -> str:
    return text if len(text) <= 24 else "(…)"


def _number(x: Any) -> Formula:
    text = number(x, 3) if isinstance(x, float | int) else str(x)
    return Formula(text, PREFIX if text.startswith("−") else ATOM)


def _is_number(x: Any, value: float) -> bool:
    return np.ndim(x) == 0 and isinstance(x, float | int) and x == value


def _is_eps(t: Tensor) -> bool:
    """Whether ``t`` is batch norm's variance plus its small constant."""
    assert t.op is not None
    if t.op.name != "add" or not isinstance(t.inputs[1], float | int):
        return False
    is_variance = isinstance(t.inputs[0], Tensor) and t.inputs[0].name == "Var[x]"
    return is_variance and (batch_norm_around(t) is not None or t.inputs[1] < 0.1)


def _power(base: Formula, exponent: Any, exponent_text: Formula) -> Formula:
    if _is_number(exponent, 2):
        return Formula(_wrap(base, ATOM) + "²", POWER)
    if _is_number(exponent, 0.5):
        return Formula(f"√({base.text})", ATOM)
    if _is_number(exponent, -0.5):
        return Formula(f"1 / √({base.text})", QUOTIENT)
    if _is_number(exponent, -1):
        return Formula(f"1 / {_wrap(base, POWER)}", QUOTIENT)
    return Formula(f"{_wrap(base, ATOM)}^{_wrap(exponent_text, ATOM)}", POWER)
