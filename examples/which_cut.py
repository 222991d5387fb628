"""Which dependence protects the bias, and where does a bias near batch norm learn?

    python examples/which_cut.py

Cut the gradient at Var[x], and the bias still receives none. Cut it at E[x], and the
bias drifts: only E[x] protects it. A bias gets no gradient only if batch norm subtracts
the mean of the current batch from it. It learns like any other bias in evaluation mode,
with a ReLU in between, with a skip connection around batch norm, and before layer norm,
which averages over features instead of samples. The script prints the routes to b in
each of these cases. One drawing shows the cuts, and the other where b learns.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, sections 2 and 3.2; layer norm: Ba, Kiros &
Hinton, arXiv 1607.06450, section 3.
"""

import numpy as np

import tinygrad_bn as tg
from support import drawings as example
from support.command_line import drawing_options, parse
from tinygrad_bn import Drawing, Tensor


def cut_at(*constants: str) -> tuple[Tensor, Tensor]:
    """The loss if these statistics are treated as constants, and the bias."""
    x, b = example.biased_data()
    y = tg.batch_norm(x, *example.gamma_and_beta(), constants=constants)
    return example.loss(y), b


def evaluation_mode() -> tuple[Tensor, Tensor]:
    """Given statistics do not follow the bias."""
    x, b = example.biased_data()
    mean, var = example.U.mean(axis=0), example.U.var(axis=0)
    y = tg.batch_norm(x, *example.gamma_and_beta(), mean=mean, var=var)
    return example.loss(y), b


def relu_between() -> tuple[Tensor, Tensor]:
    """After a ReLU, the bias no longer moves all rows by the same amount."""
    x, b = example.biased_data()
    h = tg.relu(x - np.array([0, -1.5, 3]))
    return example.loss(tg.batch_norm(h, *example.gamma_and_beta())), b


def skip_connection() -> tuple[Tensor, Tensor]:
    """A gradient that goes around batch norm is not centered."""
    x, b = example.biased_data()
    return example.loss(x + tg.batch_norm(x, *example.gamma_and_beta())), b


def layer_norm() -> tuple[Tensor, Tensor]:
    """The mean over features removes only what all features have in common."""
    x, b = example.biased_data()
    return example.loss(tg.batch_norm(x, axes=(1,))), b


CUTS = {
    "full batch norm": (),
    "stop-gradient on Var[x]": ("var",),
    "stop-gradient on E[x]": ("mean",),
    "stop-gradient on both": ("mean", "var"),
}
LEARNS = {
    "evaluation mode": evaluation_mode,
    "a ReLU between": relu_between,
    "a skip connection": skip_connection,
    "layer norm, axes=(1,)": layer_norm,
}


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """Two rows of ledgers: how a cut changes the gradient of b, and where b learns."""

    def ledgers(graphs, title):
        panels = [
            tg.draw(*graph, title=name, max_nodes=1, direction="TB", theme=theme)
            for name, graph in graphs.items()
        ]
        return tg.side_by_side(*panels, title=title)

    cuts = {name: cut_at(*constants) for name, constants in CUTS.items()}
    learns = {name: make() for name, make in LEARNS.items()}
    return {
        "which_cut": ledgers(
            cuts,
            "Which dependence protects the bias?\n"
            "The same batch norm, with the gradient cut: only E[x] matters for b.",
        ),
        "bias_alive": ledgers(
            learns,
            "Where the bias learns\nNo batch mean removes all that b adds.",
        ),
    }


def main(arguments=None) -> None:
    options = parse(drawing_options(__doc__), arguments)
    for name, constants in CUTS.items():
        print(f"{name}\n{tg.explain(*cut_at(*constants))}\n")
    for name, make in LEARNS.items():
        print(f"{name}\n{tg.explain(*make())}\n")
    example.save(drawings, options)


if __name__ == "__main__":
    main()
