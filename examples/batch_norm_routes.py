"""How does the gradient reach a bias before batch norm?

    python examples/batch_norm_routes.py

By three routes: directly, through E[x], and through Var[x]. The one through Var[x]
splits in two at x - E[x], and one branch goes through E[x] as well. The direct route
brings G = sum(gamma * dL/dy) / sqrt(var + eps), and the route through E[x] brings -G.
What goes through Var[x] is not zero row by row, but it is proportional to x - E[x],
whose sum over the batch is zero. gamma and beta have one route each. beta can do what b
cannot: shift the output.

The script prints what each route brings. The first drawing shows all routes in the
graph, and the second shows each route as a chain.

Source: Ioffe & Szegedy, Batch Normalization, arXiv 1502.03167v3, sections 2 and 3.
"""

import numpy as np

import tinygrad_bn as tg
from support import drawings as example
from support.command_line import drawing_options, parse
from tinygrad_bn import Drawing, Tensor

EPS = 1e-5


def normalized() -> tuple[Tensor, Tensor]:
    """The loss after batch norm, and the bias before it."""
    x, b = example.biased_data()
    y = tg.batch_norm(x, *example.gamma_and_beta(), eps=EPS).named("y")
    return example.loss(y), b


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """The graph with its routes, and each route as a chain."""
    x = example.U + example.B
    d_x_hat = example.C * example.GAMMA
    direct = d_x_hat / np.sqrt(x.var(axis=0) + EPS)
    symbols = {
        "c": example.C, "c·γ": d_x_hat, "c·γ/σ": direct, "G": direct.sum(axis=0)
    }  # fmt: skip
    graph = tg.draw(
        *normalized(),
        title="Batch norm, every route of the gradient back to the bias\n"
        "σ = √(Var[x] + ε)     G = sum of c·γ/σ over the batch",
        symbols=symbols,
        direction="TB",
        tiles=False,
        theme=theme,
    )
    chains = tg.draw_routes(
        *normalized(),
        title="All routes from the loss to b\n"
        "One route per line. The factor above an arrow multiplies the gradient.",
        theme=theme,
    )
    return {"batch_norm_routes": graph, "routes": chains}


def main(arguments=None) -> None:
    options = parse(drawing_options(__doc__), arguments)
    print(tg.explain(*normalized()))
    example.save(drawings, options)


if __name__ == "__main__":
    main()
