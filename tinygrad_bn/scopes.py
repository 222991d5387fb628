"""Which calls the program is inside, and whether operations are recorded.

    scope            one call of a composite or of a module
    composite        a function whose operations are recorded under its name
    qualified name   a name with the path of its module in front, as in ``1.E[x]``

``tape.py`` records this for every operation. Errors, explanations and pictures read it.

This file imports no other; look here when needed.

Left out on purpose: a state per asynchronous task. Each thread has its own state, which
the tasks of that thread share.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import _GeneratorContextManager, contextmanager
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable)


class Scope:
    """One call of a composite or of a module: the operations inside remember it.

    ``owner`` is the module (None for a composite), ``parent`` the call around this one.
    """

    __slots__ = ("_name", "owner", "parent")

    def __init__(self, name: str | None, owner: Any, parent: "Scope | None"):
        self._name, self.owner, self.parent = name, owner, parent

    @property
    def name(self) -> str:
        """The composite's name, or the module's path from the outermost module called.

        The outermost module has the empty name. A module's path is found by a walk
        through the modules around it, on demand.
        """
        if self._name is None:
            self._name = place_in(self.parent, self.owner) or ""
        return self._name


def enclosing(scope: Scope | None) -> Iterator[Scope]:
    """A call and those around it, innermost first."""
    while scope is not None:
        yield scope
        scope = scope.parent


def module_calls(scope: Scope | None) -> Iterator[Scope]:
    """The calls of modules among a call and those around it, innermost first."""
    return (call for call in enclosing(scope) if call.owner is not None)


def join(*names: str) -> str:
    """The names that are not empty, joined by dots."""
    return ".".join(filter(None, names))


def name_in(scope: Scope | None, name: str) -> str:
    """The name of an operation's output, with the path of its module in front."""
    call = next((call for call in module_calls(scope) if call.name), None)
    return name if call is None else join(call.name, name)


def place_in(scope: Scope | None, member: Any) -> str | None:
    """The path of a leaf or module, seen from the innermost call that contains it."""
    for call in module_calls(scope):
        path = call.owner.path_of(member)
        if path is not None:
            return join(call.name, path)
    return None


def composite(function: Function) -> Function:
    """Decorate a function so that its operations are recorded under its name."""
    name = function.__name__

    @functools.wraps(function)
    def recorded_under_its_name(*inputs, **params):
        scopes = this_thread.scopes
        depth = len(scopes)
        try:
            scopes.append(Scope(name, None, scopes[-1]))
            return function(*inputs, **params)
        finally:
            # Not pop(), because an interrupt may come before the scope was added.
            del scopes[depth:]

    return recorded_under_its_name  # type: ignore[return-value]


class _ThisThread(threading.local):
    """Whether this thread records, who asked for that, and the calls it is in."""

    def __init__(self) -> None:
        self.is_recording = True
        self.requests: dict[object, bool] = {}
        self.scopes: list[Scope | None] = [None]


this_thread = _ThisThread()


@contextmanager
def _recording(wanted: bool) -> Iterator[None]:
    # Generators may leave their contexts in a different order than they entered them.
    # Each context therefore withdraws its own request; it does not restore what it
    # found. It does so in the thread that it began in, even if another thread ends it.
    request, here = object(), vars(this_thread)
    try:
        here["requests"][request] = here["is_recording"] = wanted
        yield
    finally:
        here["requests"].pop(request, None)
        here["is_recording"] = next(reversed(here["requests"].values()), True)


def no_grad() -> _GeneratorContextManager[None]:
    """Record nothing inside: a context manager, and a decorator for functions."""
    return _recording(False)


def recording() -> _GeneratorContextManager[None]:
    """Record inside, also under ``no_grad``: a context manager and a decorator."""
    return _recording(True)
