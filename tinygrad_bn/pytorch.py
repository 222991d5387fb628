"""A bridge to PyTorch: it converts networks in both directions.

    theirs, ours    a module or tensor of PyTorch, and one of this engine
    counterpart     the module in the other library that computes the same
    traced module   the counterpart of a PyTorch module with a user-written ``forward``

Two tables say which modules have a counterpart: ``FROM_TORCH`` by PyTorch's names, and
``TO_TORCH`` by the classes of this engine. Any other PyTorch module is converted if its
``forward`` calls only modules and functions with counterparts; see ``program.py``.

PyTorch is imported when ``from_torch`` or ``to_torch`` is called.

This file comes after ``program.py`` in the reading order.

Left out on purpose: modules that this engine lacks, such as convolutions, and gradients
that flow from one engine into the other.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from . import nn
from .errors import type_name
from .module import Member, Module
from .program import (
    FUNCTIONS,
    NO_COUNTERPART,
    Program,
    Step,
    Traced,
    Value,
    member_at,
    overwriting,
    record,
    traced,
)
from .pytorch_layout import PYTORCH_NAMES, array_of
from .scopes import join
from .tensor import Tensor


def from_torch(module: Any) -> Module:
    """Convert a ``torch.nn.Module`` to the same network on this engine.

    Values are copied. Shared modules, parameters and buffers stay shared, each module
    keeps its mode, and each parameter keeps its ``requires_grad``. Names are PyTorch's,
    but linear layers have this engine's layout: ``weight`` is (in_features,
    out_features).

    A module is convertible if it is in ``FROM_TORCH``, or if its ``forward`` calls only
    such modules and the functions in ``FUNCTIONS``. Decisions that a ``forward`` makes
    in Python are fixed when it is recorded.

    Raises: ``TypeError`` that lists everything that cannot be converted.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        remedy = ""
        if isinstance(module, Module):
            remedy = " It belongs to this engine and needs no conversion."
        raise TypeError(
            "from_torch(module): a torch.nn.Module must be given, but "
            f"{type_name(module)} was received.{remedy}"
        )
    conversion = _FromTorch()
    ours = conversion.module(module, "")
    _compare_names(conversion, ours, module)
    if conversion.problems:
        remedy = ""
        if any(problem.endswith(NO_COUNTERPART) for problem in conversion.problems):
            kinds = ", ".join(name for name in FROM_TORCH if name != "Module")
            remedy = (
                f"\nIt can convert {kinds}, and modules whose forward calls only these "
                f"and {', '.join(FUNCTIONS)}. Replace modules and functions that are "
                "not among these, for example GELU by ReLU."
            )
        raise TypeError(
            "from_torch: every part must be convertible, but these are not:\n"
            f"{_listed(conversion.problems)}{remedy}"
        )
    return ours


def to_torch(model: Module) -> Any:
    """Convert a network of this engine to the same network in PyTorch.

    Values are copied, including running statistics and their counters. Shared modules,
    parameters and arrays stay shared, each module keeps its mode, and each parameter
    keeps its ``requires_grad``. Values have the byte order of this machine.

    A module is convertible if it is in ``TO_TORCH``, or if ``from_torch`` returned it.

    Raises: ``TypeError`` that lists everything that cannot be converted.
    """
    if not isinstance(model, Module):
        raise TypeError(
            "to_torch(model): a module of this engine must be given, but "
            f"{type_name(model)} was received."
        )
    if find_spec("torch") is None:
        raise ModuleNotFoundError(
            "to_torch needs PyTorch, but it is not installed. Run: python -m pip "
            "install torch"
        )
    conversion = _ToTorch()
    theirs = conversion.module(model, "")
    _compare_names(conversion, model, theirs)
    if conversion.problems:
        kinds = ", ".join(kind.__name__ for kind in TO_TORCH if kind is not Traced)
        raise TypeError(
            "to_torch: every part must have a counterpart in PyTorch, but these have "
            f"none:\n{_listed(conversion.problems)}\nIt can convert {kinds}, and what "
            "from_torch returns. If a forward is your own, write it in PyTorch and "
            "load the state that tg.save('net.safetensors', model) writes."
        )
    return theirs


def _listed(problems: list[str]) -> str:
    return "\n".join(f"  {problem}" for problem in problems)


def _compare_names(conversion: "_Conversion", ours: Module, theirs: Any) -> None:
    """Refuse names on one side only, such as a parameter added to a linear layer."""
    if not conversion.problems:
        names = {entry.theirs for entry in ours._entries()}
        for name in sorted(names ^ theirs.state_dict().keys()):
            conversion.refuse(name, "exists on one side only")


# --- Modules with PyTorch's names ----------------------------------------------------


class _PyTorchNames(Module):
    """A normalization with PyTorch's names: ``weight`` for gamma, ``bias`` for beta."""

    gamma: Tensor | None
    beta: Tensor | None

    @property
    def weight(self) -> Tensor | None:
        return self.gamma

    @weight.setter
    def weight(self, weight: Tensor | None) -> None:
        self.gamma = weight

    @property
    def bias(self) -> Tensor | None:
        return self.beta

    @bias.setter
    def bias(self, bias: Tensor | None) -> None:
        self.beta = bias

    def _members(self) -> Iterator[tuple[str, Member]]:
        return (
            (PYTORCH_NAMES.get(name, name), member)
            for name, member in super()._members()
        )

    def caption(self) -> str:
        letters = {"weight = γ": self.gamma, "bias = β": self.beta}
        shown = [text for text, member in letters.items() if member is not None]
        return ", ".join([super().caption(), *shown])


class BatchNorm(_PyTorchNames, nn.BatchNorm):
    """Batch norm with PyTorch's names: ``weight`` for gamma, ``bias`` for beta."""


class LayerNorm(_PyTorchNames, nn.LayerNorm):
    """Layer norm with PyTorch's names: ``weight`` for gamma, ``bias`` for beta."""


# --- The tables of counterparts -------------------------------------------------------

# PyTorch's batch norm over these axes. None stands for all axes but the second: like
# BatchNorm1d, it accepts both (N, C) and (N, C, L).
BATCH_NORMS = {
    (0,): "BatchNorm1d",
    (0, 2): "BatchNorm1d",
    None: "BatchNorm1d",
    (0, 2, 3): "BatchNorm2d",
    (0, 2, 3, 4): "BatchNorm3d",
}
# The attributes of running statistics, by the names of PyTorch's buffers.
RUNNING = {
    "running_mean": "mean",
    "running_var": "var",
    PYTORCH_NAMES["updates"]: "updates",
}


def _batch_norm(axes: tuple[int, ...] | None, theirs: Any) -> Module:
    tracks = theirs.track_running_stats
    if tracks != (theirs.running_mean is not None):
        raise ValueError("BatchNorm whose track_running_stats was changed afterwards")
    settings = (theirs.num_features, axes, theirs.eps, theirs.momentum)
    return BatchNorm(*settings, track_running_stats=tracks)


def _layer_norm(theirs: Any) -> Module:
    if len(theirs.normalized_shape) > 1:
        raise ValueError("LayerNorm over more than the last axis")
    return LayerNorm(theirs.normalized_shape[0], theirs.eps)


def _torch_batch_norm(torch: Any, ours: Any) -> Any:
    if ours.constants:
        raise ValueError(f"BatchNorm with constants={ours.constants}")
    axes = None if ours.axes is None else tuple(sorted(ours.axes))
    if axes not in BATCH_NORMS:
        raise ValueError(f"BatchNorm with axes={ours.axes}")
    kind = getattr(torch.nn, BATCH_NORMS[axes])
    tracks, affine = ours.running is not None, ours.gamma is not None
    momentum = ours.running.momentum if tracks else 0.1
    settings = (ours.num_features, ours.eps, momentum, affine, tracks)
    return _empty(torch, kind, *settings)


def _empty(torch: Any, kind: Any, *settings: Any) -> Any:
    """A module without parameters: initializing them would consume random numbers."""
    theirs = torch.nn.utils.skip_init(kind, *settings)
    for name in theirs._parameters:
        setattr(theirs, name, None)
    return theirs


# Each function makes a counterpart that has no members yet. If there is none, it raises
# a ValueError that says why.
FROM_TORCH: dict[str, Callable[[Any], Module]] = {
    # A module without a forward, such as a ModuleDict: its members are used by others.
    "Module": lambda m: traced(type(m).__name__, m._non_persistent_buffers_set),
    "Sequential": lambda m: nn.Sequential(),
    "ModuleList": lambda m: nn.ModuleList(),
    "Linear": lambda m: nn.Linear(m.in_features, m.out_features, rng=0),
    **{name: partial(_batch_norm, axes) for axes, name in BATCH_NORMS.items()},
    "LayerNorm": _layer_norm,
    "ReLU": lambda m: nn.ReLU(),
    "Sigmoid": lambda m: nn.Sigmoid(),
    "Tanh": lambda m: nn.Tanh(),
    "Dropout": lambda m: nn.Dropout(m.p),
    "Flatten": lambda m: nn.Flatten(m.start_dim, m.end_dim),
    "Identity": lambda m: nn.Identity(),
}
TO_TORCH: dict[type[Module], Callable[[Any, Any], Any]] = {
    nn.Sequential: lambda torch, m: torch.nn.Sequential(),
    nn.ModuleList: lambda torch, m: torch.nn.ModuleList(),
    nn.Linear: lambda torch, m: _empty(torch, torch.nn.Linear, *m.weight.shape),
    nn.BatchNorm: _torch_batch_norm,
    nn.LayerNorm: lambda torch, m: _empty(
        torch, torch.nn.LayerNorm, m.num_features, m.eps, m.gamma is not None
    ),
    nn.ReLU: lambda torch, m: torch.nn.ReLU(),
    nn.Sigmoid: lambda torch, m: torch.nn.Sigmoid(),
    nn.Tanh: lambda torch, m: torch.nn.Tanh(),
    nn.Dropout: lambda torch, m: torch.nn.Dropout(m.p),
    nn.Flatten: lambda torch, m: torch.nn.Flatten(m.start_axis, m.end_axis),
    nn.Identity: lambda torch, m: torch.nn.Identity(),
    Traced: lambda torch, m: torch.fx.GraphModule(
        {}, torch.fx.Graph(), type(m).__name__
    ),
}
# The modules that return a new array, unless inplace=True. Others may return their
# input; a container does if all modules in it do.
FRESH = {"Linear", "LayerNorm", "ReLU", "Sigmoid", "Tanh", *BATCH_NORMS.values()}
# Where the results of torch.compile, and those of DataParallel and the like, hold the
# module that they run.
WRAPPED = ("_orig_mod", "module")
HOOKS = ("forward_pre_hooks", "forward_hooks", "backward_pre_hooks", "backward_hooks")


def _torch_kind(theirs: Any) -> str | None:
    """The key of ``FROM_TORCH`` for a module, or None."""
    import torch

    kind = _kind_of(theirs, [getattr(torch.nn, name) for name in FROM_TORCH])
    return None if kind is None else kind.__name__


def _check_module(theirs: Any, kind: str | None) -> None:
    """Raise if a module has no counterpart, whatever its members and its forward."""
    import torch

    name = type(theirs).__name__
    own = (*theirs.parameters(recurse=False), *theirs.buffers(recurse=False))
    if any(map(torch.nn.parameter.is_lazy, own)):
        raise ValueError(f"{name} without sizes; call it once")
    if any(getattr(theirs, f"_{hooks}") for hooks in HOOKS):
        raise ValueError(f"{name} with hooks; remove them")
    if torch.nn.utils.parametrize.is_parametrized(theirs):
        raise ValueError(
            f"{name} with parametrizations; make it plain with "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    of_pytorch = type(theirs).__module__.startswith("torch.")
    if kind is None and of_pytorch and not isinstance(theirs, torch.fx.GraphModule):
        if inside := [member for member in WRAPPED if member in theirs._modules]:
            raise ValueError(f"{name}; convert the module inside, .{inside[0]}")
        if "forward" in vars(theirs):
            raise ValueError(f"{name} with another forward; convert the original")
        raise ValueError(name + NO_COUNTERPART)


def _kind_of(module: Any, kinds: Iterable[type]) -> Any:
    """The class among ``kinds`` whose ``forward`` the module has, or None."""
    forward = getattr(module.forward, "__func__", None)
    kind = next((kind for kind in type(module).__mro__ if kind in kinds), None)
    return kind if getattr(kind, "forward", None) is forward else None


# --- Conversions ----------------------------------------------------------------------


class _Conversion:
    """The problems, and the counterparts of modules, parameters and buffers so far.

    A buffer is an array of this engine, or a tensor of PyTorch that is not a parameter.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.modules: dict[Any, Any] = {}
        self.parameters: dict[Any, tuple[Any, bool]] = {}
        # By id, because arrays have no hash. While a buffer is kept, its id is unique.
        self.buffers: dict[int, tuple[Any, Any]] = {}

    def refuse(self, path: str, reason: str) -> None:
        self.problems.append(f"{path or 'the module'}: {reason}")

    def module(self, module: Any, path: str) -> Any:
        """The counterpart of a module, which is found at ``path``."""
        if module not in self.modules:
            counterpart = self.convert(module, path)
            counterpart.training = module.training
            self.modules[module] = counterpart
        return self.modules[module]

    def parameter(self, parameter: Any, path: str, transposed: bool) -> Any:
        """The counterpart of a parameter."""
        if parameter not in self.parameters:
            counterpart = self.convert_parameter(parameter, path, transposed)
            self.parameters[parameter] = counterpart, transposed
        counterpart, before = self.parameters[parameter]
        if transposed != before:
            self.refuse(path, "shared with a linear layer, which needs its transpose")
        return counterpart

    def buffer(self, buffer: Any, path: str) -> Any:
        """The counterpart of a buffer."""
        if id(buffer) not in self.buffers:
            self.buffers[id(buffer)] = buffer, self.copied(buffer, path)
        return self.buffers[id(buffer)][1]

    def convert(self, module: Any, path: str) -> Any:
        raise NotImplementedError

    def convert_parameter(self, parameter: Any, path: str, transposed: bool) -> Any:
        raise NotImplementedError

    def copied(self, values: Any, path: str) -> Any:
        """A copy of the values for the other library."""
        raise NotImplementedError


class _FromTorch(_Conversion):
    def __init__(self) -> None:
        super().__init__()
        # The modules that overwrite their input, and those that may return its memory.
        self.in_place: set[Any] = set()
        self.sharing: set[Any] = set()

    def convert(self, theirs: Any, path: str) -> Module:
        kind = _torch_kind(theirs)
        refuse = partial(self.refuse, join(path, "forward"))
        try:
            _check_module(theirs, kind)
            ours = FROM_TORCH[kind or "Module"](theirs)
        except ValueError as reason:
            self.refuse(path, str(reason))
            return nn.Identity()
        self.fill(ours, theirs, path)
        if isinstance(ours, Traced):
            if kind is None and (program := record(theirs, refuse)):
                ours._program = program
                self.watch_memory(program, theirs, refuse)
        elif isinstance(ours, nn.Sequential):
            self.watch_memory(_in_a_row(theirs._modules), theirs, refuse)
        else:
            in_place = getattr(theirs, "inplace", False)
            self.remember_memory(theirs, in_place, in_place or kind not in FRESH)
        return ours

    def fill(self, ours: Any, theirs: Any, path: str) -> None:
        """Give ``ours`` the members of ``theirs``, in the same order."""
        expected = {name for name, _ in ours._members()}
        for name, member in _own_members(theirs):
            place = join(path, name)
            if isinstance(ours, BatchNorm) and name in RUNNING:
                if member is None:
                    continue
                setattr(ours.running, RUNNING[name], self.buffer(member, place))
            elif hasattr(ours, name) and name not in expected:
                self.refuse(place, "a name with another meaning here; rename it")
            elif name in expected and theirs._buffers.get(name) is not None:
                self.refuse(place, "a buffer, but this engine has a parameter there")
            else:
                setattr(ours, name, self.member(member, ours, name, place))

    def member(self, member: Any, ours: Module, name: str, place: str) -> Any:
        import torch

        if member is None:
            return None
        if isinstance(member, torch.nn.Module):
            return self.module(member, place)
        if isinstance(member, torch.nn.Parameter):
            return self.parameter(member, place, name in ours.pytorch_transposes)
        return self.buffer(member, place)

    def copied(self, theirs: Any, path: str) -> np.ndarray:
        array = array_of(theirs)
        if array is None:
            reason = f"{theirs.dtype} on {theirs.device}, which this engine cannot hold"
            if theirs.is_floating_point() and not theirs.is_meta:
                reason += "; call .float() first"
            self.refuse(path, reason)
            return np.zeros(tuple(theirs.shape))
        return array.copy()

    def convert_parameter(self, theirs: Any, path: str, transposed: bool) -> Tensor:
        values = self.copied(theirs, path)
        values = values.T if transposed else values
        return Tensor(values, requires_grad=theirs.requires_grad)

    def watch_memory(self, program: Program, theirs: Any, refuse: Callable) -> None:
        """Note whether the program overwrites its inputs or may return their memory."""

        def calls_one_of(modules: set) -> Callable[[Step], bool]:
            return lambda step: (
                step.op == "call_module" and member_at(theirs, step.target) in modules
            )

        in_place, sharing = calls_one_of(self.in_place), calls_one_of(self.sharing)
        found = overwriting(program, in_place, sharing, refuse)
        self.remember_memory(theirs, *found)

    def remember_memory(self, theirs: Any, in_place: bool, sharing: bool) -> None:
        if in_place:
            self.in_place.add(theirs)
        if sharing:
            self.sharing.add(theirs)


class _ToTorch(_Conversion):
    def convert(self, ours: Any, path: str) -> Any:
        import torch

        kind = _kind_of(ours, TO_TORCH)
        try:
            if kind is None:
                raise ValueError(f"{type(ours).__name__}, whose forward is its own")
            theirs = TO_TORCH[kind](torch, ours)
        except ValueError as reason:
            self.refuse(path, str(reason))
            return torch.nn.Identity()
        self.fill(theirs, ours, path)
        if kind is Traced:
            theirs.graph = ours._program.to_fx()
        return theirs

    def fill(self, theirs: Any, ours: Module, path: str) -> None:
        """Give ``theirs`` the members of ``ours``, in the same order."""
        unsaved = ours.unsaved_buffers() if isinstance(ours, Traced) else {}
        names: dict[str, str] = {}
        for name, member in (*ours._members(), *unsaved.items()):
            there, place = ours.pytorch_names.get(name, name), join(path, name)
            other = names.setdefault(there, name)
            if "." in name:
                self.refuse(place, "a member inside a list or a dictionary")
            elif other != name:
                self.refuse(place, f"called {there!r} in PyTorch, but so is {other!r}")
            elif hasattr(theirs, there) and there not in _members_like(member, theirs):
                self.refuse(place, f"PyTorch has something else under {there!r}")
            elif isinstance(member, Module):
                theirs.add_module(there, self.module(member, place))
            elif isinstance(member, Tensor):
                parameter = self.parameter(
                    member, place, name in ours.pytorch_transposes
                )
                theirs.register_parameter(there, parameter)
            else:
                buffer = self.buffer(member, place)
                theirs.register_buffer(there, buffer, persistent=name not in unsaved)

    def copied(self, ours: np.ndarray, path: str) -> Any:
        import torch

        native = ours.astype(ours.dtype.newbyteorder("="), order="C")
        try:
            return torch.from_numpy(native)
        except TypeError:
            self.refuse(path, f"PyTorch has no {ours.dtype!r}")
            return torch.zeros(ours.shape)

    def convert_parameter(self, ours: Tensor, path: str, transposed: bool) -> Any:
        import torch

        values = self.copied(ours.data.T if transposed else ours.data, path)
        return torch.nn.Parameter(values, requires_grad=ours.requires_grad)


def _own_members(theirs: Any) -> Iterator[tuple[str, Any]]:
    """The parameters, buffers and modules of a module of PyTorch, in this order."""
    for members in (theirs._parameters, theirs._buffers, theirs._modules):
        yield from members.items()


def _members_like(ours: Member, theirs: Any) -> dict[str, Any]:
    """The members of a module of PyTorch that are of the same kind as ``ours``."""
    if isinstance(ours, Module):
        return theirs._modules
    return theirs._parameters if isinstance(ours, Tensor) else theirs._buffers


def _in_a_row(names: Iterable[str]) -> Program:
    """The program of a Sequential."""
    steps, value = [], Value()
    for name in names:
        steps.append(Step(name, "call_module", name, (value,)))
        value = Value(name)
    return Program(("",), tuple(steps), value)
