"""Tensors as formulas: what a box computes, and what its gradient is multiplied by."""

import numpy as np

from ..routes import Unfolded
from ..tensor import Tensor
from .scene import number, typeset

SUM, PRODUCT, ATOM = range(3)
LONGEST, SHORT = 34, 16
_INFIX = {
    "add": (" + ", SUM),
    "sub": (" − ", SUM),
    "mul": ("·", PRODUCT),
    "div": (" / ", PRODUCT),
}
_SILENT = {"broadcast_to", "reshape", "astype", "stop_gradient"}


class Formulas:
    """The formula of each tensor in terms of those that have a name or box of their
    own.

    ``visit`` tensors oldest first. An unfolded operation has the same formula as its
    definition.
    """

    def __init__(self, graph: Unfolded):
        self.graph, self.definitions = graph, graph.definitions
        self.texts: dict[Tensor, tuple[str, int]] = {}
        self.folded: set[Tensor] = set()
        self.shown: set[Tensor] = set()

    def visit(self, t: Tensor) -> str:
        """Work out the formula of ``t``, whose inputs were visited before."""
        self.texts[t] = self._in_words(t)
        return self.texts[t][0]

    def show(self, t: Tensor) -> None:
        """Give ``t`` a box of its own: others refer to it as a whole, and in short."""
        self.shown.add(t)

    def reference(self, x) -> tuple[str, int]:
        """What a formula calls an input: its name, or its formula where it has none."""
        if not isinstance(x, Tensor):
            return number(x, 3) if isinstance(x, float | int) else str(x), ATOM
        name = self.graph.name(x)
        if name is not None:
            return typeset(name.rpartition(".")[2] or name), ATOM
        if x in self.folded:
            return "x", ATOM
        if x.op is None and x.requires_grad:
            return "leaf", ATOM
        if x.op is None:
            return number(x.item(), 3) if x.size == 1 else "c", ATOM
        text, level = self.texts[x]
        if x not in self.shown:
            return text, level
        return (
            "…" if len(text) > SHORT else text if level == ATOM else f"({text})"
        ), ATOM

    def _in_words(self, t: Tensor) -> tuple[str, int]:
        if t.scope is not None and t.scope.owner is None and t.scope.name == "mean":
            source = t.inputs[0]
            if source.op is not None and source.scope is t.scope:
                return self.texts[source]
            return f"mean({self.reference(source)[0]})", ATOM
        if t in self.definitions and self.definitions[t] not in self.folded:
            return self.reference(self.definitions[t])
        args = [self.reference(x) for x in t.inputs]
        name = t.op.name
        if name in _SILENT:
            return args[0]
        if name == "mul" and t.inputs[1] is not None and _is_number(t.inputs[1], -1):
            return "−" + _wrap(args[0], PRODUCT), PRODUCT
        if name == "mul" and args[1][0].startswith("1 / "):
            return f"{_wrap(args[0], PRODUCT)}{args[1][0][1:]}", PRODUCT
        if name in _INFIX:
            sign, level = _INFIX[name]
            right = level + (name in ("sub", "div"))
            return _wrap(args[0], level) + sign + _wrap(args[1], right), level
        if name == "power":
            return _power(args[0], t.inputs[1], args[1])
        if name == "sum_to":
            return "Σ " + _wrap(args[0], PRODUCT), PRODUCT
        if name == "transpose":
            return _wrap(args[0], ATOM) + "ᵀ", ATOM
        if name == "matmul":
            return f"{_wrap(args[0], PRODUCT)} @ {_wrap(args[1], PRODUCT)}", PRODUCT
        if name == "absolute":
            return f"|{args[0][0]}|", ATOM
        return f"{name}({', '.join(text for text, _ in args if text != 'None')})", ATOM

    def factor(self, node: Tensor, slot: int) -> str:
        """What a gradient is multiplied by when it goes from ``node`` to an input."""
        name, inputs = node.op.name, node.inputs
        if node in self.definitions or name in (
            "add",
            "reshape",
            "astype",
            "transpose",
            "getitem",
            "scatter_add",
        ):
            return ""
        if name == "sub":
            return "× (−1)" if slot else ""
        if name in ("mul", "div") and slot < 2:
            other = inputs[1 - slot]
            if name == "div" and slot == 1:
                return "× div′"
            return self._times(other, inverse=name == "div")
        if name == "broadcast_to":
            return _axes_in_words("sum over", node.shape, inputs[0].shape)
        if name == "sum_to":
            return _axes_in_words("to every", inputs[0].shape, node.shape)
        if name == "matmul":
            other = self.reference(inputs[1 - slot])[0]
            return f"@ {other}ᵀ" if slot == 0 else f"{other}ᵀ @"
        if name == "power" and slot == 0 and isinstance(inputs[1], float | int):
            n = inputs[1]
            base = _short(_wrap(self.reference(inputs[0]), ATOM))
            return f"× {number(n)}·{base}" + (f"^{number(n - 1)}" if n != 2 else "")
        if name == "relu":
            return "× 1 where > 0"
        return f"× {name}′"

    def _times(self, other, inverse: bool) -> str:
        if isinstance(other, Tensor) and other.size != 1:
            text = _wrap(self.reference(other), PRODUCT)
            return f"× {'1/' if inverse else ''}{_short(text)}"
        value = float(other.data.item()) if isinstance(other, Tensor) else float(other)
        if inverse and value:
            value = 1 / value
        if value and abs(value) < 1 and abs(1 / value - round(1 / value)) < 1e-9:
            sign = "−" if value < 0 else ""
            return f"× {sign}1/{abs(round(1 / value))}"
        text = number(value, 3)
        return f"× ({text})" if value < 0 else f"× {text}"


def together(factors: list[str]) -> str:
    """Local factors one after the other, in the order in which the gradient meets
    them."""
    words = [f for f in factors if f and f != "× 1"]
    text = ", ".join(words).replace(", to every", " to every")
    return text or "× 1"


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
    where = " and ".join(map(str, axes))
    return f"{verb} place of axis {where}" if spread else f"{verb} axis {where}"


def _wrap(text_and_level: tuple[str, int], at_least: int) -> str:
    text, level = text_and_level
    return text if level >= at_least else f"({text})"


def _short(text: str) -> str:
    return text if len(text) <= 24 else "(…)"


def _is_number(x, value: float) -> bool:
    return np.ndim(x) == 0 and not isinstance(x, Tensor | str) and x == value


def _power(base, exponent, exponent_text) -> tuple[str, int]:
    if _is_number(exponent, 2):
        return _wrap(base, ATOM) + "²", ATOM
    if _is_number(exponent, 0.5):
        return f"√({base[0]})", ATOM
    if _is_number(exponent, -0.5):
        return f"1 / √({base[0]})", PRODUCT
    if _is_number(exponent, -1):
        return f"1 / {_wrap(base, ATOM)}", PRODUCT
    return f"{_wrap(base, ATOM)}^{_wrap(exponent_text, ATOM)}", ATOM
