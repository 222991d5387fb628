"""Module: a function with parameters that knows the names of its members.

    module           a function with parameters: ``module(x)`` calls ``forward``
    member           a leaf, a module or an array among the attributes of a module, also
                     inside lists, tuples and mappings; the output of an operation, such
                     as an activation, is not a member
    parameter        a member that requires a gradient
    state            what a checkpoint contains: tensors, and untrained arrays
    qualified name   attribute names from the outermost module inward: ``0.weight``

Nothing is registered. Every request for names or parameters walks the attributes, so
the answer always describes the module as it is.

This file comes after ``functional.py`` in the reading order; ``nn.py`` is next.

Left out on purpose: hooks, devices, lazy shapes.
"""

from collections import UserList, deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from .arguments import contains
from .errors import describe
from .pytorch_layout import Entry, in_our_layout
from .scopes import Scope, join, this_thread
from .tensor import Tensor

Member = Any  # a Tensor, a Module or an array
# Python 3.10 has no typing.Self.
Self = TypeVar("Self", bound="Module")


class Module:
    """A function with parameters. Subclasses assign attributes and write ``forward``.

    The parameters are the tensors among the attributes that require a gradient, in the
    order of assignment, including those of inner modules and those in lists, tuples and
    mappings. Each is named by its place, as in ``0.weight`` or ``blocks.2.bias``.
    """

    training: bool = True

    # How PyTorch stores the members: which have other names, and which are transposed.
    pytorch_names: ClassVar[Mapping[str, str]] = {}
    pytorch_transposes: ClassVar[Collection[str]] = ()

    def forward(self, *inputs: Any, **params: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        scopes = this_thread.scopes
        depth = len(scopes)
        try:
            scopes.append(Scope(None, self, scopes[-1]))
            return self.forward(*inputs, **params)
        finally:
            del scopes[depth:]  # Not pop(), for the reason given in scopes.composite.

    def __setattr__(self, name: str, value: Any) -> None:
        if _is_parameter(vars(self).get(name)) and value is not None:
            members = [member for _, member in _members_in(name, value)]
            if not any(map(_can_replace_a_parameter, members)):
                raise TypeError(
                    f"{type(self).__name__}.{name}: a parameter must be replaced by a "
                    f"leaf, a module or None, but {describe(value)} was received, "
                    "which would not be trained. To set its values, write "
                    f"{name}[...] = values; to freeze it, {name}.requires_grad = "
                    "False; to keep something else under this name, set it to None "
                    "first."
                )
        super().__setattr__(name, value)

    # --- Members ----------------------------------------------------------------------

    def _members(self) -> Iterator[tuple[str, Member]]:
        """The leaves, modules and arrays among the attributes, with their names."""
        for name, value in vars(self).items():
            yield from _members_in(name, value)

    def _walk(self, around: "tuple[Module, ...]" = ()) -> Iterator[tuple[str, Member]]:
        """The members of this module and of all modules inside, outermost first."""
        around = (*around, self)
        for name, member in self._members():
            # A module that contains itself is not entered a second time.
            if isinstance(member, Module) and any(member is m for m in around):
                continue
            yield name, member
            if isinstance(member, Module):
                for inner_name, inner in member._walk(around):
                    yield f"{name}.{inner_name}", inner

    def path_of(self, member: "Tensor | Module") -> str | None:
        """The qualified name of a tensor or module inside this one, or None."""
        return next((name for name, m in self._walk() if m is member), None)

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """This module, with an empty name, and every module inside, each once."""
        found = {id(self)}
        yield "", self
        for name, member in self._walk():
            if isinstance(member, Module) and id(member) not in found:
                found.add(id(member))
                yield name, member

    def modules(self) -> Iterator["Module"]:
        """This module and all those inside, outermost first, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Each parameter once, with its qualified name as seen from this module."""
        found: set[Tensor] = set()
        for name, member in self._walk():
            if _is_parameter(member) and member not in found:
                found.add(member)
                yield name, member

    def parameters(self) -> list[Tensor]:
        """The parameters, each once, in the order of assignment.

        A frozen tensor is not among them: make an optimizer before freezing, or make a
        new one after unfreezing.
        """
        return [tensor for _, tensor in self.named_parameters()]

    # --- Modes and gradients ----------------------------------------------------------

    def zero_grad(self) -> None:
        """Clear the gradients of all parameters, including frozen ones."""
        for _, member in self._walk():
            if isinstance(member, Tensor):
                member.grad = None

    def train(self: Self, mode: bool = True) -> Self:  # noqa: PYI019
        """Switch to training mode: batch norm uses the statistics of its batch.

        The mode applies to all modules inside. ``mode=False`` is evaluation mode.
        """
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:  # noqa: PYI019
        """Switch to evaluation mode: batch norm uses its running statistics."""
        return self.train(False)

    # --- State ------------------------------------------------------------------------

    def _entries(self) -> Iterator[Entry]:
        """The tensors and arrays of this module, with PyTorch's names next to ours."""
        for path, module in [("", self), *self._walk()]:
            if not isinstance(module, Module):
                continue
            for name, member in module._members():
                if not isinstance(member, Module):
                    yield Entry(
                        join(path, name),
                        join(path, module.pytorch_names.get(name, name)),
                        name in module.pytorch_transposes,
                        member,
                    )

    def _state(self) -> dict[str, Tensor | np.ndarray]:
        state: dict[str, Tensor | np.ndarray] = {}
        for name, member in self._walk():
            if name in state:
                raise ValueError(
                    f"{type(self).__name__}: each member must have its own name, but "
                    f"two are called {name!r}. Change a key of a dictionary."
                )
            if not isinstance(member, Module):
                state[name] = member
        return state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all tensors and arrays of this module, by qualified name.

        They are in the layout of this engine. For PyTorch, save a ``.safetensors`` file
        or use ``tg.to_torch``, which transpose the weights of linear layers.
        """
        return {name: np.array(value) for name, value in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy ``state`` into the tensors and arrays of this module.

        Plain arrays are in the layout of this engine, as ``state_dict`` returns them:
        ``Linear.weight`` is (in_features, out_features). PyTorch's tensors, and what
        ``tg.load`` reads from a ``.safetensors`` file, have PyTorch's names and layout,
        and are converted. So pass PyTorch's tensors themselves: as NumPy arrays, the
        weights of a square layer would load without an error, but transposed.

        Raises: ``ValueError`` for entries that are missing, unexpected, or of another
        shape or dtype, for different values of a tensor or array with two names, and
        for an array that is read-only; it lists them all, and nothing is changed.
        ``TypeError`` for anything but a dictionary, and for a mixture of plain arrays
        and PyTorch's.
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                "load_state_dict: the state must be a dictionary, such as "
                "module.state_dict() or an entry of tg.load(path), but "
                f"{describe(state)} was received."
            )
        here = self._state()
        state = in_our_layout(state, self._entries())
        if wrong := _differences(here, state):
            raise ValueError(
                "load_state_dict: the entries must be those of this "
                f"{type(self).__name__}. Nothing was loaded. {'; '.join(wrong)}."
            )
        # The state may contain arrays of this module, so it is copied as a whole.
        values = {name: np.array(value) for name, value in state.items()}
        for name, member in here.items():
            member[...] = values[name]

    # --- Text -------------------------------------------------------------------------

    def __repr__(self) -> str:
        return self._text(())

    def _text(self, around: tuple) -> str:
        around = (*around, self)
        inside = [
            f"  {name}: " + m._text(around).replace("\n", "\n  ")
            for name, m in self._members()
            if isinstance(m, Module) and not any(m is outer for outer in around)
        ]
        body = "\n".join(["", *inside, ""]) if inside else self.extra_repr()
        return f"{type(self).__name__}({body})"

    def extra_repr(self) -> str:
        """The text that ``repr`` shows between the parentheses."""
        return ""

    def caption(self) -> str:
        """The text that pictures show below the module's name: its class and sizes."""
        return f"{type(self).__name__} {self.extra_repr()}".strip()


def _differences(here: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """The reasons why ``state`` cannot be loaded into the members ``here``."""
    wrong = [f"missing: {name}" for name in here if name not in state]
    wrong += [f"unexpected: {name}" for name in state if name not in here]
    names: dict[int, str] = {}
    for name in here.keys() & state.keys():
        if contains(np.ma.MaskedArray, state[name]):
            wrong.append(f"{name}: expected an array without a mask")
        expected, received = here[name], np.asarray(state[name])
        if (received.shape, received.dtype) != (expected.shape, expected.dtype):
            transposed = received.ndim == 2 and received.T.shape == expected.shape
            wrong.append(
                f"{name}: expected {expected.shape} {expected.dtype}, "
                f"received {received.shape} {received.dtype}"
                + (", its transpose" if transposed else "")
            )
            continue
        if isinstance(expected, np.ndarray) and not expected.flags.writeable:
            wrong.append(f"{name}: its array is read-only")
        other = names.setdefault(id(expected), name)
        nan_equals_nan = received.dtype.kind == "f"
        if not np.array_equal(received, np.asarray(state[other]), nan_equals_nan):
            pair = " and ".join(sorted([name, other]))
            wrong.append(f"{pair}: expected equal values, because it is one array")
    return sorted(wrong)


def _is_parameter(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_leaf and value.requires_grad


def _is_state(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_leaf or isinstance(value, np.ndarray)


def _can_replace_a_parameter(member: Member) -> bool:
    """Whether ``member`` is trained, or a leaf that the user made as a constant."""
    if isinstance(member, Module) or _is_parameter(member):
        return True
    # The output of an operation is read-only, even if nothing was recorded.
    return isinstance(member, Tensor) and member.data.flags.writeable


def _members_in(name: str, value: Any) -> Iterator[tuple[str, Member]]:
    if isinstance(value, Module) or _is_state(value):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _members_in(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple | deque | UserList):
        for i, inner in enumerate(value):
            yield from _members_in(f"{name}.{i}", inner)
    elif isinstance(value, set | frozenset) and any(
        isinstance(x, Module | Tensor) for x in value
    ):
        raise TypeError(
            f"{name}: modules and tensors must be in a list or dictionary, but a set "
            "was received, which has no order to name them by."
        )


def describe_module(module: Module) -> str:
    """The class and qualified name of a module, for errors raised during its call."""
    scope = this_thread.scopes[-1]
    name = scope.name if scope is not None and scope.owner is module else ""
    return f"{type(module).__name__} {name!r}" if name else type(module).__name__
