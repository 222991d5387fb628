"""Why does a bias before batch norm get no gradient?

    python examples/why_bias_cancels.py

Batch norm first subtracts the mean: x_hat = x - E[x], where x = u + b. The gradient
reaches b by two routes. The direct route brings +G, the sum of dL/dx_hat over the
batch. The route through E[x] brings -G, because E[x] moves along with b. The two cancel
for every loss, since x_hat does not depend on b. If the backward pass treats E[x] as a
constant, the second route is cut: b receives G and moves, although x_hat still does not
depend on it.

The script prints and draws both cases. A second drawing shows every number on the two
routes.

Source: Ioffe & Szegedy, Batch Normalization, arXiv 1502.03167v3, section 2.
"""

from collections.abc import Callable

import tinygrad_bn as tg
from support import drawings as example
from support.command_line import drawing_options, parse
from tinygrad_bn import Drawing, Tensor

GIVEN = "x = u + b     L = Σ c·x̂     G = sum of c over the batch     N = 4 samples"


def centered(treat: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The loss of ``x - treat(E[x])``, and the bias."""
    x, b = example.biased_data()
    mean = x.mean(axis=0, keepdims=True).named("E[x]")
    return example.loss((x - treat(mean)).named("x_hat")), b


def differentiated(mean: Tensor) -> Tensor:
    """The correct treatment: leave the mean in the graph."""
    return mean


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """The batch mean as part of the graph, and the batch mean as a constant."""
    symbols = {"c": example.C, "G": example.C.sum(axis=0)}
    panels = {
        "Batch mean inside the graph\nx̂ = x − E[x]\n"
        "∂L/∂b = 0: x̂ does not depend on b": differentiated,
        "E[x] treated as a constant\nx̂ = x − stop_gradient(E[x])\n"
        "∂L/∂b ≠ 0: b moves, but x̂ does not": tg.stop_gradient,
    }
    drawn = [
        tg.draw(
            *centered(treat), title=title, symbols=symbols,
            direction="TB", tiles=False, theme=theme,
        )
        for title, treat in panels.items()
    ]  # fmt: skip
    title = "Why a bias before batch norm gets no gradient\n" + GIVEN
    detailed = tg.draw(
        *centered(differentiated),
        title="Every number on the two routes\n" + GIVEN,
        symbols=symbols,
        direction="TB",
        theme=theme,
    )
    return {
        "why_bias_cancels": tg.side_by_side(*drawn, title=title),
        "centering": detailed,
    }


def main(arguments=None) -> None:
    options = parse(drawing_options(__doc__), arguments)
    for treat in (differentiated, tg.stop_gradient):
        print(tg.explain(*centered(treat)), "\n")
    example.save(drawings, options)


if __name__ == "__main__":
    main()
