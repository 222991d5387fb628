"""Why does a bias in front of batch norm get no gradient?

Batch norm first subtracts the mean, x_hat = x - E[x] with x = u + b. The gradient of b
has two routes from the loss: the direct one brings +G, the sum of dL/dx_hat over the
batch, and the one through E[x] brings -G, since E[x] moves along with b. They cancel
for every loss: x_hat does not depend on b. Take E[x] for a constant in the backward
pass, and the second route is cut: b receives G, and moves, although x_hat still does
not depend on it.

Source: Ioffe & Szegedy, Batch Normalization, arXiv 1502.03167v3, section 2.
"""

from collections.abc import Callable

import easel

import tinygrad_bn as tg
from tinygrad_bn import Drawing, Tensor

GIVEN = "x = u + b     L = Σ c·x̂     G = sum of c over the batch     N = 4 samples"


def centered(treat: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The loss of ``x - treat(E[x])``, and the bias."""
    x, b = easel.biased_data()
    mean = x.mean(axis=0, keepdims=True).named("E[x]")
    return easel.loss((x - treat(mean)).named("x_hat")), b


def inside(mean: Tensor) -> Tensor:
    return mean


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """The batch mean inside the graph, beside the batch mean taken as a constant."""
    symbols = {"c": easel.C, "G": easel.C.sum(axis=0)}
    panels = {
        "Batch mean inside the graph\nx̂ = x − E[x]\n"
        "∂L/∂b = 0: x̂ does not see b": inside,
        "E[x] treated as a constant\nx̂ = x − stop_gradient(E[x])\n"
        "∂L/∂b ≠ 0: b moves, x̂ still does not see it": tg.stop_gradient,
    }
    drawn = [
        tg.draw(
            *centered(treat), title=title, symbols=symbols,
            direction="TB", tiles=False, theme=theme,
        )
        for title, treat in panels.items()
    ]  # fmt: skip
    title = "Why a bias in front of batch norm gets no gradient\n" + GIVEN
    one = tg.draw(
        *centered(inside),
        title="Every number on the two routes\n" + GIVEN,
        symbols=symbols,
        direction="TB",
        theme=theme,
    )
    return {"why_bias_cancels": tg.side_by_side(*drawn, title=title), "centering": one}


def main(arguments=None) -> None:
    given = easel.options(__doc__, arguments)
    for treat in (inside, tg.stop_gradient):
        print(tg.explain(*centered(treat)), "\n")
    easel.save(drawings(given.theme), given)


if __name__ == "__main__":
    main()
