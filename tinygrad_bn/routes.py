"""The gradient of a leaf, route by route.

Pullbacks are linear, so a backward pass may carry ``{route: cotangent}`` instead of one
cotangent: a gate adds its name to the routes that pass it. This is exact for every
graph, and the routes of a leaf sum to its gradient. For a bias in front of batch norm
they tell why that sum is zero: what arrives directly, ``via E[x]`` takes back.

==================  ====================================================================
route               a way from the loss to a leaf, told by the gates that it passes
gate                a named interior tensor that some routes pass and others do not
cut                 a route that ``stop_gradient`` interrupts: nothing arrives by it
residue             what rounding leaves of a sum that is zero in exact arithmetic
==================  ====================================================================

This file comes after ``batchnorm.py`` in the reading order.

Left out on purpose: routes of second derivatives (differentiate first, then explain),
and the search for gates nobody named: what a picture should tell apart, its author
names.
"""

import html
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from .backward import Fused, initial_cotangent, refuse_changed_leaves, tape
from .errors import describe
from .ops import broadcast_to, stop_gradient
from .tensor import Tensor

MAX_ROUTES = 16
MANY = 6


@dataclass(frozen=True, eq=False)
class Route:
    """One way of the gradient, and what arrives by it.

    ``gates`` are the names passed, from the loss to the leaf; ``gradient`` the
    contribution, shaped like the leaf, zeros where the route is ``cut``; ``merged`` how
    many routes this row stands for, when there were too many to tell one by one;
    ``because`` why it brings 0, where that is seen.
    """

    gates: tuple[str, ...]
    gradient: np.ndarray
    cut: bool = False
    merged: int = 1
    because: str = ""

    def __str__(self) -> str:
        if self.merged > 1:
            return f"{self.merged} other routes"
        return "via " + ", then ".join(self.gates) if self.gates else "direct"


@dataclass(frozen=True, eq=False)
class Explanation:
    """The routes from ``y`` to ``leaf``: it can be iterated, printed, shown in a
    notebook.

    ``total`` is their sum, the gradient of the leaf.
    """

    y: Tensor = field(repr=False)
    leaf: Tensor
    routes: tuple[Route, ...]
    leaf_name: str = "leaf"

    def __iter__(self) -> Iterator[Route]:
        return iter(self.routes)

    def __len__(self) -> int:
        return len(self.routes)

    def __getitem__(self, i: int) -> Route:
        return self.routes[i]

    @property
    def total(self) -> np.ndarray:
        nothing = np.zeros(self.leaf.shape, self.leaf.dtype)
        return sum((r.gradient for r in self.routes), nothing)

    @property
    def scale(self) -> float:
        """The largest entry of any route: what a residue is small beside."""
        return max(
            (np.abs(r.gradient).max(initial=0) for r in self.routes), default=0.0
        )

    @property
    def residue(self) -> float:
        """The size up to which an entry is rounding, not gradient."""
        return rounding(self.leaf.dtype, self.scale)

    @property
    def cancels(self) -> bool:
        """Whether gradients arrive, and their sum is zero up to rounding."""
        return self.scale > 0 and bool((np.abs(self.total) <= self.residue).all())

    def rows(self) -> Iterator[tuple[str, list[str], str]]:
        """The rows of the table: a route, its entries as text, and why they are 0."""
        for route in self.routes:
            entries = ["cut"] if route.cut else self._entries(route.gradient)
            yield str(route), entries, route.because
        yield "total", self._entries(self.total), ""

    def _entries(self, gradient: np.ndarray) -> list[str]:
        sign = "norm " if gradient.size > MANY else ""
        return [self._entry(v, sign) for v in entries(gradient)]

    def _entry(self, v: float, norm: str) -> str:
        if abs(v) <= self.residue:
            return "0"
        if norm:
            return f"norm {v:.4g}"
        return f"{v:+.4f}" if 5e-4 <= abs(v) < 1e4 else f"{v:+.1e}"

    @property
    def heading(self) -> str:
        return f"contribution to d{self.y.name or 'L'}/d{self.leaf_name}"

    def remark(self) -> str:
        """What the table leaves unsaid: that there is no route, or how large a 0
        was."""
        if not self.routes:
            return (
                f"no route: {describe(self.y)} does not depend on {describe(self.leaf)}"
            )
        shown = [r.gradient for r in self.routes if not r.cut] + [self.total]
        values = np.abs([v for gradient in shown for v in entries(gradient)])
        hidden = values[values <= self.residue].max(initial=0)
        if hidden > 1e-12 * self.scale:
            return f"0 stands for rounding residue of up to {hidden:.1g}"
        return ""

    def __str__(self) -> str:
        rows = list(self.rows())
        width = max(len(label) for label, _, _ in rows)
        column = max((len(e) for _, entries, _ in rows for e in entries), default=1)
        lines = [f"{'route':<{width}}   {self.heading}"]
        for label, entries, because in rows:
            cells = "  ".join(f"{entry:>{column}}" for entry in entries)
            lines.append(f"{label:<{width}}   {cells}   {because}".rstrip())
        return "\n".join([*lines, *filter(None, [self.remark()])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        columns = max(len(entries) for _, entries, _ in self.rows())
        heading = f'<th colspan="{columns}">{html.escape(self.heading)}</th>'
        lines = [f'<tr><th style="text-align:left">route</th>{heading}</tr>']
        for label, entries, because in self.rows():
            span = f' colspan="{columns}"' if len(entries) < columns else ""
            cells = "".join(f"<td{span}>{html.escape(entry)}</td>" for entry in entries)
            cells += f"<td>{html.escape(because)}</td>" if because else ""
            label = html.escape(label)
            lines.append(f'<tr><td style="text-align:left">{label}</td>{cells}</tr>')
        remark = f"<p>{html.escape(self.remark())}</p>" if self.remark() else ""
        return f"<table>{''.join(lines)}</table>{remark}"


def entries(gradient: np.ndarray) -> list[float]:
    """The columns of a table: each value, or the norm where there are many."""
    if gradient is None:
        return None
    many = np.size(gradient) > MANY
    return [float(np.linalg.norm(gradient))] if many else np.ravel(gradient).tolist()


def rounding(dtype: np.dtype, scale: float) -> float:
    """The size up to which sums of numbers as large as ``scale`` may be rounding."""
    return (
        1000 * float(np.finfo(dtype).eps) * float(scale) if dtype.kind == "f" else 0.0
    )


def explain(
    y: Tensor, leaf: Tensor, gradient=None, gates: Iterable[str] | None = None
) -> Explanation:
    """Tell by which routes the gradient of ``y`` reaches ``leaf``, and how much by
    each.

    ``gradient`` is the cotangent to start from, shaped like ``y``; 1 if left out, which
    a ``y`` of one element allows. ``gates`` are the names that tell routes apart, taken
    literally; by default those of all interior tensors that some routes pass and others
    do not. Fused operations are looked through. Of more than 16 routes the largest are
    kept.

    Raises: ``ValueError`` for a ``y`` without history, a leaf that requires no
    gradient, a gate that is not there, a missing or misshapen ``gradient``.
    """
    refuse_unrecorded("explain", y)
    refuse_unexplainable("explain", leaf)
    ways = Ways(Unfolded(y), leaf)
    names = ways.gates(gates)
    sums: list[tuple[tuple, float, float]] = []

    def note_sums(node, x, key, d_y, d_x):
        if node.op is broadcast_to and d_x is not None:
            sums.append((key.gates, np.abs(d_y).max(), np.abs(d_x).max()))

    arrived, merged = carry(ways, names, initial_cotangent(y, gradient), note_sums)
    shares = {key: _share(g, leaf) for key, g in arrived[leaf].items()}
    scale = max((np.abs(g).max(initial=0) for g in shares.values()), default=0.0)
    residue = rounding(leaf.dtype, scale)
    vanished = [gates for gates, before, after in sums if after <= residue < before]

    def why_zero(key: Key, g: np.ndarray) -> str:
        if key.cut or key.rest or (np.abs(g) > residue).any():
            return ""
        begins = any(key.gates[: len(gates)] == gates for gates in vanished)
        return "because its rows sum to 0" if begins else ""

    routes = [
        Route(key.gates, g, key.cut, merged if key.rest else 1, why_zero(key, g))
        for key, g in shares.items()
    ]
    order = {name: -i for i, name in enumerate(names.values())}
    routes.sort(
        key=lambda r: (r.merged > 1, len(r.gates), [order[g] for g in r.gates], r.cut)
    )
    return Explanation(y, leaf, tuple(routes), ways.graph.name(leaf) or "leaf")


def what_cancels(y: Tensor, leaf: Tensor, gradient=None) -> Explanation | None:
    """The routes that cancel at ``leaf``, told by the gate nearest to it; else None.

    They are followed from the tensor at which they part. There arrives a random
    cotangent, or what arrives of ``gradient``, the cotangent of ``y``.
    """
    graph = Unfolded(y)
    ways = Ways(graph, leaf)
    if not (gates := list(ways.gates(None).items())):
        return None
    nearest, name = gates[-1]
    parting = ways.parting(nearest)
    if gradient is None:
        g = np.random.default_rng(0).standard_normal(parting.shape)
    else:
        arrived, _ = carry(Ways(graph, parting), {}, initial_cotangent(y, gradient))
        g = sum(d for d in arrived[parting].values() if d is not None)
    routes = explain(parting, leaf, g, gates=(name,))
    return routes if routes.cancels else None


def refuse_unexplainable(function: str, leaf: Tensor) -> None:
    """Raise if there is no gradient of ``leaf`` to tell about."""
    if not isinstance(leaf, Tensor) or not leaf.requires_grad:
        raise ValueError(
            f"{function}(y, leaf): the leaf must be a tensor that requires a gradient, "
            f"but {describe(leaf)} was received. Make it with requires_grad=True."
        )


def refuse_unrecorded(function: str, y: Tensor) -> None:
    """Raise if there is no graph behind ``y``, and say why that may be."""
    if not isinstance(y, Tensor):
        raise TypeError(
            f"{function}(y): y must be a tensor, but {describe(y):.60} was received."
        )
    if y.op is None and y.requires_grad:
        raise ValueError(
            f"{function}(y): y must be computed from something, but {describe(y)} is a "
            f"leaf. The order is {function}(y, leaf)."
        )
    if y.op is None:
        raise ValueError(
            f"{function}(y): y must be computed from something that requires a "
            f"gradient, but nothing was recorded for {describe(y)}. Was it computed "
            "under no_grad(), detached, or made of tensors without requires_grad=True?"
        )


class Unfolded:
    """The operations behind ``y``, with fused ones replaced by their definitions.

    ``order`` lists tensors so that each comes before those it was made of. An unfolded
    operation stays in it, made of nothing but the output of its definition;
    ``definitions`` leads from the one to the other, ``within`` from the tensors of a
    definition to the operation that it defines.
    """

    def __init__(self, y: Tensor, opened: Callable[[Tensor], bool] = lambda node: True):
        self.y, self.opened = y, opened
        self.definitions: dict[Tensor, Tensor] = {}
        self.within: dict[Tensor, Tensor] = {}
        self.order = self._look_through(y, frozenset())
        self.names: dict[Tensor, str | None] = {}
        for node in self.order:
            for x in self.inputs(node):
                if isinstance(x, Tensor) and x.op is None:
                    self.names.setdefault(x, x.qualified_name(node.scope))

    def name(self, t: Tensor) -> str | None:
        """The name of a tensor of the graph; for a parameter, its qualified name."""
        return self.names.get(t, t.name)

    def _look_through(self, y: Tensor, boundary: Collection[Tensor]) -> list[Tensor]:
        found = []
        for node in tape(y, boundary, through_cuts=True):
            refuse_changed_leaves(node)
            found.append(node)
            if isinstance(node.op, Fused) and self.opened(node):
                self.definitions[node] = node.op.unfold(node)
                inputs = {x for x in node.inputs if isinstance(x, Tensor)}
                inside = self._look_through(self.definitions[node], inputs)
                self.within |= {t: node for t in inside if t not in self.within}
                found += inside
        return found

    def inputs(self, node: Tensor) -> tuple:
        """What ``node`` was made of."""
        return (self.definitions[node],) if node in self.definitions else node.inputs


class Ways:
    """What lies between the output of a graph and some tensors, the targets.

    ``steps`` gives, for each tensor between them, those to which its gradient goes on,
    and whether that step is a cut; its order is that of the graph.
    """

    def __init__(self, graph: Unfolded, *targets: Tensor):
        self.graph, self.y, self.targets = graph, graph.y, dict.fromkeys(targets)
        reaches, beyond_cut = set(targets), set()
        for node in reversed(graph.order):
            inputs = graph.inputs(node)
            if not reaches.isdisjoint(inputs):
                reaches.add(node)
                if node.op is stop_gradient or not beyond_cut.isdisjoint(inputs):
                    beyond_cut.add(node)
        self.steps: dict[Tensor, dict[Tensor, bool]] = {
            node: self._steps_from(node, reaches, beyond_cut)
            for node in graph.order
            if node in reaches
        }

    def _steps_from(self, node: Tensor, reaches: set, beyond_cut: set) -> dict:
        """The steps on from ``node``, and whether each is a cut.

        A step without a gradient counts only where ``stop_gradient`` is to blame;
        others, such as the step into a mask, are no way at all.
        """
        inputs = (x for x in self.graph.inputs(node) if is_in(x, reaches))
        steps = {x: not self._flows(node, x) for x in inputs}
        blamed = node.op is stop_gradient
        return {
            x: cut for x, cut in steps.items() if not cut or blamed or x in beyond_cut
        }

    def _flows(self, node: Tensor, x: Tensor) -> bool:
        if node in self.graph.definitions:
            return True
        return x.requires_grad and any(
            node.op.differentiates(i) for i, v in enumerate(node.inputs) if v is x
        )

    def pull(self, node: Tensor, g) -> Iterator[tuple]:
        """Where the cotangent ``g`` of ``node`` goes on to, as what: None if it is
        cut."""
        steps = self.steps[node]
        if g is None or node in self.graph.definitions:
            yield from ((x, g) for x in steps)
        else:
            yield from ((x, None) for x, cut in steps.items() if cut)
            needed = {x for x, cut in steps.items() if not cut}
            needs = [isinstance(x, Tensor) and x in needed for x in node.inputs]
            yield from node.op.apply_pullbacks(g, node, needs)

    def gates(self, wanted: Iterable[str] | None) -> dict[Tensor, str]:
        """The tensors whose names tell routes apart, from the loss to the leaf."""
        ends = {self.y, *self.targets}
        named = {
            node: node.qualified_name()
            for node in self.steps
            if node.name is not None and node not in ends
        }
        if wanted is not None:
            wanted = {wanted} if isinstance(wanted, str) else set(wanted)
            if missing := wanted - set(named.values()):
                raise ValueError(
                    f"gates must be names of tensors between {describe(self.y)} and "
                    f"{describe(next(iter(self.targets)))}, but {sorted(missing)} is not among "
                    f"{sorted(set(named.values()))}. Name a tensor with .named()."
                )
            return {node: name for node, name in named.items() if name in wanted}
        every = self._passed_by_every_route()
        return {node: name for node, name in named.items() if node not in every}

    def _passed_by_every_route(self) -> set[Tensor]:
        from_y, to_target, every = self.count_routes()
        return {node for node in self.steps if from_y[node] * to_target[node] == every}

    def parting(self, gate: Tensor) -> Tensor:
        """The last tensor before ``gate`` that every route passes."""
        every = self._passed_by_every_route()
        before = itertools.takewhile(lambda node: node is not gate, self.steps)
        return [node for node in before if node in every][-1]

    def gates_ahead(self, names: dict[Tensor, str]) -> dict[Tensor, set]:
        """The gates that may come next on the way from each tensor, None for none."""
        ahead: dict[Tensor, set] = {target: {None} for target in self.targets}
        for node, steps in reversed(self.steps.items()):
            if node not in self.targets:
                ahead[node] = set().union(
                    *({x} if x in names else ahead[x] for x in steps)
                )
        return ahead

    def count_routes(self) -> tuple[dict, dict, int]:
        """How many routes lead to each tensor, how many on from it, and all in all."""
        from_y = dict.fromkeys(self.steps, 0) | {self.y: 1}
        for node, steps in self.steps.items():
            for x in steps:
                from_y[x] = from_y.get(x, 0) + from_y[node]
        to_target = dict.fromkeys(self.targets, 1)
        for node, steps in reversed(self.steps.items()):
            if node not in self.targets:
                to_target[node] = sum(to_target.get(x, 0) for x in steps)
        return from_y, to_target, to_target.get(self.y, 0)


@dataclass(frozen=True)
class Key:
    """What tells apart the cotangents that arrive at one tensor.

    ``rest`` marks the one that stands for all routes that are not told one by one.
    """

    gates: tuple[str, ...] = ()
    cut: bool = False
    rest: bool = False


def carry(
    ways: Ways, names: dict[Tensor, str], g: np.ndarray, observe=None
) -> tuple[dict[Tensor, dict], int]:
    """A backward pass with one cotangent per route, None where a route is cut.

    ``names`` are the gates. ``observe(node, x, key, d_y, d_x)``, if given, is told of
    each step. Returns what arrives at each target, and how many routes are in the rest.
    """
    carried = {ways.y: {Key(): g}}
    merged_at: list[tuple[Tensor, tuple]] = []
    for node in ways.steps:
        routes = (
            carried.get(node, {}) if node in ways.targets else carried.pop(node, {})
        )
        if node in names:
            routes = {_passing(key, names[node]): d_y for key, d_y in routes.items()}
        routes, small = _largest(routes)
        merged_at += [(node, key.gates) for key in small]
        for key, d_y in routes.items():
            for x, d_x in ways.pull(node, d_y):
                onward = Key(key.gates, key.cut or d_x is None, key.rest)
                _put(carried.setdefault(x, {}), onward, d_x)
                if observe is not None:
                    observe(node, x, onward, d_y, d_x)
    arrived = {x: carried.get(x, {}) for x in ways.targets}
    if len(ways.targets) > 1 or not names:
        return arrived, 0
    (target,) = ways.targets
    routes = _whole(arrived[target], merged_at, ways.gates_ahead(names), names)
    told = {key.gates for key in routes if not key.rest}
    return {target: routes}, _count(ways, names) - len(told)


def is_in(x, tensors) -> bool:
    """Whether an input of an operation is one of these tensors."""
    return isinstance(x, Tensor) and x in tensors


def _share(g: np.ndarray | None, leaf: Tensor) -> np.ndarray:
    return np.zeros(leaf.shape, leaf.dtype) if g is None else g


def _passing(key: Key, gate: str) -> Key:
    return key if key.rest else Key((*key.gates, gate), key.cut)


def _put(routes: dict, key: Key, g) -> None:
    before = routes.get(key)
    routes[key] = g if before is None else before + g


def _largest(routes: dict) -> tuple[dict, list[Key]]:
    """At most ``MAX_ROUTES`` routes, and the small ones, which are in the rest now."""
    if len(routes) <= MAX_ROUTES:
        return routes, []
    size = {
        k: -1.0 if g is None else float(np.linalg.norm(g)) for k, g in routes.items()
    }
    told = sorted((k for k in routes if not k.rest), key=lambda k: (-size[k], k.gates))
    small = told[MAX_ROUTES - 1 :]
    return _with_rest(routes, small), small


def _with_rest(routes: dict, small: Iterable[Key]) -> dict:
    """The routes, with the small ones added to the rest."""
    kept = {key: g for key, g in routes.items() if key not in small}
    for key in small:
        g = routes[key]
        _put(kept, Key(cut=g is None, rest=True), g)
    cut, alive = Key(cut=True, rest=True), Key(rest=True)
    if cut in kept and alive in kept:
        del kept[cut]
    return kept


def _whole(routes: dict, merged_at: list, ahead: dict, names: dict) -> dict:
    """The routes that arrived whole; one of which a part was merged joins the rest.

    It would otherwise be told with too small a gradient.
    """

    def is_partial(key: Key) -> bool:
        for node, gates in merged_at:
            if key.gates[: len(gates)] == gates:
                following = key.gates[len(gates) :]
                nexts = {names.get(gate) for gate in ahead[node]}
                if (following[0] if following else None) in nexts:
                    return not key.rest
        return False

    return _largest(_with_rest(routes, [key for key in routes if is_partial(key)]))[0]


def _count(ways: Ways, names: dict[Tensor, str]) -> int:
    """How many routes there are: the ways from gate to gate."""
    ahead, onward = ways.gates_ahead(names), {None: 1}
    for node in [*reversed(names), ways.y]:
        onward[node] = sum(onward[gate] for gate in ahead[node]) if node in ahead else 0
    return onward[ways.y]


__all__ = ["MAX_ROUTES", "Explanation", "Route", "explain"]
