"""A ``forward`` of PyTorch as data: a program that this engine can run.

    program         the steps of a ``forward``, in order, and the names of its inputs
    step            one call: of a module, a function or a method
    stand-in        what ``torch.fx`` passes to a ``forward`` in place of tensors; it
                    records what is done with it
    in place        as in ``h += x`` and ``relu_``: the result overwrites an input
    shared memory   as in ``view``: the result uses the memory of an input

The operations of this engine overwrite nothing and share no memory. So a program that
reads a value after overwriting it in place would compute something else here;
``overwriting`` finds such programs.

This file comes after ``module.py`` in the reading order, and before ``pytorch.py``.

Left out on purpose: programs that depend on the values of a tensor, and functions that
are not in ``FUNCTIONS``.
"""

import copy
import functools
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from . import ops
from .compositions import flatten, mean, reduce_sum
from .module import Member, Module
from .tensor import Tensor

# --- The functions that a program may call --------------------------------------------


def _axis(dim: Any) -> Any:
    # An empty tuple stands for all axes in PyTorch, and for none in NumPy.
    return None if dim in ((), []) else dim


# By PyTorch's name, and with PyTorch's names for the arguments.
FUNCTIONS: dict[str, Callable] = {
    "add": lambda x, other: x + other,
    "sub": lambda x, other: x - other,
    "mul": lambda x, other: x * other,
    "div": lambda x, other: x / other,
    "neg": lambda x: -x,
    "relu": lambda x, inplace=False: ops.relu(x),
    "sigmoid": lambda x: ops.sigmoid(x),
    "tanh": lambda x: ops.tanh(x),
    "flatten": lambda x, start_dim=0, end_dim=-1: flatten(x, start_dim, end_dim),
    "reshape": lambda x, *shape: x.reshape(*shape),
    "view": lambda x, *shape: x.reshape(*shape),
    "getitem": lambda x, index: x[index],
    "shape": lambda x, name: x.shape,
    "size": lambda x, dim=None: x.shape if dim is None else x.shape[dim],
    "mean": lambda x, dim=None, keepdim=False: mean(x, _axis(dim), keepdim),
    "sum": lambda x, dim=None, keepdim=False: reduce_sum(x, _axis(dim), keepdim),
}
SHARING = {"flatten", "reshape", "view", "getitem"}
# Python's in-place operators, and other names for the same functions.
IN_PLACE = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "div"}
SPELLINGS = {"truediv": "div", "true_divide": "div", **IN_PLACE}
NO_COUNTERPART = " has no counterpart"
LIBRARIES = ("builtins", "operator", "torch", "torch.nn.functional")

# --- Programs -------------------------------------------------------------------------


class Value(str):
    """The name of an input or of an earlier step, among the arguments of a step."""

    __slots__ = ()


@dataclass(frozen=True)
class Step:
    """One call: ``op`` and ``target`` as in ``torch.fx``, with functions by name."""

    name: str
    op: str
    target: str
    args: tuple = ()
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def function(self) -> str:
        """The key in ``FUNCTIONS``: "add" for ``operator.iadd``, ``x.add_()``, ..."""
        name = self.target.rpartition(".")[2]
        if name == "getattr":
            return str(self.args[1])
        return SPELLINGS.get(name, name.removesuffix("_"))

    @property
    def in_place(self) -> bool:
        """Whether a function overwrites its first argument."""
        name = self.target.rpartition(".")[2]
        arguments = _bound(self).arguments
        return name in IN_PLACE or name[-1] == "_" or arguments.get("inplace", False)

    @property
    def reads(self) -> list[Value]:
        """The values among the arguments."""
        found: list[Value] = []
        replaced((self.args, self.params), found.append)
        return [x for x in found if isinstance(x, Value)]


@dataclass(frozen=True)
class Program:
    """The steps of a ``forward``, the names of its inputs, and what it returns."""

    inputs: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    output: Any = None

    def run(self, module: Any, inputs: tuple) -> Any:
        """Call ``module``'s members and the functions of this engine, step by step."""
        arrays = (Tensor(x) if isinstance(x, np.ndarray) else x for x in inputs)
        values: dict[str, Any] = dict(zip(self.inputs, arrays))

        def value(x: Any) -> Any:
            return values[x] if isinstance(x, Value) else x

        for step in self.steps:
            args, params = replaced(step.args, value), replaced(step.params, value)
            if step.op == "get_attr":
                values[step.name] = member_at(module, step.target)
            elif step.op == "call_module":
                values[step.name] = member_at(module, step.target)(*args)
            else:
                values[step.name] = FUNCTIONS[step.function](*args, **params)
        return replaced(self.output, value)

    def to_fx(self) -> Any:
        """The same program as a ``torch.fx.Graph``."""
        import torch

        graph = torch.fx.Graph()
        nodes = {name: graph.placeholder(name) for name in self.inputs}

        def node(x: Any) -> Any:
            return nodes[x] if isinstance(x, Value) else x

        for step in self.steps:
            target = step.target
            if step.op == "call_function":
                target = pkgutil.resolve_name(target)
            args, params = replaced(step.args, node), replaced(step.params, node)
            nodes[step.name] = graph.create_node(step.op, target, args, params)
        graph.output(replaced(self.output, node))
        return graph


class Traced(Module):
    """The counterpart of a PyTorch module with a user-written ``forward``.

    It has the same members. They can be replaced: the program looks them up by name.
    ``traced`` makes one, of a subclass named after the class of that module.
    """

    def __init__(self, unsaved: Iterable[str] = ()):
        self._unsaved = {*unsaved}  # the names of buffers that are not persistent
        self._program = Program()

    def forward(self, *inputs: Any, **params: Any) -> Any:
        names = self._program.inputs
        if len(inputs) != len(names) or params:
            by_name = f", and {', '.join(params)} by name" if params else ""
            raise TypeError(
                f"{type(self).__name__}: the inputs must be {', '.join(names)}, all by "
                f"position. Received: {len(inputs)} by position{by_name}."
            )
        return self._program.run(self, inputs)

    def unsaved_buffers(self) -> dict[str, np.ndarray]:
        """The buffers that are not part of the state, by name."""
        return {name: getattr(self, name) for name in self._unsaved}

    def _members(self) -> Iterator[tuple[str, Member]]:
        return (pair for pair in super()._members() if pair[0] not in self._unsaved)

    def __reduce__(self) -> tuple:
        # A copied or unpickled module needs its subclass, which cannot be imported.
        return traced, (type(self).__name__,), vars(self)


def traced(class_name: str, unsaved: Iterable[str] = ()) -> Traced:
    """An empty ``Traced`` whose class has this name, which tables and errors show."""
    return _traced_class(class_name)(unsaved)


@functools.cache
def _traced_class(name: str) -> type[Traced]:
    return type(name, (Traced,), {})


def replaced(x: Any, replacement: Callable) -> Any:
    """``x`` with its values replaced, also inside tuples, lists, dicts and slices."""
    if isinstance(x, tuple):
        return tuple(replaced(part, replacement) for part in x)
    if isinstance(x, list):
        return [replaced(part, replacement) for part in x]
    if isinstance(x, dict):
        return {key: replaced(part, replacement) for key, part in x.items()}
    if isinstance(x, slice):
        parts = (x.start, x.stop, x.step)
        return slice(*(replaced(part, replacement) for part in parts))
    return replacement(x)


def member_at(module: Any, path: str) -> Any:
    """The member with the qualified name ``path``."""
    return reduce(getattr, path.split("."), module)


def _bound(step: Step) -> inspect.BoundArguments:
    return inspect.signature(FUNCTIONS[step.function]).bind(*step.args, **step.params)


# --- Recording ------------------------------------------------------------------------


def record(theirs: Any, refuse: Callable[[str], None]) -> Program | None:
    """Record the program of a PyTorch module, or return None if it cannot run here.

    ``torch.fx`` treats ``self.training`` as a constant, so the program is recorded in
    training and in evaluation mode. The module does not change. ``refuse`` is called
    with each reason why the program cannot run here.
    """
    import torch

    reasons: list[str] = []
    if "forward" in vars(theirs):
        reasons.append("it belongs to the object, but must belong to its class")
    else:
        try:
            graph, other = _trace(theirs, True), _trace(theirs, False)
        except Exception as error:  # noqa: BLE001 (a forward may do anything)
            text = str(error).partition("\n")[0].partition(". ")[0]
            if isinstance(error, torch.fx.proxy.TraceError):
                text += "; no if, loop or unpacking may depend on a tensor"
            reasons.append(f"cannot be traced: {text or type(error).__name__}")
        else:
            if str(graph) != str(other):
                reasons.append(
                    "differs between training and evaluation; let modules such as "
                    "nn.Dropout do that"
                )
            program = _read(graph, theirs, reasons.append)
    for reason in dict.fromkeys(reasons):
        refuse(reason)
    return None if reasons else program


def _trace(theirs: Any, training: bool) -> Any:
    import torch

    # A forward may assign to self, so it runs on a copy.
    twin = copy.copy(theirs)
    for name in ("_parameters", "_buffers", "_modules"):
        vars(twin)[name] = dict(vars(theirs)[name])
    modes = {module: module.training for module in theirs.modules()}
    try:
        for module in (twin, *modes):
            module.training = training
        with torch.enable_grad():
            return _tracer().trace(twin)
    finally:
        for module, mode in modes.items():
            module.training = mode


def _tracer() -> Any:
    """A tracer that records in-place operators, and inner modules as one call each."""
    import torch

    def in_place(name: str) -> Callable:
        function = pkgutil.resolve_name(f"operator.{name}")
        return lambda x, other: x.tracer.create_proxy(
            "call_function", function, (x, other), {}
        )

    methods = {f"__{name}__": in_place(name) for name in IN_PLACE}
    proxy_class = type("Proxy", (torch.fx.Proxy,), methods)

    class Tracer(torch.fx.Tracer):
        proxy_buffer_attributes = True

        def is_leaf_module(self, module: Any, name: str) -> bool:
            return True

        def create_node(self, *args: Any, **params: Any) -> Any:
            if not torch.is_grad_enabled():
                raise ValueError("it switches gradients off")
            return super().create_node(*args, **params)

        def proxy(self, node: Any) -> Any:
            return proxy_class(node, self)

    return Tracer()


def _read(graph: Any, theirs: Any, refuse: Callable[[str], None]) -> Program:
    """The program in a graph of ``torch.fx``."""
    inputs, steps, output = [], [], None
    for node in graph.nodes:
        args, params = _neutral(node.args, refuse), _neutral(node.kwargs, refuse)
        if node.op == "placeholder":
            inputs.append(node.name)
            if args or node.target.startswith("*"):
                name = f"the input {node.target!r}"
                refuse(f"{name} is optional; remove it or its default")
        elif node.op == "output":
            (output,) = args
        else:
            is_function = node.op == "call_function"
            target = _name_of(node.target) if is_function else node.target
            step = Step(node.name, node.op, target, args, params)
            for reason in _refusals(step, theirs):
                refuse(reason)
            steps.append(step)
    return Program(tuple(inputs), tuple(steps), output)


def _neutral(arguments: Any, refuse: Callable[[str], None]) -> Any:
    """The arguments of a node, with names in place of other nodes."""
    import torch

    def neutral(x: Any) -> Any:
        if isinstance(x, torch.fx.Node):
            return Value(x.name)
        if not isinstance(x, int | float | str | None | type(...)):
            refuse(f"uses {x!r:.40}, a {type(x).__name__}")
        return x

    return replaced(arguments, neutral)


def _name_of(function: Any) -> str:
    """The qualified name of a function, such as ``torch.relu``."""
    for library in LIBRARIES:
        name = f"{library}.{function.__name__}"
        if getattr(pkgutil.resolve_name(library), function.__name__, None) is function:
            return name
    return f"{function.__name__}()"


def _refusals(step: Step, theirs: Any) -> Iterator[str]:
    """The reasons why a step cannot run here."""
    if step.op == "get_attr":
        values = {**theirs._parameters, **theirs._buffers}.get(step.target)
        if values is None:
            made = step.target.startswith("_tensor_constant")
            used = "a tensor made in it" if made else f"self.{step.target}"
            yield (
                f"uses {used}, which is no parameter or buffer of its own; register it "
                "as one"
            )
        elif not values.is_floating_point() and str(values.dtype) != "torch.bool":
            yield f"computes with self.{step.target}, which is {values.dtype}"
    elif step.op == "call_module":
        if step.params:
            yield (
                f"calls self.{step.target} with keywords: {', '.join(step.params)}; "
                "pass inputs by position"
            )
    elif step.function not in FUNCTIONS:
        called = f".{step.target}()" if step.op == "call_method" else step.target
        yield called + NO_COUNTERPART
    else:
        try:
            _bound(step)
        except TypeError as error:
            yield f"{step.target}: {error}"
        if step.function == "getitem" and not _is_basic(step.args[1]):
            yield f"an index other than numbers and slices: {step.args[1]!r:.40}"


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(x, int | slice | None | type(...)) for x in parts)


# --- Overwriting ----------------------------------------------------------------------


def overwriting(
    program: Program,
    in_place: Callable[[Step], bool],
    sharing: Callable[[Step], bool],
    refuse: Callable[[str], None],
) -> tuple[bool, bool]:
    """Whether a program overwrites an input, and whether it may return its memory.

    ``in_place`` and ``sharing`` answer these questions for a step that calls a module.
    ``refuse`` is called with each reason why the program would compute something else
    here.
    """
    memory = {name: {name} for name in program.inputs}
    stale: dict[str, str] = {}
    overwritten: set[str] = set()
    result = Step("output", "output", "return", (program.output,))
    for step in (*program.steps, result):
        is_call = step.op in ("call_function", "call_method")
        if not (is_call and step.function in ("size", "shape")):
            for name in filter(stale.get, step.reads):
                refuse(f"{step.name} reads {name} after {stale[name]} overwrote it")
        writes = step.in_place if is_call else in_place(step)
        shares = writes or (step.function in SHARING if is_call else sharing(step))
        # A function shares and overwrites its first argument only.
        touched = [memory[name] for name in step.reads[: 1 if is_call else None]]
        if writes:
            lost = set().union(*touched)
            overwritten |= lost
            stale |= {name: step.name for name, owned in memory.items() if owned & lost}
        memory[step.name] = {step.name}.union(*touched) if shares else {step.name}
    for step in program.steps:
        if step.op == "get_attr" and step.name in overwritten:
            refuse(f"overwrites self.{step.target}")
    inputs = set(program.inputs)
    returned = set().union(*(memory[name] for name in result.reads))
    return bool(overwritten & inputs), bool(returned & inputs)
