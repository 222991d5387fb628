"""Second derivatives of batch norm where gamma is 0, and the classic mistake there.

To save memory, one may leave out x_hat and recover it in the backward pass from the
output, as x_hat = (y - beta) / gamma. Where gamma is 0, this is 0 / 0. This case is not
exotic: residual networks often start with gamma = 0 in the last batch norm of a branch.
There, dL/dx is 0, but dL/dgamma = sum(g * x_hat) is not, nor is the derivative of dL/dx
with respect to gamma.
"""

import numpy as np

import tinygrad_bn as tg
from support.measures import largest
from support.tables import table
from tinygrad_bn import Tensor


def gamma_at_zero(seed=0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """dL/dgamma, and the derivative of sum(v * dL/dx) by gamma, by each definition.

    dL/dx is gamma times something that does not depend on gamma, so that the second
    derivative must be sum(v * dL/dx) at gamma = 1, channel by channel.
    """
    rng = np.random.default_rng(seed)
    data, g, v = rng.standard_normal((3, 6, 3))

    def run(batch_norm, value):
        x = Tensor(data, requires_grad=True, name="x")
        gamma = Tensor(np.full(3, value), requires_grad=True, name="gamma")
        y = batch_norm(x, gamma, np.zeros(3))
        d_x, d_gamma = tg.grad(y, [x, gamma], gradient=g, create_graph=True)
        return y.data, d_x, d_gamma.data, gamma

    found = {}
    for name, batch_norm in (("graph", tg.batch_norm), ("fused", tg.fused_batch_norm)):
        y, d_x, d_gamma, gamma = run(batch_norm, 0.0)
        found[name] = d_gamma, tg.grad(d_x, gamma, gradient=v).data
    with np.errstate(invalid="ignore"):
        recovered = (y - 0) / gamma.data
    found["x_hat = (y - beta) / gamma"] = (
        (g * recovered).sum(axis=0),
        (v * by_hand(g, recovered, data)).sum(axis=0),
    )
    _, d_x, d_gamma, _ = run(tg.batch_norm, 1.0)
    found["expected"] = d_gamma, (v * d_x.data).sum(axis=0)
    return found


def by_hand(g, x_hat, x, eps=1e-5):
    """dL/dx divided by gamma, by the one-line backward pass."""
    inv_std = 1 / np.sqrt(x.var(axis=0) + eps)
    return inv_std * (g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0))


def report() -> str:
    """The derivatives by each definition, with those that are expected."""
    found = gamma_at_zero()
    rows = [
        (name, *(" ".join(f"{entry:+.3f}" for entry in d) for d in derivatives))
        for name, derivatives in found.items()
    ]
    error = max(
        largest(np.subtract(found[name], found["expected"]))
        for name in ("graph", "fused")
    )
    title = f"Where gamma is 0 (graph and fused are right to {error:.0e})"
    return table(title, ("", "dL/dgamma", "d sum(v * dL/dx) / dgamma"), rows)
