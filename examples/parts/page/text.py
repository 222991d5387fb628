"""Numbers as the page writes them: fixed decimals, and a real minus sign."""

from collections.abc import Iterable

ZERO = 1e-9  # what is smaller is rounding


def plain(value: float, decimals: int = 2) -> str:
    """A value, such as 2.00 or −0.13."""
    # Adding 0 removes the sign of a rounded -0.
    return f"{round(value, decimals) + 0:.{decimals}f}".replace("-", "−")


def signed(value: float, decimals: int = 2) -> str:
    """A gradient, such as +1.50; 0 where nothing but rounding is left."""
    if abs(value) < ZERO:
        return "0"
    return ("+" if value > 0 else "") + plain(value, decimals)


def listed(values: Iterable[float], decimals: int = 2) -> str:
    return ", ".join(plain(v, decimals) for v in values)
