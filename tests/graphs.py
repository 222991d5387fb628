"""The graphs that the tests of routes and of drawings have in common.

``u + b`` goes through the centering of batch norm, or through all of batch norm, into a
loss with fixed coefficients, so that the gradient of every route can be worked out.
"""

import numpy as np

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn

U = np.array([[1, 0, 2], [3, 1, -1], [-2, 4, 0], [2, -1, 3]], float)
B = np.array([0.5, -1, 2])
C = np.array([[0.5, -1, 0.25], [-0.25, 0.75, 1], [1, 0.25, -0.5], [-0.5, 1.5, 0.5]])
GAMMA, BETA = np.array([1, 0.5, 2]), np.array([0.1, 0.2, -0.3])


def biased_data(dtype=float):
    u = Tensor(U, name="u", dtype=dtype)
    b = Tensor(B, requires_grad=True, name="b", dtype=dtype)
    return (u + b).named("x"), b


def loss(y, c=C):
    return (y * c).sum().named("L")


def centered(treat=lambda mean: mean):
    """``x - E[x]``, where ``treat`` may, for example, cut the gradient of the mean."""
    x, b = biased_data()
    mean = x.mean(axis=0, keepdims=True).named("E[x]")
    return loss((x - treat(mean)).named("x_hat")), b


def normalized(normalize=tg.batch_norm, **settings):
    x, b = biased_data()
    gamma = Tensor(GAMMA, requires_grad=True, name="gamma")
    beta = Tensor(BETA, requires_grad=True, name="beta")
    return loss(normalize(x, gamma, beta, **settings)), b


def all_routes_vanish(dtype):
    """A network and a loss for which each route to the first bias is only rounding.

    The gradient of x_hat sums to 0 over the batch, because x_hat does.
    """
    net = nn.Sequential(
        nn.Linear(4, 3, rng=0, dtype=dtype),
        nn.BatchNorm(3, dtype=dtype),
        nn.Linear(3, 2, rng=1, dtype=dtype),
    )
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(dtype)
    return net, (net(Tensor(x)) ** 2).mean()
