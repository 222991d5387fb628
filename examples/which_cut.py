"""Which dependence protects the bias, and where is a bias in front of batch norm alive?

Cut the gradient at Var[x], and the bias still gets none; cut it at E[x], and it drifts:
only E[x] protects it. And the bias is dead only if the batch's own mean is subtracted
from it: in evaluation mode, with a ReLU between, with a skip connection around batch
norm, and in front of layer norm, which averages over features instead of samples, it
learns like any other.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, sections 2 and 3.2; layer norm: Ba, Kiros &
Hinton, arXiv 1607.06450, section 3.
"""

import easel
import numpy as np

import tinygrad_bn as tg
from tinygrad_bn import Drawing, Tensor


def cut_at(*constants: str) -> tuple[Tensor, Tensor]:
    """The loss of a batch norm that takes these statistics for constants; the bias."""
    x, b = easel.biased_data()
    return easel.loss(tg.batch_norm(x, *easel.gamma_and_beta(), constants=constants)), b


def evaluation_mode() -> tuple[Tensor, Tensor]:
    """Statistics that do not depend on the batch cannot follow the bias."""
    x, b = easel.biased_data()
    mean, var = easel.U.mean(axis=0), easel.U.var(axis=0)
    y = tg.batch_norm(x, *easel.gamma_and_beta(), mean=mean, var=var)
    return easel.loss(y), b


def relu_between() -> tuple[Tensor, Tensor]:
    """Behind a ReLU, the bias no longer moves all rows alike."""
    x, b = easel.biased_data()
    return easel.loss(
        tg.batch_norm(tg.relu(x - np.array([0, -1.5, 3])), *easel.gamma_and_beta())
    ), b


def skip_connection() -> tuple[Tensor, Tensor]:
    """What goes around batch norm is not centered."""
    x, b = easel.biased_data()
    return easel.loss(x + tg.batch_norm(x, *easel.gamma_and_beta())), b


def layer_norm() -> tuple[Tensor, Tensor]:
    """The mean over features removes what all features have in common, no more."""
    x, b = easel.biased_data()
    return easel.loss(tg.batch_norm(x, axes=(1,))), b


CUTS = {
    "full batch norm": (),
    "stop-gradient on Var[x]": ("var",),
    "stop-gradient on E[x]": ("mean",),
    "stop-gradient on both": ("mean", "var"),
}
ALIVE = {
    "evaluation mode": evaluation_mode,
    "a ReLU between": relu_between,
    "a skip connection": skip_connection,
    "layer norm, axes=(1,)": layer_norm,
}


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """Two rows of ledgers: what a cut does to the bias, and where the bias is alive."""

    def ledgers(graphs, title):
        panels = [
            tg.draw(*graph, title=name, max_nodes=1, direction="TB", theme=theme)
            for name, graph in graphs.items()
        ]
        return tg.side_by_side(*panels, title=title)

    cuts = {name: cut_at(*constants) for name, constants in CUTS.items()}
    alive = {name: make() for name, make in ALIVE.items()}
    return {
        "which_cut": ledgers(
            cuts,
            "Which dependence protects the bias?\n"
            "The same batch norm, with the gradient cut: only E[x] matters for b.",
        ),
        "bias_alive": ledgers(
            alive, "Where the bias is alive\nNo batch mean removes all that b adds."
        ),
    }


def main(arguments=None) -> None:
    given = easel.options(__doc__, arguments)
    for name, constants in CUTS.items():
        print(f"{name}\n{tg.explain(*cut_at(*constants))}\n")
    for name, make in ALIVE.items():
        print(f"{name}\n{tg.explain(*make())}\n")
    easel.save(drawings(given.theme), given)


if __name__ == "__main__":
    main()
