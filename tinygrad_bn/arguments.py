"""Check and copy what users pass: masks are refused, and what may change is copied.

    mask     the entries of a NumPy masked array that do not count; they would be lost
             where NumPy makes a plain array
    params   what an operation receives besides its inputs, such as an index

This file comes after ``errors.py`` in the order of imports; look here when needed.

Left out on purpose: copies of what NumPy does not know, such as objects of a user's own
class.
"""

from typing import Any

import numpy as np

from . import errors

# Params of these types cannot change.
_IMMUTABLE = int, float, str, type(None), np.generic


def contains(kind: type, data: Any) -> bool:
    """Whether ``data`` is of this kind, or is a list or tuple with such data inside."""
    if isinstance(data, (list, tuple)):
        return any(contains(kind, x) for x in data)
    return isinstance(data, kind)


def refuse_masked(data: Any, function: str) -> None:
    """Raise if ``data`` are masked: NumPy drops a mask where it makes a plain array."""
    if contains(np.ma.MaskedArray, data):
        raise errors.data_are_masked(function)


def refuse_unreal(values: Any, function: str) -> None:
    """Raise unless ``values`` are real numbers, because NumPy does not check it.

    In place of a complex number, it stores the real part, and in place of None, NaN.
    """
    array = np.asarray(values)
    # Python numbers that fit no integer type are objects.
    missing = array.dtype.kind == "O" and any(value is None for value in array.flat)
    if missing or array.dtype.kind not in "biufO":
        raise errors.data_are_not_real(function, values, array.dtype)


def private_copy(value: Any) -> Any:
    """A param whose changeable parts are copied, because the caller may change them."""
    if isinstance(value, _IMMUTABLE):
        return value
    if isinstance(value, tuple):
        return tuple(map(private_copy, value))
    if isinstance(value, list):
        return list(map(private_copy, value))
    if isinstance(value, dict):
        return {key: private_copy(item) for key, item in value.items()}
    if isinstance(value, slice):
        bounds = (value.start, value.stop, value.step)
        return slice(*map(private_copy, bounds))
    if isinstance(value, set):
        return frozenset(value)
    refuse_masked(value, "an index or param")
    # An array, a tensor, or anything else that NumPy's functions accept.
    return np.array(value) if hasattr(type(value), "__array_ufunc__") else value
