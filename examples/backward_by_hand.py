"""Where do the three terms of batch norm's backward pass come from?

    python examples/backward_by_hand.py
    python examples/backward_by_hand.py --exercise mine.py
    python examples/backward_by_hand.py --check mine.py

From the three routes back to x: directly, through E[x], and through Var[x]. ``graph``
builds batch norm as a graph, ``by_hand`` derives the cotangent of each of its tensors,
and the script compares both. With --exercise, it writes a file in which you derive d_x
yourself, and with --check, it says what is missing. Combined, the steps of the
derivation are one line,

    d_x = gamma * inv_std * (g - mean(g) - x_hat * mean(g * x_hat)).

As geometry: the mean part removes the component of the direct part along the ones
(which a bias before batch norm would receive), and the variance part removes its
component along x_hat (which a scale there would receive). A fraction eps / (var + eps)
of the latter is left, because mean(x_hat^2) = var / (var + eps). (geometry.py draws
this.)

In float32, the method by which the variance is computed decides whether there is
anything to differentiate: with a mean of 1e4, E[x^2] - E[x]^2 is rounding noise of
either sign. Where it is negative or 0, it must be clipped, and x_hat = (x - mean) /
sqrt(0 + eps). The error of x_hat therefore has a ceiling of about |x - mean| /
sqrt(eps), here 4 / sqrt(1e-5) = 1300: eps hides how wrong the variance is.

In a batch of two, all that remains without the component along the ones lies along
x_hat, so that only a fraction eps / (var + eps) of it is left (batch_noise.py).

Not shown: which method is fastest, and the rounding errors of the backward pass itself.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3, after Algorithm 1.
"""

import numpy as np

import tinygrad_bn as tg
from parts.backward_by_hand import exercise
from parts.backward_by_hand.float32_variance import MEANS, x_hat_errors
from parts.backward_by_hand.plots import drawing, plot, report
from support.command_line import experiment_options, parse
from support.drawings import save as save_drawings
from support.measures import largest
from support.plotting import save
from tinygrad_bn import Tensor

EPS = 1e-5


def graph(x, gamma, beta):
    """Batch norm of ``x`` (m, C) as a graph: its tensors by name, output first."""
    mean = x.mean(axis=0, keepdims=True).named("E[x]")
    x_c = x - mean
    var = (x_c**2).mean(axis=0, keepdims=True).named("Var[x]")
    inv_std = (var + EPS) ** -0.5
    x_hat = (x_c * inv_std).named("x_hat")
    y = x_hat * gamma + beta
    return {
        "y": y, "beta": beta, "gamma": gamma, "x_hat": x_hat, "inv_std": inv_std,
        "var": var, "x_c": x_c, "mean": mean, "x": x,
    }  # fmt: skip


def by_hand(g, gamma, x_hat, inv_std, x_c):
    """The cotangents of the same tensors, derived step by step from ``g`` = dL/dy."""
    m = len(g)
    # y = x_hat * gamma + beta. All rows share gamma and beta: their gradients add up.
    d_beta = g.sum(axis=0)
    d_gamma = (g * x_hat).sum(axis=0)
    d_x_hat = g * gamma
    # x_hat = x_c * inv_std. All rows share inv_std.
    d_inv_std = (d_x_hat * x_c).sum(axis=0, keepdims=True)
    # inv_std = (var + eps)^(-1/2) has the derivative -1/2 (var + eps)^(-3/2).
    d_var = d_inv_std * (-1 / 2) * inv_std**3
    # x_c is used twice: in x_hat, and in var = mean(x_c^2).
    d_x_c = d_x_hat * inv_std + d_var * (2 / m) * x_c
    # x_c = x - mean. All rows share mean.
    d_mean = -d_x_c.sum(axis=0, keepdims=True)
    # x is used twice: in x_c, and in mean.
    d_x = d_x_c + d_mean / m
    return {
        "y": g, "beta": d_beta, "gamma": d_gamma, "x_hat": d_x_hat,
        "inv_std": d_inv_std, "var": d_var, "x_c": d_x_c, "mean": d_mean, "x": d_x,
    }  # fmt: skip


def parts(g, gamma, x_hat, inv_std):
    """The three terms of d_x, which result from combining the steps above."""
    scale = gamma * inv_std
    return {
        "direct": scale * g,
        "mean": -scale * g.mean(axis=0) * np.ones_like(g),
        "variance": -scale * x_hat * (g * x_hat).mean(axis=0),
    }


def worked_example(seed, m=6, channels=3):
    """A random batch norm as a graph, a cotangent, and the results by hand."""
    rng = np.random.default_rng(seed)
    x = Tensor(rng.normal(1, 0.1, (m, channels)), requires_grad=True, name="x")
    gamma = Tensor(rng.uniform(0.5, 2, channels), requires_grad=True, name="gamma")
    beta = Tensor(rng.normal(0, 1, channels), requires_grad=True, name="beta")
    tensors, g = graph(x, gamma, beta), rng.normal(0.5, 1, x.shape)
    names = ("gamma", "x_hat", "inv_std", "x_c")
    arrays = [tensors[name].data for name in names]
    return tensors, g, by_hand(g, *arrays), parts(g, *arrays[:-1])


def measure(seed):
    """The derivation compared with the engine, parts with routes, and float32."""
    tensors, g, hand, part = worked_example(seed)
    x, x_hat, inv_std = tensors["x"], tensors["x_hat"].data, tensors["inv_std"].data
    engine = tg.grad(tensors["y"], list(tensors.values()), gradient=g)
    routes = dict.fromkeys(part, 0)
    for route in tg.explain(tensors["y"], x, gradient=g):
        name = {(): "direct", ("E[x]",): "mean"}.get(route.gates, "variance")
        routes[name] = routes[name] + route.gradient
    fused = tg.fused_batch_norm(x, tensors["gamma"], tensors["beta"], eps=EPS)
    d_x = tg.grad(fused, x, gradient=g).data
    terms = part | {"total": sum(part.values())}
    return {
        "steps": {
            name: (largest(hand[name]), largest(hand[name] - d.data))
            for name, d in zip(tensors, engine)
        },
        "differences": {name: largest(part[name] - routes[name]) for name in part}
        | {"total": largest(terms["total"] - d_x)},
        "terms": terms,
        "along ones": {name: d.sum(axis=0) for name, d in terms.items()},
        "along x_hat": {name: (d * x_hat).sum(axis=0) for name, d in terms.items()},
        "left": EPS * inv_std.ravel() ** 2,
        "float32": {mean: x_hat_errors(mean, seed, EPS) for mean in MEANS},
    }


def main(arguments=None):
    parser = experiment_options(__doc__)
    exercise.add_options(parser)
    options = parse(parser, arguments)
    if options.exercise:
        return exercise.write(options.exercise)
    example = worked_example(options.seed)
    if options.check:
        tensors, g, _, part = example
        return exercise.check(options.check, tensors, g, part)
    found = measure(options.seed)

    def draw(theme):
        return {"backward_on_the_graph": drawing(*example, theme)}

    save_drawings(draw, options, extension="svg")
    save(lambda theme: plot(found, theme), options, "backward_by_hand")
    print(report(found))
    return found


if __name__ == "__main__":
    main()
