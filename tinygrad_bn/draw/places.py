"""Which tensors share a box: operations are absorbed, folded, opened, or shown.

==================  ====================================================================
place               what a box stands for: a tensor, a folded call, or the rest
call                a scope: one call of a module or composite
told as formula     drawn with what it computes, absorbing what is computed on the way;
                    elsewhere each operation is a box of its own
container           a module with modules inside, which are drawn in its stead
==================  ====================================================================
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property

from ..nn import Module
from ..routes import Unfolded
from ..scopes import Scope
from ..tensor import Tensor
from .formula import LONGEST, Formulas, together

REST = "rest"


class Places:
    """The place of every tensor of a graph, in ``of``.

    Where a ``leaf`` is explained, all is told as formulas, and calls that contain
    ``gates`` are open; elsewhere only what is inside the modules named in ``opened``.
    """

    def __init__(
        self, graph: Unfolded, leaf, gates: Iterable[Tensor], opened, max_nodes
    ):
        self.graph, self.leaf, self.opened = graph, leaf, opened
        self.max_nodes = max_nodes
        self.gates = set(gates)
        self.around_gates = {scope for gate in self.gates for scope in scopes(gate)}
        self.fused_around_gates = {graph.within.get(gate) for gate in self.gates}
        self.formulas = Formulas(graph)
        self.of: dict[Tensor, object] = {}
        self.users: dict[Tensor, list[tuple[Tensor, int]]] = defaultdict(list)
        self._place_operations()
        self._place_leaves()
        self.hidden = self._fold_the_rest()

    # --- Operations -------------------------------------------------------------------

    def _place_operations(self) -> None:
        for t in self.graph.order:
            for slot, x in enumerate(self.graph.inputs(t)):
                if is_tensor(x):
                    self.users[x].append((t, slot))
        defined = set(self.graph.definitions.values())
        for t in self.graph.order:
            self.of[t] = self._folded_into(t) or t
        absorbed = set()
        for t in reversed(self.graph.order):
            text = self.formulas.visit(t)
            if self.of[t] is not t:
                self.formulas.folded.add(t)
            elif t in defined:
                absorbed.add(t)
            elif t.name is None and self._drawn_with_its_user(t):
                if len(text) <= LONGEST or t.op.name in (
                    "broadcast_to",
                    "stop_gradient",
                ):
                    absorbed.add(t)
                else:
                    self.formulas.show(t)
        for t in self.graph.order:
            if t in absorbed:
                self.of[t] = self.of[self.users[t][0][0]]

    def _drawn_with_its_user(self, t: Tensor) -> bool:
        if len(self.users[t]) != 1 or not self.as_formula(t):
            return False
        ((user, _),) = self.users[t]
        return module_call(t) is module_call(user) and self.of[user] is user

    def factor(self, node: Tensor, slot: int) -> str:
        """What a gradient is multiplied by on its way out of a box that tells a
        formula."""
        box, factors = self.of[node], [self.formulas.factor(node, slot)]
        while node is not box:
            if not is_tensor(box) or len(self.users[node]) > 1:
                return ""
            ((node, slot),) = self.users[node]
            factors.insert(0, self.formulas.factor(node, slot))
        return together(factors)

    def as_formula(self, t: Tensor) -> bool:
        """Whether the box of ``t`` tells its formula, rather than its operation."""
        return self._in_formulas(t.scope)

    def _in_formulas(self, scope: Scope | None) -> bool:
        return self.leaf is not None or any(
            s in self.opened_calls for s in outward(scope)
        )

    @cached_property
    def opened_calls(self) -> list[Scope]:
        """The calls of modules that the caller wants open."""
        found = dict.fromkeys(s for t in self.graph.order for s in scopes(t))
        return [s for s in found if s.owner is not None and call_name(s) in self.opened]

    def _folded_into(self, t: Tensor):
        """The outermost call around ``t`` that is drawn as one box, if any."""
        outer = self.graph.within.get(t)
        if outer is not None and not self._definition_is_open(outer):
            return self.of[outer]
        closed = [scope for scope in scopes(t) if not self._is_open(scope)]
        return closed[-1] if closed else None

    def _definition_is_open(self, fused: Tensor) -> bool:
        """Whether the definition of a fused operation is drawn in its stead."""
        return opens(fused, self.opened) or fused in self.fused_around_gates

    def _is_open(self, scope: Scope) -> bool:
        """Whether the boxes inside a call are drawn, rather than one for all of it."""
        if scope in self.around_gates or call_name(scope) in self.opened:
            return True
        return (
            self._in_formulas(scope)
            if scope.owner is None
            else is_container(scope.owner)
        )

    # --- Leaves -----------------------------------------------------------------------

    def _place_leaves(self) -> None:
        users: dict[Tensor, set] = {}
        for t in self.graph.order:
            for x in self.graph.inputs(t):
                if is_tensor(x) and x.op is None:
                    users.setdefault(x, set()).add(self.of[t])
        for x, places in users.items():
            place = next(iter(places))
            self.of[x] = place if len(places) == 1 and self._belongs_to(place, x) else x

    def _belongs_to(self, place, x: Tensor) -> bool:
        """Whether a leaf is drawn inside the only box that uses it."""
        if x is self.leaf:
            return False
        if isinstance(place, Scope):
            return x.requires_grad or self.graph.name(x) is None
        if x.requires_grad or self.graph.name(x) is not None:
            return False
        return self.as_formula(place) or x.size == 1 or x.dtype.kind != "f"

    # --- Too much ---------------------------------------------------------------------

    def _fold_the_rest(self) -> int:
        """Put the operations farthest from the output in one place; how many they
        are."""
        if len(set(self.of.values())) <= self.max_nodes:
            return 0
        kept = {self.leaf}
        for t in self.graph.order:
            leaves = (x for x in self.graph.inputs(t) if is_tensor(x) and x.op is None)
            near = {self.of[t], *(self.of[x] for x in leaves)}
            if len(kept | near) >= self.max_nodes:
                break
            kept |= near
        rest = [t for t, place in self.of.items() if place not in kept]
        self.of |= dict.fromkeys(rest, REST)
        return sum(t.op is not None for t in rest)


def is_tensor(x) -> bool:
    return isinstance(x, Tensor)


def outward(scope: Scope | None) -> Iterator[Scope]:
    """A call and those around it, innermost first."""
    while scope is not None:
        yield scope
        scope = scope.parent


def scopes(t: Tensor) -> Iterator[Scope]:
    """The calls in which ``t`` was made, innermost first; none for a leaf."""
    return outward(t.scope if t.op is not None else None)


def module_call(t: Tensor) -> Scope | None:
    """The innermost call of a module in which ``t`` was made."""
    return next((scope for scope in scopes(t) if scope.owner is not None), None)


def call_name(scope: Scope) -> str:
    """The name by which ``open=`` asks for a call."""
    return scope.name or type(scope.owner).__name__


def opens(fused: Tensor, opened: set[str]) -> bool:
    """Whether a fused operation, or a call around it, is among those to be opened."""
    return fused.op.name in opened or any(call_name(s) in opened for s in scopes(fused))


def is_container(module: Module) -> bool:
    return any(m is not module for m in module.modules())
