"""Which tensors share a box: operations are absorbed, folded, opened, or shown.

    place       what a box stands for: a tensor, a folded call, or a ``Rest``
    call        a scope: one call of a module or composite
    near        the calls of batch norm next to the leaf that is explained
    formula     the text of a box that absorbs the operations leading to it; without
                formulas, each operation has its own box
    container   a module with modules inside, which are drawn in its place
    rest        neighboring places, folded into one because the picture is too large

This file comes after ``formula.py`` in the reading order; ``boxes.py``, which fills the
boxes, is next.

Left out on purpose: folding by the size of gradients, because a picture would then
change its form from batch to batch.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from ..explanation import MANY
from ..gates import STATISTICS, batch_norm_around
from ..graph import Unfolded
from ..nn import Module
from ..scopes import Scope, enclosing, module_calls
from ..tensor import Tensor
from .formula import LONGEST, Formulas, together

# Input data keeps its box next to a rest, unless there is more than this.
MOST_INPUTS = 2


@dataclass(eq=False)
class Rest:
    """Places that are folded into one: names of modules, and a count of operations."""

    modules: list[str] = field(default_factory=list)
    operations: int = 0

    def title(self) -> str:
        """The names of its first and last module, or dots if there is at most one."""
        names = list(dict.fromkeys(self.modules))
        return f"{names[0]} … {names[-1]}" if len(names) > 1 else "…"


Place = Tensor | Scope | Rest


@dataclass(frozen=True)
class Options:
    """The choices of the caller of ``draw``."""

    leaf: Tensor | None = None
    opened: frozenset[str] = frozenset()
    depth: int | None = None
    max_nodes: int = 40


class Places:
    """The place of every tensor of a graph, in ``of``; ``order`` lists the places.

    If a leaf is explained, operations are drawn as formulas, and the ``near`` calls and
    those around the ``inner`` tensors are open. Otherwise only what the caller opened
    is.
    """

    def __init__(
        self,
        graph: Unfolded,
        options: Options,
        near: Collection[Scope] = (),
        inner: Collection[Tensor] = (),
    ):
        self.graph, self.options, self.leaf = graph, options, options.leaf
        self.near, self.inner = set(near), set(inner)
        self.formulas = Formulas(graph)
        self.of: dict[Tensor, Place] = {}
        self.users: dict[Tensor, list[tuple[Tensor, int]]] = defaultdict(list)
        for t in graph.order:
            for slot, x in enumerate(graph.inputs(t)):
                if isinstance(x, Tensor):
                    self.users[x].append((t, slot))
        self._find_open_calls()
        self._place_operations()
        self._place_leaves()
        self.order = self._in_order()

    # --- What is open -----------------------------------------------------------------

    def _find_open_calls(self) -> None:
        self.calls: dict[Scope, None] = {}
        self.asked: set[Scope] = set()
        self.open: set[Scope] = set()
        self.open_fused: set[Tensor] = set()
        opened = self.options.opened
        for t in reversed(self.graph.order):
            around = list(scopes(t))
            self.calls.update(dict.fromkeys(around))
            asked = [call for call in around if call_name(call) in opened]
            self.asked.update(asked)
            fused = t.op is not None and t.op.name in opened
            if t in self.inner or fused or not self.near.isdisjoint(around):
                self.open.update(around)
                self.open_fused.add(self.graph.within.get(t, t))
            for call in asked:
                self.open.update(enclosing(call))
                if call.owner is None:
                    self.open_fused.add(self.graph.within.get(t, t))

    def _is_open(self, scope: Scope) -> bool:
        """Whether the boxes inside a call are drawn, rather than one for all of it."""
        if scope in self.open:
            return True
        if scope.owner is None:
            far = self.leaf is not None and scope in self.normalizing - self.near
            return self._in_formulas(scope) and not far
        depth = self.options.depth
        return is_container(scope.owner) and (depth is None or level(scope) < depth)

    @cached_property
    def normalizing(self) -> set[Scope]:
        """The calls of batch norm that compute statistics."""
        named = (t for t in self.graph.order if t.name in STATISTICS)
        return {call for t in named if (call := batch_norm_around(t)) is not None}

    def definition_is_open(self, fused: Tensor) -> bool:
        """Whether the definition of a fused operation is drawn instead of it."""
        return fused in self.open_fused or module_call(fused) in self.asked

    def as_formula(self, t: Tensor) -> bool:
        """Whether the box of ``t`` shows its formula, rather than its operation."""
        return self._in_formulas(t.scope)

    def _in_formulas(self, scope: Scope | None) -> bool:
        if self.leaf is not None:
            return True
        calls = module_calls(scope)
        return any(c in self.asked and not is_container(c.owner) for c in calls)

    # --- Operations -------------------------------------------------------------------

    def _place_operations(self) -> None:
        defined = set(self.graph.definitions.values())
        for t in self.graph.order:
            self.of[t] = self._place_of(t)
        self.formulas.name_constants(filter(self.shows, reversed(self.graph.order)))
        absorbed = set()
        for t in reversed(self.graph.order):
            text = self.formulas.visit(t)
            if not self.shows(t):
                self.formulas.folded.add(t)
            elif t in defined:
                absorbed.add(t)
            elif t.name is None and self._drawn_with_its_user(t):
                assert t.op is not None
                silent = t.op.name in ("broadcast_to", "stop_gradient")
                if len(text) <= LONGEST or silent:
                    absorbed.add(t)
                else:
                    self.formulas.show(t)
        for t in self.graph.order:
            if t in absorbed:
                self.of[t] = self.of[self.users[t][0][0]]

    def _place_of(self, t: Tensor) -> Place:
        """The outermost folded call around ``t``, or ``t`` itself."""
        outer = self.graph.within.get(t)
        if outer is not None and not self.definition_is_open(outer):
            return self.of[outer]
        closed = [scope for scope in scopes(t) if not self._is_open(scope)]
        return closed[-1] if closed else t

    def _drawn_with_its_user(self, t: Tensor) -> bool:
        if len(self.users[t]) != 1 or not self.as_formula(t):
            return False
        ((user, _),) = self.users[t]
        if t in self.graph.definitions or batch_norm_around(t) not in (
            None, batch_norm_around(user)
        ):  # fmt: skip
            return False  # The output of batch norm always has its own box.
        return module_call(t) is module_call(user) and self.of[user] is user

    def shows(self, t: Tensor) -> bool:
        """Whether ``t`` has a box of its own."""
        return self.of[t] is t

    def factor(self, node: Tensor, slot: int) -> str:
        """The factors of a gradient in the box that it leaves by this step.

        The text is empty if there are several paths through the box.
        """
        box, factors = self.of[node], [self.formulas.factor(node, slot)]
        if isinstance(box, Rest):
            return ""
        while any(self.of[user] is box for user, _ in self.users[node]):
            if len(self.users[node]) > 1:
                return ""
            ((node, slot),) = self.users[node]
            factors.insert(0, self.formulas.factor(node, slot))
        return together(factors)

    # --- Leaves -----------------------------------------------------------------------

    def _place_leaves(self) -> None:
        for x, uses in self.users.items():
            if x.op is None:
                places = list(dict.fromkeys(self.of[node] for node, _ in uses))
                self.of[x] = places[-1] if self._belongs_to(places, x) else x

    def _belongs_to(self, places: list[Place], x: Tensor) -> bool:
        """Whether a leaf is drawn inside the box that uses it first.

        A parameter of a module that is called several times belongs to the first call.
        """
        if x is self.leaf:
            return False
        if len(places) > 1:
            owners = {p.owner if isinstance(p, Scope) else None for p in places}
            return x.requires_grad and len(owners) == 1 and None not in owners
        (place,) = places
        unnamed = self.graph.name(x) is None
        if isinstance(place, Scope):
            return x.requires_grad or unnamed and self._is_part(place, x)
        if isinstance(place, Rest):
            return False
        if x.requires_grad:
            # If another leaf is explained, a bar is enough for a large parameter.
            return self.leaf is not None and x.size > MANY
        if not unnamed:
            return False
        inside = place in self.graph.definitions and x not in set(place.inputs)
        plain = x.size == 1 or x.dtype.kind != "f"
        return inside or plain or self.as_formula(place)

    def _is_part(self, call: Scope, x: Tensor) -> bool:
        """Whether unnamed data is a constant of a call, rather than an input to it."""
        return x.size == 1 or x.dtype.kind != "f" or call in enclosing(x.scope)

    # --- Too large --------------------------------------------------------------------

    def _in_order(self) -> list[Place]:
        """The places of operations, each after those that it depends on."""
        places = list(dict.fromkeys(self.of[t] for t in reversed(self.graph.order)))
        needs: dict[Place, dict[Place, None]] = {place: {} for place in places}
        for t in reversed(self.graph.order):
            for x in self.graph.inputs(t):
                if isinstance(x, Tensor) and x.op is not None:
                    needs[self.of[t]][self.of[x]] = None
        order: dict[Place, None] = {}
        for last in places:
            waiting = [last]
            while waiting:
                place = waiting[-1]
                missing = [p for p in needs[place] if p not in order and p is not place]
                if missing and len(waiting) <= len(places):
                    waiting += missing
                else:
                    order[waiting.pop()] = None
        return list(order)

    def boxes(self) -> int:
        """The number of boxes."""
        return len(set(self.of.values()))

    def newest(self, count: int, visible: set[Place]) -> set[Place]:
        """The ``visible`` places, and those nearest to the output, ``count`` in all."""
        visible = set(visible)
        leaves: dict[Place, set[Place]] = defaultdict(set)
        for x, uses in self.users.items():
            if x.op is None:
                for node, _ in uses:
                    leaves[self.of[node]].add(self.of[x])
        for place in reversed(self.order):
            near = {place} | leaves[place]
            # The rest needs one more box.
            if len(visible | near) >= count:
                break
            visible |= near
        return visible

    def fold_all_but(self, visible: set[Place]) -> None:
        """Fold each run of neighboring places that are not ``visible`` into one."""
        runs: list[list[Place]] = [[]]
        for place in self.order:
            if place not in visible:
                runs[-1].append(place)
            elif runs[-1]:
                runs.append([])
        rests: dict[Place, Place] = {}
        for run in runs:
            if len(run) > 1:
                rests |= dict.fromkeys(run, _rest_of(run))
        self.order = list(dict.fromkeys(rests.get(p, p) for p in self.order))
        for t, place in self.of.items():
            self.of[t] = rests.get(place, place)
        inside = [x for x in self.users if x.op is None and self._is_inside_rest(x)]
        inside = [x for x in inside if x not in visible]
        inputs = {x for x in inside if not x.requires_grad}
        for x in inside:
            if x not in inputs or len(inputs) > MOST_INPUTS:
                self.of[x] = self.of[self.users[x][0][0]]

    def _is_inside_rest(self, x: Tensor) -> bool:
        places = {self.of[node] for node, _ in self.users[x]}
        return len(places) == 1 and isinstance(places.pop(), Rest)


def _rest_of(run: list[Place]) -> Rest:
    calls = [p for p in run if isinstance(p, Scope) and p.owner is not None]
    return Rest([call_name(call) for call in calls], len(run) - len(calls))


def scopes(t: Tensor) -> Iterator[Scope]:
    """The calls in which ``t`` was made, innermost first; none for a leaf."""
    return enclosing(t.scope if t.op is not None else None)


def module_call(t: Tensor) -> Scope | None:
    """The innermost call of a module in which ``t`` was made."""
    return next(module_calls(t.scope), None)


def call_name(scope: Scope) -> str:
    """The name by which ``open=`` asks for a call."""
    return scope.name or type(scope.owner).__name__


def level(scope: Scope) -> int:
    """The number of module calls around this one."""
    return len(list(module_calls(scope.parent)))


def is_container(module: Module) -> bool:
    return any(m is not module for m in module.modules())
