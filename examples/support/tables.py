"""How the examples print what they measured."""

from collections.abc import Iterable, Sequence


def table(title: str, head: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Rows of labels and numbers as text, in aligned columns below a title."""
    lines = [tuple(head), *(tuple(map(_text, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    body = (
        "  ".join(
            word.ljust(width) if i == 0 else word.rjust(width)
            for i, (word, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )
    return "\n".join([title, *(f"  {line}" for line in body)])


def _text(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def span(values: Iterable[float]) -> str:
    """The range of some values as text, such as "1 to 2"."""
    values = [f"{value:.3g}" for value in sorted(values)]
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
