"""Which tensors identify routes: the gates.

    gate              a named tensor that some routes pass and others do not
    statistic         E[x] or Var[x] inside a call of batch norm
    last batch norm   the last call of batch norm that a route passes before the leaf
    key               what all routes of one cotangent have in common

By default, the gates are the statistics of each last batch norm, and the tensors that
the user named outside of batch norm. A cotangent that enters another call of batch norm
forgets the statistics that it has passed so far.

This file comes after ``graph.py`` in the reading order; ``explanation.py`` is next.

Left out on purpose: gates chosen by the size of their gradients, because the rows of a
table would then differ from batch to batch.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .batchnorm import batch_norm
from .errors import describe, with_shape
from .graph import Subgraph
from .scopes import Scope, enclosing
from .tensor import Tensor

STATISTICS, X_HAT = ("E[x]", "Var[x]"), "x_hat"
MAX_STATISTICS, MAX_ROWS, MAX_REQUESTED_ROWS = 6, 16, 1000


class Key(NamedTuple):
    """What all routes of one cotangent have in common.

    ``gates`` are the gates passed, and ``lasting`` those among them that are never
    forgotten. ``normalized`` routes have passed a batch norm.
    """

    gates: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    normalized: bool = False
    cut: bool = False


@dataclass
class Gates:
    """The ``names`` of the gates, and where routes forget the statistics among them.

    ``calls`` maps the tensors inside batch norm to its calls. A route forgets when it
    enters another call, or already at a tensor of ``forget_at``, from which every route
    will enter another call. ``hint`` names gates that would separate summed routes.
    """

    names: dict[Tensor, str]
    calls: dict[Tensor, Scope] = field(default_factory=dict)
    forget_at: set[Tensor] = field(default_factory=set)
    hint: str = ""

    def onward(self, key: Key, node: Tensor, x: Tensor, cut: bool = False) -> Key:
        """The key of a cotangent after the step from ``node`` to ``x``."""
        gates, lasting = key.gates, key.lasting
        if x in self.forget_at or _enters(self.calls, node, x):
            gates = lasting
        if x in self.names:
            gates = (*gates, self.names[x])
            if x not in self.calls:
                lasting = (*lasting, self.names[x])
        return Key(gates, lasting, key.normalized or x in self.calls, key.cut or cut)


def choose_gates(subgraph: Subgraph, wanted: Iterable[str] | None = None) -> Gates:
    """The gates with the names ``wanted``, or the default gates.

    Raises: ``ValueError`` for an unknown name, and for too many rows.
    """
    ends = {subgraph.y, *subgraph.targets}
    named = [t for t in subgraph.steps if t.name is not None and t not in ends]
    if wanted is None:
        return _default_gates(subgraph, named)
    wanted = {wanted} if isinstance(wanted, str) else set(wanted)
    names = {t: str(t.qualified_name()) for t in named}
    if missing := wanted - set(names.values()):
        raise _unknown_gates(subgraph, sorted(missing), sorted(set(names.values())))
    gates = Gates({t: name for t, name in names.items() if name in wanted})
    if _count_rows(subgraph, gates, MAX_REQUESTED_ROWS) > MAX_REQUESTED_ROWS:
        raise ValueError(
            f"gates must make at most {MAX_REQUESTED_ROWS} rows, but these "
            f"{len(wanted)} names make more. Name fewer of them."
        )
    return gates


def _unknown_gates(
    subgraph: Subgraph, missing: list[str], known: list[str]
) -> ValueError:
    (leaf,) = subgraph.targets
    name = subgraph.graph.name(leaf)
    arrives_at = describe(leaf) if name is None else with_shape(repr(name), leaf.shape)
    unknown = " and ".join(map(repr, missing))
    verb = "is" if len(missing) == 1 else "are"
    names = f"The names are {', '.join(map(repr, known))}; x.named() names another."
    if not known:
        names = "No tensor there has a name; x.named() names one."
    return ValueError(
        f"gates must be names of tensors between {describe(subgraph.y)} and "
        f"{arrives_at}, but {unknown} {verb} not among them. {names}"
    )


def _default_gates(subgraph: Subgraph, named: list[Tensor]) -> Gates:
    """The statistics of each last batch norm, and the tensors named outside of one.

    If there are many statistics, all batch norms share their rows. Named tensors are
    gates as long as the table has room for them, those nearest to the leaf first. With
    several targets there is no table, and named tensors are not gates.
    """
    inside = {t: call for t in subgraph.steps if (call := batch_norm_around(t))}
    calls = _normalizing(inside)
    forget_at = _leading_into(subgraph, calls)
    one_table = len(subgraph.targets) == 1
    statistics = [t for t in named if t in calls and t.name in STATISTICS]
    passed = subgraph.on_every_route()
    passed |= {t for t in inside if t.name in (*STATISTICS, X_HAT)}
    others = [t for t in reversed(named) if one_table and t not in passed]
    names = {t: str(t.qualified_name()) for t in statistics if t not in forget_at}
    shared = one_table and len(set(names.values())) > MAX_STATISTICS
    if shared:
        names = {t: str(t.name) for t in names}

    def with_nearest(k: int) -> Gates:
        chosen = names | {t: str(t.qualified_name()) for t in others[:k]}
        return Gates({t: chosen[t] for t in named if t in chosen}, calls, forget_at)

    def rows(k: int) -> int:
        return _count_rows(subgraph, with_nearest(k), MAX_ROWS)

    room = bisect.bisect_right(range(len(others) + 1), MAX_ROWS, key=rows) - 1
    gates = with_nearest(max(room, 0))
    separable = {*statistics, *others} - (set() if shared else gates.names.keys())
    gates.hint = _hint([t for t in reversed(named) if t in separable], shared)
    return gates


def _count_rows(subgraph: Subgraph, gates: Gates, limit: int) -> int:
    """How many rows these gates make, or some number above ``limit``."""
    arriving: dict[Tensor, set[Key]] = defaultdict(set, {subgraph.y: {Key()}})
    for node, steps in subgraph.steps.items():
        keys = arriving[node]
        if len(keys) > limit:
            return len(keys)
        for x in steps:
            arriving[x] |= {gates.onward(key, node, x) for key in keys}
    return max((len(arriving[x]) for x in subgraph.targets), default=0)


def batch_norm_around(t: Tensor) -> Scope | None:
    """The call of batch norm in which ``t`` was computed."""
    for call in enclosing(None if t.op is None else t.scope):
        if call.owner is None and call.name == batch_norm.__name__:
            return call
    return None


def _normalizing(inside: dict[Tensor, Scope]) -> dict[Tensor, Scope]:
    """The part of each call that normalizes by the batch, without gamma and beta.

    A route to beta does not pass the batch norm that adds it.
    """
    calls = {call for t, call in inside.items() if t.name in STATISTICS}
    ends = {call: t.timestamp for t, call in inside.items() if t.name == X_HAT}
    return {
        t: call
        for t, call in inside.items()
        if call in calls and t.timestamp <= ends.get(call, t.timestamp)
    }


def _enters(calls: dict[Tensor, Scope], node: Tensor, x: Tensor) -> bool:
    """Whether the step from ``node`` to ``x`` enters a call of batch norm."""
    return x in calls and calls[x] is not calls.get(node)


def _leading_into(subgraph: Subgraph, calls: dict[Tensor, Scope]) -> set[Tensor]:
    """The tensors from which every route enters another batch norm."""
    free = set(subgraph.targets)
    for node, steps in reversed(subgraph.steps.items()):
        if any(x in free and not _enters(calls, node, x) for x in steps):
            free.add(node)
    return subgraph.steps.keys() - free


def _hint(separable: list[Tensor], shared: bool) -> str:
    """A remark on routes that share a row, with names that would separate them."""
    if not separable:
        return ""
    names = list(dict.fromkeys(str(t.qualified_name()) for t in separable[:4]))
    what = "routes through several batch norms" if shared else "several routes"
    return f"a row may sum {what}; to separate them, pass, for example, gates={names}"
