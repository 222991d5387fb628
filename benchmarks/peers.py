"""Other libraries as contestants, where they are installed.

A contestant is constructed from a case and the initial values of the parameters.
``step(images, labels)`` takes one training step on NumPy arrays and returns the loss.
``parameters`` returns the current values as arrays. To add a library, write such a
class, import the library in its constructor, and add it to ``PEERS``.
"""

from contextlib import nullcontext
from itertools import pairwise

import numpy as np

from .cases import ADAM_BETAS, ADAM_EPS, BN_EPS, BN_MOMENTUM, Case


class Torch:
    """PyTorch in eager mode. Its weights are the transposes of ours."""

    def __init__(self, case: Case, values: list[np.ndarray]):
        import torch

        self.torch = torch
        options = {"dtype": getattr(torch, values[0].dtype.name)}
        *hidden, last = pairwise(case.sizes)
        layers = []
        for fan_in, fan_out in hidden:
            layers.append(
                torch.nn.Linear(fan_in, fan_out, not case.batch_norm, **options)
            )
            if case.batch_norm:
                layers.append(
                    torch.nn.BatchNorm1d(fan_out, BN_EPS, BN_MOMENTUM, **options)
                )
            layers.append(
                {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}[case.activation]()
            )
        self.model = torch.nn.Sequential(*layers, torch.nn.Linear(*last, **options))
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), values, strict=True):
                parameter.copy_(torch.from_numpy(value.T))
        if case.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(self.model.parameters(), case.lr)
        else:
            self.optimizer = torch.optim.Adam(
                self.model.parameters(), case.lr, ADAM_BETAS, ADAM_EPS
            )

    def step(self, images, labels):
        images, labels = map(self.torch.from_numpy, (images, labels))
        loss = self.torch.nn.functional.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @property
    def parameters(self) -> list[np.ndarray]:
        return [parameter.detach().numpy().T for parameter in self.model.parameters()]


class Jax:
    """JAX, which compiles the whole step once, including the parameter update."""

    def __init__(self, case: Case, values: list[np.ndarray]):
        import jax

        self.jax, self.case = jax, case
        double = values[0].dtype == np.float64
        self.precision = lambda: jax.enable_x64(True) if double else nullcontext()
        with self.precision():
            parameters = [jax.numpy.array(value) for value in values]
            zeros = [jax.numpy.zeros_like(p) for p in parameters]
            norms = len(case.sizes) - 2 if case.batch_norm else 0
            features = [jax.numpy.zeros(n, values[0].dtype) for n in case.sizes[1:]]
            running = [(f, f + 1) for f in features[:norms]]
            averages = (zeros, zeros) if case.optimizer == "adam" else ()
            self.state = parameters, running, averages, 0
        self.compiled = jax.jit(self.update)

    def step(self, images, labels):
        with self.precision():
            self.state, loss = self.compiled(self.state, images, labels)
            # JAX returns before it has finished.
            self.jax.block_until_ready(self.state)
        return loss

    def update(self, state, images, labels):
        """The state after one step, and the loss before it."""
        parameters, running, averages, t = state
        differentiated = self.jax.value_and_grad(self.loss, has_aux=True)
        (loss, batch), gradients = differentiated(parameters, images, labels)
        unbiased = self.case.batch_size / (self.case.batch_size - 1)
        running = [
            (
                (1 - BN_MOMENTUM) * mean + BN_MOMENTUM * batch_mean,
                (1 - BN_MOMENTUM) * var + BN_MOMENTUM * unbiased * batch_var,
            )
            for (mean, var), (batch_mean, batch_var) in zip(running, batch, strict=True)
        ]
        if self.case.optimizer == "sgd":
            parameters = [
                p - self.case.lr * g for p, g in zip(parameters, gradients, strict=True)
            ]
        else:
            parameters, averages = self.adam(parameters, gradients, *averages, t + 1)
        return (parameters, running, averages, t + 1), loss

    def loss(self, parameters, x, labels):
        """The cross-entropy, and the mean and variance of each batch norm."""
        jax, case = self.jax, self.case
        values, batch = iter(parameters), []
        activation = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}[case.activation]
        for layer in range(len(case.sizes) - 1):
            hidden = layer < len(case.sizes) - 2
            x = x @ next(values)
            if hidden and case.batch_norm:
                mean, var = x.mean(0), x.var(0)
                batch.append((mean, var))
                x = (x - mean) * jax.lax.rsqrt(var + BN_EPS) * next(values)
            x = x + next(values)
            x = activation(x) if hidden else x
        log_p = jax.nn.log_softmax(x)
        return -log_p[jax.numpy.arange(len(labels)), labels].mean(), batch

    def adam(self, parameters, gradients, m, v, t):
        (beta1, beta2), sqrt = ADAM_BETAS, self.jax.numpy.sqrt
        lr = self.case.lr / (1 - beta1**t)
        m = [beta1 * a + (1 - beta1) * g for a, g in zip(m, gradients, strict=True)]
        v = [beta2 * a + (1 - beta2) * g * g for a, g in zip(v, gradients, strict=True)]
        parameters = [
            p - lr * a / (sqrt(b / (1 - beta2**t)) + ADAM_EPS)
            for p, a, b in zip(parameters, m, v, strict=True)
        ]
        return parameters, (m, v)

    @property
    def parameters(self) -> list[np.ndarray]:
        return [np.asarray(p) for p in self.state[0]]


# Keys are the names under which the libraries are imported.
PEERS = {"torch": Torch, "jax": Jax}
