"""The gradients of a graph, tensor by tensor and step by step.

A step leads from a tensor to one of its inputs. Each group of routes that takes a step
has its own share of the gradient there, or None if the step is a cut. Everything is
computed twice, as recorded and in float64: an entry that is zero in float64 is drawn as
0. A sum over broadcast axes that is only rounding is drawn as 0, too, as is every
gradient computed from it.

This file comes after ``scene.py`` and ``routes.py`` in the reading order.

Left out on purpose: groups by more than the first gate. An arrow for every route would
be unreadable; ``chains.py`` draws each route by itself.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..gates import STATISTICS, Gates, Key, batch_norm_around, choose_gates
from ..graph import (
    Subgraph,
    Unfolded,
    largest_finite,
    replay,
    scale_of,
    without_rounding,
)
from ..kernels import norm
from ..ops import stop_gradient
from ..routes import carry
from ..scopes import Scope
from ..tensor import Tensor
from .scene import AROUND, COMMON, DIRECT, number, size_text


@dataclass
class Gradient:
    """A gradient as recorded, and in float64."""

    recorded: np.ndarray
    exact: np.ndarray

    def __add__(self, other: "Gradient") -> "Gradient":
        with np.errstate(all="ignore"):
            return Gradient(self.recorded + other.recorded, self.exact + other.exact)

    def sums(self, axes: tuple[int, ...] = (0,)) -> np.ndarray:
        """The sums over axes of the batch, with 0 where they are only rounding."""
        with np.errstate(all="ignore"):
            sums, exact = self.recorded.sum(axes), self.exact.sum(axes)
            scale = np.abs(np.nan_to_num(self.exact)).max(axes, initial=0)
            scale = np.maximum(scale, 1e-4 * scale.max(initial=0))
            return without_rounding(sums, exact, scale)


Shares = dict[str, Gradient | None]
Step = tuple[Tensor, Tensor, int]  # from, to, and which use of the second by the first


class Flow:
    """The gradients of all tensors and steps of a graph, separated by routes.

    ``arrived`` has the whole gradient of each tensor, ``everywhere`` the shares of each
    step, ``toward_leaf`` those of the steps on the routes to the leaf, and ``gates``
    the names that separate these routes. ``undivided`` steps carry all of them.
    ``normalizing`` maps the tensors that batch norm normalizes with to its calls.
    """

    def __init__(
        self, y: Tensor, g: np.ndarray | None, symbols: dict[str, Any] | None = None
    ):
        self.graph, self.g = Unfolded(y), g
        self.symbols = {
            name: np.asarray(values) for name, values in (symbols or {}).items()
        }
        self.arrived: dict[Tensor, Gradient] = {}
        self.everywhere: dict[Step, Shares] = {}
        self.toward_leaf: dict[Step, Shares] = {}
        self.gates: dict[Tensor, str] = {}
        self.undivided: set[Step] = set()
        self.normalizing: dict[Tensor, Scope] = {}
        self.calls = {
            t: call
            for t in self.graph.order
            if t.name in STATISTICS and (call := batch_norm_around(t)) is not None
        }
        if g is not None:
            self._carry_to_all_leaves(g)

    # --- The float64 twin -------------------------------------------------------------

    @cached_property
    def _twin_graph(self) -> Unfolded:
        """The graph in float64, which may be the recorded graph itself."""
        y = self.graph.y
        exact = all(t.dtype.kind != "f" or t.dtype == float for t in self._tensors())
        return self.graph if exact else Unfolded(replay(y)[y])

    @cached_property
    def twins(self) -> dict[Tensor, Tensor]:
        """The float64 twin of each tensor, which may be the tensor itself."""
        pairs = {}
        for t, twin in zip(self.graph.order, self._twin_graph.order, strict=True):
            pairs[t] = twin
            inputs = zip(self.graph.inputs(t), self._twin_graph.inputs(twin))
            pairs.update((x, w) for x, w in inputs if isinstance(x, Tensor))
        return pairs

    def _tensors(self) -> Iterator[Tensor]:
        yield from self.graph.order
        for t in self.graph.order:
            yield from (x for x in self.graph.inputs(t) if isinstance(x, Tensor))

    def _carry(self, targets: list[Tensor], gates: Gates) -> dict[Step, dict]:
        """The gradient of each step toward the targets: ``{step: {key: gradient}}``."""
        assert self.g is not None
        recorded = self._observed(Subgraph(self.graph, *targets), gates, self.g)
        twins, exact = self.twins, recorded
        if self._twin_graph is not self.graph:
            twin_gates = Gates(
                {twins[t]: name for t, name in gates.names.items()},
                {twins[t]: call for t, call in gates.calls.items()},
                {twins[t] for t in gates.forget_at},
            )
            # A target that the output does not depend on has no twin.
            subgraph = Subgraph(self._twin_graph, *(twins.get(t, t) for t in targets))
            g = self.g.astype(np.float64)
            exact = self._observed(subgraph, twin_gates, g)
        steps: dict[Step, dict] = {}
        for (node, x, use), shares in recorded.items():
            others = exact[twins[node], twins[x], use]
            steps[node, x, use] = {
                key: None if d is None else Gradient(d, others[key])
                for key, d in shares.items()
            }
        return steps

    def _observed(self, subgraph: Subgraph, gates: Gates, g: np.ndarray) -> dict:
        steps: dict = defaultdict(dict)
        uses: Counter = Counter()

        def note(node, x, key, onward, d_y, d_x):
            # For each key, the uses of x by node come in the order of the slots.
            source = node, x, key
            use, uses[source] = uses[source], uses[source] + 1
            shares = steps[node, x, use]
            # There is nothing to draw behind a cut.
            if d_x is not None or node.op is stop_gradient:
                add_to(shares, onward, d_x)

        exact = subgraph.graph is self._twin_graph
        carry(subgraph, gates, g, note, exact=exact)
        return steps

    # --- Everything, and the routes to one leaf ---------------------------------------

    def _carry_to_all_leaves(self, g: np.ndarray) -> None:
        y = self.graph.y
        self.arrived[y] = Gradient(g, g.astype(np.float64))
        leaves = [x for x in dict.fromkeys(self._tensors()) if x.op is None]
        leaves = [x for x in leaves if x.requires_grad]
        if not leaves:
            return
        gates = choose_gates(Subgraph(self.graph, *leaves))
        separated = {self.calls.get(t) for t in gates.names}
        self.normalizing = {t: c for t, c in gates.calls.items() if c in separated}
        for step, shares in self._carry(leaves, gates).items():
            self.everywhere[step] = _by_group(shares, avoids=False)
            for d in shares.values():
                if d is not None:
                    add_to(self.arrived, step[1], d)

    def find_routes_to(self, leaf: Tensor, wanted: Iterable[str] | None) -> None:
        """Separate the routes to ``leaf`` by the gates that they pass."""
        subgraph = Subgraph(self.graph, leaf)
        gates = choose_gates(subgraph, wanted)
        self.gates = gates.names
        every = subgraph.on_every_route()
        ahead = _before_batch_norm(subgraph, gates)
        for step, shares in self._carry([leaf], gates).items():
            node, x, _ = step
            avoids = bool(gates.calls) and x not in ahead
            self.toward_leaf[step] = _by_group(shares, avoids)
            whole = set(self.toward_leaf[step]) == {DIRECT}
            alone = node in every and len(subgraph.steps[node]) == 1
            if gates.names and whole and alone and x is not leaf:
                self.undivided.add(step)

    def near(self, leaf: Tensor) -> list[Scope]:
        """The calls of batch norm that the data enters first after ``leaf``."""
        reached = {leaf}
        found: dict[Scope, None] = {}
        for t in reversed(self.graph.order):
            if not reached.isdisjoint(self.graph.inputs(t)):
                call = batch_norm_around(t)
                if call is None or t in self.graph.definitions:
                    reached.add(t)
                else:
                    found[call] = None
        return list(found)

    def cut_groups(self) -> list[str]:
        """The groups with a route that is cut somewhere."""
        found = {
            group: None
            for shares in self.toward_leaf.values()
            for group, d in shares.items()
            if d is None
        }
        return list(found)

    def shares(
        self, uses: Iterable[tuple[Tensor, int]], opened: Collection[Scope] = ()
    ) -> Shares:
        """What each group contributes by these uses, ``(tensor, slot of its input)``.

        Steps that do not lead to the leaf carry all routes, except inside an ``opened``
        call of batch norm, which separates them.
        """
        everything = COMMON if self.gates else DIRECT
        total: Shares = {}
        for node, slot in uses:
            step = self.step(node, slot)
            shares = self.toward_leaf.get(step)
            if shares is None:
                shares = self.everywhere.get(step, {})
                whole = self.normalizing.get(node) not in opened
            else:
                whole = step in self.undivided
            for group, d in shares.items():
                add_to(total, everything if whole else group, d)
        return total

    def step(self, node: Tensor, slot: int) -> Step:
        inputs = self.graph.inputs(node)
        return node, inputs[slot], sum(x is inputs[slot] for x in inputs[:slot])

    # --- What is zero -----------------------------------------------------------------

    def shown(self, d: Gradient, others: Iterable[Gradient | None] = ()) -> np.ndarray:
        """A gradient, with 0 where it is only rounding compared with the ``others``."""
        exact = [other.exact for other in others if other is not None]
        return without_rounding(d.recorded, d.exact, scale_of([d.exact, *exact]))

    def values(self, t: Tensor) -> np.ndarray:
        """The values of a tensor, with 0 where a difference leaves only rounding."""
        inputs = [x for x in self.graph.inputs(t) if isinstance(x, Tensor)]
        if t.dtype.kind != "f" or not inputs:
            return t.data
        largest = max(_largest(self.twins[x].data) for x in inputs)
        return without_rounding(t.data, self.twins[t].data, np.array(1e-4 * largest))

    def sums_to_zero(self, d: Gradient) -> bool:
        """Whether a gradient is zero when it is summed over the batch."""
        axes = self._batch_axes(d.recorded.shape)
        return not (d.sums(axes) if axes else self.shown(d)).any()

    def _batch_axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes that batch norm averages over if it averages over the first."""
        if len(shape) < 2 or shape[0] < 2:
            return ()
        for t in self.calls:
            if t.ndim == len(shape) and t.shape[0] == 1:
                return tuple(i for i, n in enumerate(t.shape) if n < shape[i])
        return (0,)

    # --- Sizes and words --------------------------------------------------------------

    def relative_norm(self, g: np.ndarray) -> float:
        """The norm divided by the largest in the graph; 1 if it is not finite."""
        share = norm(g) / self._largest_norm
        return min(share, 1.0) if np.isfinite(share) else 1.0

    @cached_property
    def _largest_norm(self) -> float:
        norms = [norm(d.recorded) for d in self.arrived.values()]
        return max((n for n in norms if np.isfinite(n)), default=0.0) or 1.0

    def in_words(self, g: np.ndarray) -> str:
        """A symbol that equals ``g``, its numbers, or its norm."""
        if not g.any():
            return "0"
        for name, values in self.symbols.items():
            if word := _as_symbol(g, name, values):
                return word
        if g.size <= 3:
            return "  ".join(number(v, sign=True) for v in g.ravel())
        size = size_text(norm(g))
        return f"norm {size}" if np.isfinite(norm(g)) else size

    # --- NaN and infinity -------------------------------------------------------------

    def alarms(self) -> dict[Tensor, list[str]]:
        """Where NaN or infinity first appears, forward and backward."""
        found: dict[Tensor, list[str]] = defaultdict(list)
        for t in sorted(set(self._tensors()), key=lambda t: t.timestamp):
            if value := _not_finite(t.data):
                found[t].append(f"first {value}, forward")
                break
        for t in self.graph.order:
            for x in (t, *self.graph.inputs(t)):
                d = self.arrived.get(x) if isinstance(x, Tensor) else None
                if d is not None and (value := _not_finite(d.recorded)):
                    found[x].append(f"first {value}, backward")
                    return found
        return found


def add_to(total: dict, key: Any, d: Any) -> None:
    """Add a gradient to the ``total`` of its ``key``; None, which is cut, adds nothing.

    So a total is None only if all that was added to it is cut.
    """
    before = total.get(key)
    total[key] = d if before is None else before if d is None else before + d


def _before_batch_norm(subgraph: Subgraph, gates: Gates) -> set[Tensor]:
    """The tensors from which a route to the leaf still enters a call of batch norm."""
    found: set[Tensor] = set()
    for node, steps in reversed(subgraph.steps.items()):
        if any(x in found or x in gates.calls for x in steps):
            found.add(node)
    return found


def _by_group(shares: dict[Key, Gradient | None], avoids: bool) -> Shares:
    """The shares of the routes that pass the same gate first.

    ``avoids`` says that routes without a batch norm so far will not pass one later.
    """
    total: Shares = {}
    for key, d in shares.items():
        direct = AROUND if avoids and not key.normalized else DIRECT
        group = key.gates[0] if key.gates else direct
        add_to(total, group, d)
    return total


def _largest(values: np.ndarray) -> float:
    return largest_finite(values) if values.dtype.kind == "f" else 0.0


def _not_finite(values: np.ndarray) -> str:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return ""
    return "NaN" if np.isnan(values).any() else "∞"


def _as_symbol(g: np.ndarray, name: str, values: np.ndarray) -> str:
    """``name`` with a sign if that is ``g``; ``name/N`` if it is each of its N rows."""
    if values.ndim == 0 or g.shape[g.ndim - values.ndim :] != values.shape:
        return ""
    rows = g.reshape(-1, *values.shape)
    n = len(rows)
    for sign, scale in (("+", 1), ("−", -1)):
        if np.allclose(rows, scale * values / n, rtol=1e-6, atol=1e-12):
            plus = "" if sign == "+" and values.ndim > 1 else sign
            return plus + name + ("/N" if n > 1 else "")
    return ""
