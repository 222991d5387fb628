"""The gradients of a graph, tensor by tensor and step by step.

A step leads from a tensor to one of the tensors it was made of. Each group of routes
that takes a step has its own share of the gradient there, None where the step is a cut.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property

import numpy as np

from ..explanation import MANY
from ..ops import stop_gradient
from ..routes import Gates, Subgraph, Unfolded, carry
from ..scopes import Scope
from ..tensor import Tensor
from .places import is_tensor, scopes
from .scene import COMMON, DIRECT, number

OTHERS = "other routes"


class Flow:
    """What arrives where. ``arrived`` holds the whole gradient of each tensor,
    ``steps`` the shares ``{(tensor, input): {group: gradient}}``, ``gates`` the names
    that part routes, ``residue`` the size up to which a gradient is rounding.
    """

    def __init__(self, graph: Unfolded, g: np.ndarray | None, symbols: dict | None):
        self.graph, self.g = graph, g
        self.symbols = {
            name: np.asarray(values) for name, values in (symbols or {}).items()
        }
        self.arrived: dict[Tensor, np.ndarray] = {}
        self.steps: dict[tuple, dict[str, np.ndarray | None]] = defaultdict(dict)
        self.gates: dict[Tensor, str] = {}
        self.common: set[tuple] = set()
        self.on_the_way: set[tuple] = set()
        if g is not None:
            self.arrived[graph.y] = g
            self._carry_everything()
        sizes = (
            np.abs(d[np.isfinite(d)]).max(initial=0) for d in self.arrived.values()
        )
        self.residue = rounding(graph.y.dtype, max(sizes, default=0))

    def _carry_everything(self) -> None:
        inputs = (x for t in self.graph.order for x in self.graph.inputs(t))
        tensors = dict.fromkeys(filter(is_tensor, inputs))
        leaves = [x for x in tensors if x.op is None and x.requires_grad]
        if leaves:
            self.steps = self._routed(Subgraph(self.graph, *leaves), Gates({}))
        for (_, x, _), shares in self.steps.items():
            if shares[DIRECT] is not None:
                _add(self.arrived, x, shares[DIRECT])

    def tell_routes_to(self, leaf: Tensor, gates: Gates, subgraph: Subgraph):
        """Tell apart the routes to ``leaf`` by the gates that they pass."""
        self.gates = gates.names
        self.steps |= self._routed(subgraph, gates)
        every = subgraph.on_every_route()
        for node, steps in subgraph.steps.items():
            self.on_the_way |= {(node, x) for x in steps}
            if gates.names and node in every and len(steps) == 1:
                self.common |= {(node, x) for x in steps if x is not leaf}

    def tell_routes_inside(self, call: Scope) -> None:
        """Tell apart the routes through an open call, where it has one input."""
        inside = {t for t in self.graph.order if call in scopes(t)}
        entering = {
            x
            for t in inside
            for x in self.graph.inputs(t)
            if is_tensor(x) and x not in inside and x.requires_grad and x.op is not None
        }
        if len(entering) == 1:
            subgraph = Subgraph(self.graph, *entering)
            gates = subgraph.gates()
            gates.names = {t: name for t, name in gates.names.items() if t in inside}
            self.gates = self.gates | gates.names
            routed = self._routed(subgraph, gates).items()
            self.steps |= {step: shares for step, shares in routed if step[0] in inside}
            # Around the call, an arrow carries whatever parts inside.
            self.common |= {step[:2] for step in self.steps if step[0] not in inside}

    def _routed(self, subgraph: Subgraph, gates: Gates) -> dict[tuple, dict]:
        steps, uses = defaultdict(dict), Counter()

        def note(node, x, key, d_y, d_x):
            # The uses of one input come in the order of the slots.
            use, uses[node, x, key] = uses[node, x, key], uses[node, x, key] + 1
            group = key.gates[0] if key.gates else DIRECT
            if d_x is not None:
                _add(steps[node, x, use], group, d_x)
            elif node.op is stop_gradient:
                steps[node, x, use].setdefault(group, None)

        carry(subgraph, gates, self.g, note)
        return steps

    def shares(
        self, uses: Iterable[tuple[Tensor, int]]
    ) -> dict[str, np.ndarray | None]:
        """What each group brings by these uses, ``(tensor, slot of its input)``."""
        total: dict[str, np.ndarray | None] = {}
        for node, slot in uses:
            inputs = self.graph.inputs(node)
            use = sum(x is inputs[slot] for x in inputs[:slot])
            for group, d_x in self.steps.get((node, inputs[slot], use), {}).items():
                if d_x is None:
                    total.setdefault(group, None)
                else:
                    _add(total, group, d_x)
        return total

    def cut_groups(self) -> list[str]:
        """The groups with a route that is cut somewhere."""
        every = (share for shares in self.steps.values() for share in shares.items())
        return list(dict.fromkeys(group for group, d_x in every if d_x is None))

    def relative_norm(self, g: np.ndarray) -> float:
        """The norm beside the largest in the graph, in [0, 1]; 1 if not finite."""
        share = float(np.linalg.norm(g)) / self._largest_norm
        return min(share, 1.0) if np.isfinite(share) else 1.0

    @cached_property
    def _largest_norm(self) -> float:
        norms = [float(np.linalg.norm(g)) for g in self.arrived.values()]
        return max((n for n in norms if np.isfinite(n)), default=0) or 1.0

    def color_group(self, step: tuple, group: str) -> str:
        """The group by which a stream is colored: before the routes part, all of
        them."""
        return COMMON if group == DIRECT and step in self.common else group

    def sums_to_zero(self, g: np.ndarray) -> bool:
        """Whether ``g`` is zero when summed over the batch."""
        if g.ndim < 2 or g.shape[0] < 2:
            return self.is_zero(g)
        return self.is_zero(g.sum(axis=0))

    def is_zero(self, g: np.ndarray) -> bool:
        """Whether nothing but rounding is in ``g``."""
        return bool((np.abs(g) <= self.residue).all())

    def in_words(self, g: np.ndarray) -> str:
        """What a chip says of ``g``: a symbol that equals it, its numbers, or its
        norm."""
        if self.is_zero(g):
            return "0"
        for name, values in self.symbols.items():
            if word := _as_symbol(g, name, values):
                return word
        if g.size <= 3:
            return "  ".join(number(v, sign=True) for v in g.ravel())
        return f"norm {number(np.linalg.norm(g))}"


def _as_symbol(g: np.ndarray, name: str, values: np.ndarray) -> str:
    """``name`` with a sign, if ``g`` equals it; ``name/N``, if each of its N rows
    does."""
    if values.ndim == 0 or g.shape[g.ndim - values.ndim :] != values.shape:
        return ""
    rows = g.reshape(-1, *values.shape)
    n = len(rows)
    for sign, scale in (("+", 1), ("−", -1)):
        if np.allclose(rows, scale * values / n, rtol=1e-6, atol=1e-12):
            plus = "" if sign == "+" and values.ndim > 1 else sign
            return plus + name + ("/N" if n > 1 else "")
    return ""


def _add(into: dict, key, value) -> None:
    into[key] = value if into.get(key) is None else into[key] + value


def rounding(dtype: np.dtype, scale: float) -> float:
    """The size up to which sums of numbers as large as ``scale`` may be rounding."""
    return (
        1000 * float(np.finfo(dtype).eps) * float(scale) if dtype.kind == "f" else 0.0
    )


def entries(gradient: np.ndarray | None) -> list[float] | None:
    """The columns of a table: each value, or the norm where there are many."""
    if gradient is None:
        return None
    many = np.size(gradient) > MANY
    return [float(np.linalg.norm(gradient))] if many else np.ravel(gradient).tolist()
