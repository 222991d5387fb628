"""Which arrays an output holds in memory, and which of them backward reads again.

    alive   the tape refers to the array, so that its memory cannot be freed
    read    the backward pass needs the values of the array

An array is read if a gradient changes when the values of the array are replaced by NaN.
A broadcast view, whose rows are one and the same row, takes the memory of that row.
"""

from typing import NamedTuple

import numpy as np

from support.tables import table
from tinygrad_bn import Tensor, tape

FUSED_SAVED = (
    "x - E[x]", "1 / sqrt(Var[x] + eps)", "gamma / sqrt(Var[x] + eps)", "E[x]", "Var[x]"
)  # fmt: skip


class Held(NamedTuple):
    """An array in memory, its size in bytes, and the operations that read it again."""

    name: str
    shape: tuple[int, ...]
    size: int
    readers: list[str]


def held(y: Tensor) -> list[Held]:
    """The arrays on the tape of ``y`` that operations made, oldest first.

    The inputs are left out, because they belong to the caller.
    """
    nodes = list(reversed(tape(y)))
    readers: dict[int, list[str]] = {}
    for node in nodes:
        for array in arrays_read(node):
            readers.setdefault(id(array), []).append(node.op.name)
    found = []
    for node in nodes:
        saved = zip(FUSED_SAVED, node.saved or ())
        for name, array in [*saved, (node.name or node.op.name, node.data)]:
            read_by = readers.get(id(array), [])
            found.append(Held(name, array.shape, memory(array), read_by))
    return found


def memory(array: np.ndarray) -> int:
    """The bytes of an array, or 0 for a view, whose memory is that of another array."""
    return array.nbytes if array.base is None else 0


def arrays_read(node: Tensor) -> list[np.ndarray]:
    """The arrays whose values the backward pass of one operation needs."""
    inputs = [x.data if isinstance(x, Tensor) else x for x in node.inputs]
    arrays = {id(a): a for a in [*inputs, node.data, *(node.saved or ())]}
    arrays = [a for a in arrays.values() if isinstance(a, np.ndarray)]
    expected = gradients(node)
    return [a for a in arrays if differ(expected, gradients(node, poisoned=a))]


def gradients(node: Tensor, poisoned: np.ndarray | None = None) -> list[np.ndarray]:
    """The gradients of an operation's inputs, with NaN in place of one array."""

    def value(array):
        return np.full_like(array, np.nan) if array is poisoned else array

    inputs = [value(x.data if isinstance(x, Tensor) else x) for x in node.inputs]
    needs = [isinstance(x, Tensor) and x.requires_grad for x in node.inputs]
    g = np.random.default_rng(0).standard_normal(node.shape).astype(node.dtype)
    if node.saved is not None:
        saved = tuple(map(value, node.saved))
        found = node.op.backward(g, saved, needs, *inputs, **node.params)
        return [d for d, need in zip(found, needs) if need]
    return [
        pullback(g, value(node.data), *inputs, **node.params)
        for pullback, need in zip(node.op.pullbacks, needs)
        if need
    ]


def differ(some: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return not all(map(np.array_equal, some, others))


def report(name: str, y: Tensor) -> str:
    """The arrays as a table, with their sums."""
    arrays = held(y)
    rows = [
        (
            a.name,
            "x".join(map(str, a.shape)),
            a.size or "a view",
            ", ".join(a.readers) or "-",
        )
        for a in arrays
    ]
    alive = sum(a.size for a in arrays)
    read = sum(a.size for a in arrays if a.readers)
    rows += [("alive, in all", "", alive, ""), ("read again, in all", "", read, "")]
    head = ("result", "shape", "bytes", "read again in the backward pass of")
    return table(
        f"{name}: arrays that y holds in memory, without x, gamma and beta", head, rows
    )
