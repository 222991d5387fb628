"""Where do the three terms of batch norm's backward pass come from?

    python examples/backward_by_hand.py
    python examples/backward_by_hand.py --exercise mine.py
    python examples/backward_by_hand.py --check mine.py

From the three ways back to x: directly, through E[x], and through Var[x]. Each step of
the derivation in ``by_hand`` stands beside the graph in ``graph``, and is compared with
the engine's own cotangent of that tensor. Put together, the steps are one line,

    d_x = gamma * inv_std * (g - mean(g) - x_hat * mean(g * x_hat)).

The geometry: the mean's part removes what the direct part has along the ones (what a
bias in front would receive), the variance's part what it has along x_hat (what a scale
in front would receive). Of the latter a fraction eps / (var + eps) stays, since
mean(x_hat^2) = var / (var + eps).

In float32, the way to the variance decides whether there is anything to differentiate:
with a mean of 1e4, E[x^2] - E[x]^2 is rounding noise of either sign.

Not shown: which way is fastest, and how the backward pass itself rounds in float32.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3, after Algorithm 1.
"""

import exercise
import numpy as np
from float32_variance import MEANS, x_hat_errors
from lab import largest, options, parse, save, themes
from plots.backward_by_hand import drawing, plot, report

import tinygrad_bn as tg
from tinygrad_bn import Tensor

EPS = 1e-5


def graph(x, gamma, beta):
    """Batch norm of ``x`` (m, C) as a graph: all that lies on the way, by name."""
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
    """The cotangents of the same tensors, from ``g`` = dL/dy backward."""
    m = len(g)
    # y = x_hat * gamma + beta, where gamma and beta serve all rows: theirs add up.
    d_beta = g.sum(axis=0)
    d_gamma = (g * x_hat).sum(axis=0)
    d_x_hat = g * gamma
    # x_hat = x_c * inv_std, where inv_std serves all rows.
    d_inv_std = (d_x_hat * x_c).sum(axis=0, keepdims=True)
    # inv_std = (var + eps)^(-1/2), with the derivative -1/2 (var + eps)^(-3/2).
    d_var = d_inv_std * (-1 / 2) * inv_std**3
    # x_c is used twice: by x_hat, and by var = mean(x_c^2).
    d_x_c = d_x_hat * inv_std + d_var * (2 / m) * x_c
    # x_c = x - mean, where mean serves all rows.
    d_mean = -d_x_c.sum(axis=0, keepdims=True)
    # x is used twice: by x_c, and by mean.
    d_x = d_x_c + d_mean / m
    return {
        "y": g, "beta": d_beta, "gamma": d_gamma, "x_hat": d_x_hat,
        "inv_std": d_inv_std, "var": d_var, "x_c": d_x_c, "mean": d_mean, "x": d_x,
    }  # fmt: skip


def parts(g, gamma, x_hat, inv_std):
    """The three terms of d_x, which are the steps above put into one another."""
    scale = gamma * inv_std
    return {
        "direct": scale * g,
        "mean": -scale * g.mean(axis=0) * np.ones_like(g),
        "variance": -scale * x_hat * (g * x_hat).mean(axis=0),
    }


def worked_example(seed, m=6, channels=3):
    """A random batch norm as a graph, a cotangent of it, and what by hand comes out."""
    rng = np.random.default_rng(seed)
    x = Tensor(rng.normal(1, 0.1, (m, channels)), requires_grad=True, name="x")
    gamma = Tensor(rng.uniform(0.5, 2, channels), requires_grad=True, name="gamma")
    beta = Tensor(rng.normal(0, 1, channels), requires_grad=True, name="beta")
    tensors, g = graph(x, gamma, beta), rng.normal(0.5, 1, x.shape)
    names = ("gamma", "x_hat", "inv_std", "x_c")
    arrays = [tensors[name].data for name in names]
    return tensors, g, by_hand(g, *arrays), parts(g, *arrays[:-1])


def measure(seed):
    """The derivation beside the engine, its parts beside the routes, and float32."""
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
        "apart": {name: largest(part[name] - routes[name]) for name in part}
        | {"total": largest(terms["total"] - d_x)},
        "terms": terms,
        "along ones": {name: d.sum(axis=0) for name, d in terms.items()},
        "along x_hat": {name: (d * x_hat).sum(axis=0) for name, d in terms.items()},
        "stays": EPS * inv_std.ravel() ** 2,
        "float32": {mean: x_hat_errors(mean, seed, EPS) for mean in MEANS},
    }


def main(arguments=None):
    parser = options(__doc__)
    exercise.add_options(parser)
    given = parse(parser, arguments)
    if given.exercise:
        return exercise.write(given.exercise)
    example = worked_example(given.seed)
    if given.check:
        tensors, g, _, part = example
        return exercise.check(given.check, tensors, g, part)
    found = measure(given.seed)
    for theme in themes(given):
        name = "backward_on_the_graph" + ("-dark" if theme == "dark" else "")
        path = drawing(*example, theme).save(given.out / f"{name}.svg")
        print(f"picture: {path}")
    save(lambda theme: plot(found, theme), given, "backward_by_hand")
    print(report(found))
    return found


if __name__ == "__main__":
    main()
