"""By which routes does the gradient reach a bias in front of a whole batch norm?

Directly, through E[x], through Var[x], and through Var[x] and then E[x]. With scaling,
what arrives directly is G = sum(gamma * dL/dy) / sqrt(var + eps); through E[x] comes
-G. What goes through Var[x] is not zero row by row, but proportional to x - E[x], whose
sum over the batch is zero. gamma and beta have one route each: beta does the work that
b cannot.

Source: Ioffe & Szegedy, Batch Normalization, arXiv 1502.03167v3, sections 2 and 3.
"""

import easel
import numpy as np

import tinygrad_bn as tg
from tinygrad_bn import Drawing, Tensor

EPS = 1e-5


def normalized() -> tuple[Tensor, Tensor]:
    """The loss of a batch norm, and the bias in front of it."""
    x, b = easel.biased_data()
    y = tg.batch_norm(x, *easel.gamma_and_beta(), eps=EPS).named("y")
    return easel.loss(y), b


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """The graph with its streams, and the routes as chains."""
    x = easel.U + easel.B
    d_x_hat = easel.C * easel.GAMMA
    direct = d_x_hat / np.sqrt(x.var(axis=0) + EPS)
    symbols = {"c": easel.C, "c·γ": d_x_hat, "c·γ/σ": direct, "G": direct.sum(axis=0)}
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
        "One way through the graph per line; above an arrow, what the gradient is "
        "multiplied by.",
        theme=theme,
    )
    return {"batch_norm_routes": graph, "routes": chains}


def main(arguments=None) -> None:
    given = easel.options(__doc__, arguments)
    print(tg.explain(*normalized()))
    easel.save(drawings(given.theme), given)


if __name__ == "__main__":
    main()
