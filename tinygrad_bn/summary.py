"""A model as a table: its modules, the shapes of their outputs, and their parameters.

This file comes after ``nn.py`` in the reading order.

Left out on purpose: counts of operations, and memory.
"""

import copy
import html
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import type_name
from .nn import Module
from .scopes import no_grad
from .tensor import Tensor


@dataclass(frozen=True)
class SummaryRow:
    """A module: its qualified name, its class, and what its calls returned.

    ``parameters`` counts the values in its own tensors, not those of modules inside it;
    ``trainable`` counts the values of those tensors that require a gradient.
    """

    name: str
    kind: str
    output: str
    parameters: int
    trainable: int

    def cells(self) -> list[str]:
        """The row as text."""
        return [
            self.name, self.kind, self.output,
            f"{self.parameters:,}", f"{self.trainable:,}",
        ]  # fmt: skip


@dataclass(frozen=True, repr=False)
class Summary:
    """The table that ``summary`` returns; print it or show it in a notebook."""

    rows: tuple[SummaryRow, ...]
    total: SummaryRow

    HEADS = ("name", "module", "output", "parameters", "trainable")

    def __str__(self) -> str:
        table = [list(self.HEADS), *(row.cells() for row in (*self.rows, self.total))]
        widths = [max(map(len, column)) for column in zip(*table)]
        return "\n".join(
            "  ".join(
                f"{cell:>{width}}" if i >= 3 else f"{cell:<{width}}"
                for i, (cell, width) in enumerate(zip(cells, widths))
            )
            for cells in table
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells: Iterable[str], tag: str) -> str:
            aligned = ["left"] * 3 + ["right"] * 2
            return "".join(
                f'<{tag} style="text-align:{align}">{html.escape(cell)}</{tag}>'
                for cell, align in zip(cells, aligned)
            )

        lines = [line(self.HEADS, "th")]
        lines += [line(row.cells(), "td") for row in self.rows]
        lines.append(line(self.total.cells(), "th"))
        return f"<table>{''.join(f'<tr>{cells}</tr>' for cells in lines)}</table>"


def summary(model: Module, x: Any) -> Summary:
    """List the modules of ``model``, with their output shapes for the batch ``x``.

    A module or a tensor that is used in several places is counted once. The forward
    pass runs on a copy, in the model's current mode, so the model does not change.

    Raises: ``TypeError`` for anything but a module.
    """
    if not isinstance(model, Module):
        raise TypeError(
            "summary(model, x): a module and one batch of inputs must be given, but "
            f"{type_name(model)} and {type_name(x)} were received. tg.from_torch "
            "converts modules of PyTorch."
        )
    twin = trial_copy(model)
    outputs: dict[str, list[str]] = defaultdict(list)
    for name, module in twin.named_modules():
        module.forward = _watched(module.forward, outputs[name])  # type: ignore[method-assign]
    with no_grad():
        twin(x)
    rows: list[SummaryRow] = []
    counted: set[Tensor] = set()
    for name, module in model.named_modules():
        own = {t for _, t in module._members() if isinstance(t, Tensor)} - counted
        counted |= own
        rows.append(_row(name, module, outputs[name], own))
    total = _row("total", model, outputs[""], counted)
    first = rows[:1] if rows[0].parameters else []
    return Summary((*first, *rows[1:]), total)


def _row(name: str, module: Module, outputs: list[str], own: set[Tensor]) -> SummaryRow:
    output = outputs[-1] if outputs else "not called"
    if len(outputs) > 1:
        output += f", {len(outputs)} calls"
    trainable = sum(t.size for t in own if t.requires_grad)
    return SummaryRow(
        name, type(module).__name__, output, sum(t.size for t in own), trainable
    )


def _watched(forward: Callable, outputs: list[str]) -> Callable:
    """``forward``, which also appends the shape of each result to ``outputs``."""

    def noting_its_output(*inputs: Any, **params: Any) -> Any:
        result = forward(*inputs, **params)
        outputs.append(_shape(result))
        return result

    return noting_its_output


def _shape(result: Any) -> str:
    if isinstance(result, tuple | list):
        return ", ".join(map(_shape, result))
    if isinstance(result, dict):
        return ", ".join(f"{key}: {_shape(value)}" for key, value in result.items())
    return str(np.shape(result))


def trial_copy(model: Module) -> Module:
    """A copy to run instead of the model, so that the model does not change.

    Graphs that the model refers to, such as stored activations, are not copied.
    """
    recorded = (
        t
        for module in model.modules()
        for t in _recorded_in(list(vars(module).values()))
    )
    return copy.deepcopy(model, {id(t): t for t in recorded})


def _recorded_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor) and not value.is_leaf:
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _recorded_in(inner)
    elif isinstance(value, dict):
        yield from _recorded_in(list(value.values()))
