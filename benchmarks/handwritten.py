"""The training step written by hand in NumPy: the yardstick.

This is backpropagation without an engine, for a network that is known in advance. Each
layer is a pair of methods: ``forward`` computes the output, and ``backward`` takes g,
the gradient of the loss with respect to that output, writes the gradients of the
layer's parameters, and returns the gradient with respect to the input. A training step
runs the layers forward, runs them backward in reverse order, and updates the
parameters.

Every array is allocated once, and every result is written into one of them. A layer
overwrites its input or g when it is no longer needed. All parameters are stored one
after the other in one flat array, and all gradients in another. The first layer does
not compute the gradient of the data. ``tuned.py`` shows what else can be done.

N is the batch size and C is the number of classes. Activations have the shape
(N, features). Each gradient has the shape of the array that it belongs to.
"""

from itertools import pairwise
from typing import ClassVar

import numpy as np

from .cases import ADAM_BETAS, ADAM_EPS, BN_EPS, BN_MOMENTUM, Case


class Linear:
    """y = x W + b, with d_W = x^T g, d_b = sum(g) and d_x = g W^T."""

    def __init__(self, N, fan_in, fan_out, weight, bias, is_first):
        self.W, self.d_W = weight
        self.b, self.d_b = bias or (None, None)
        self.y = np.empty((N, fan_out), self.W.dtype)
        self.d_x = None if is_first else np.empty((N, fan_in), self.W.dtype)

    def forward(self, x):
        self.x = x
        np.matmul(x, self.W, out=self.y)
        if self.b is not None:
            self.y += self.b
        return self.y

    def backward(self, g):
        np.matmul(self.x.T, g, out=self.d_W)
        if self.b is not None:
            np.sum(g, axis=0, out=self.d_b)
        if self.d_x is not None:
            np.matmul(g, self.W.T, out=self.d_x)
        return self.d_x


class BatchNorm:
    """x_hat = (x - mean) / sqrt(var + eps) over the batch, and y = gamma x_hat + beta.

    With inv_std = 1 / sqrt(var + eps): d_beta = sum(g), d_gamma = sum(g x_hat), and
    d_x = gamma inv_std (g - mean(g) - x_hat mean(g x_hat)).
    """

    def __init__(self, N, features, gamma, beta):
        self.gamma, self.d_gamma = gamma
        self.beta, self.d_beta = beta
        dtype = self.gamma.dtype
        self.N = N
        self.y = np.empty((N, features), dtype)
        # One array for mean and variance, so that one update covers both statistics.
        self.batch = np.empty((2, features), dtype)
        self.mean, self.var = self.batch
        self.running = np.array([np.zeros(features), np.ones(features)], dtype)
        # The running variance is unbiased: N / (N - 1) times the variance of the batch.
        self.weight_of_batch = np.array(
            [[BN_MOMENTUM], [BN_MOMENTUM * N / (N - 1)]], dtype
        )
        self.inv_std, self.row = np.empty((2, features), dtype)

    def forward(self, x):
        np.mean(x, axis=0, out=self.mean)
        x_c = np.subtract(x, self.mean, out=x)
        np.mean(np.multiply(x_c, x_c, out=self.y), axis=0, out=self.var)

        np.add(self.var, BN_EPS, out=self.inv_std)
        np.sqrt(self.inv_std, out=self.inv_std)
        np.divide(1, self.inv_std, out=self.inv_std)
        self.x_hat = np.multiply(x_c, self.inv_std, out=x_c)
        np.multiply(self.x_hat, self.gamma, out=self.y)
        self.y += self.beta
        self.update_running()
        return self.y

    def update_running(self):
        self.running *= 1 - BN_MOMENTUM
        self.batch *= self.weight_of_batch
        self.running += self.batch

    def backward(self, g):
        scratch = self.y  # its values are no longer needed
        np.sum(g, axis=0, out=self.d_beta)
        np.sum(np.multiply(g, self.x_hat, out=scratch), axis=0, out=self.d_gamma)

        np.divide(self.d_gamma, self.N, out=self.row)
        g -= np.multiply(self.x_hat, self.row, out=scratch)
        g -= np.divide(self.d_beta, self.N, out=self.row)
        g *= np.multiply(self.gamma, self.inv_std, out=self.row)
        return g


class ReLU:
    """y = max(x, 0), with d_x = g where y > 0 and 0 elsewhere."""

    def __init__(self, N, features, dtype):
        self.positive = np.empty((N, features), bool)

    def forward(self, x):
        self.y = np.maximum(x, 0, out=x)
        return self.y

    def backward(self, g):
        g *= np.greater(self.y, 0, out=self.positive)
        return g


class Sigmoid:
    """y = 1 / (1 + exp(-x)), with d_x = g y (1 - y)."""

    def __init__(self, N, features, dtype):
        self.slope = np.empty((N, features), dtype)

    def forward(self, x):
        np.negative(x, out=x)
        np.exp(x, out=x)
        x += 1
        self.y = np.divide(1, x, out=x)
        return self.y

    def backward(self, g):
        np.subtract(1, self.y, out=self.slope)
        self.slope *= self.y
        g *= self.slope
        return g


class CrossEntropy:
    """loss = -mean(log p[label]), p = softmax(logits), d_logits = (p - onehot) / N."""

    def __init__(self, N, C, dtype):
        self.N, self.rows = N, np.arange(N)
        self.p = np.empty((N, C), dtype)
        self.row = np.empty((N, 1), dtype)

    def forward(self, logits, labels):
        self.labels = labels
        np.max(logits, axis=1, keepdims=True, out=self.row)
        p = np.exp(np.subtract(logits, self.row, out=self.p), out=self.p)
        p /= np.sum(p, axis=1, keepdims=True, out=self.row)
        return float(-np.log(p[self.rows, labels]).mean())

    def backward(self):
        self.p[self.rows, self.labels] -= 1
        self.p /= self.N
        return self.p


class SGD:
    """p = p - lr g."""

    def __init__(self, parameters, gradients, lr):
        self.p, self.g, self.lr = parameters, gradients, lr

    def step(self):
        self.g *= self.lr
        self.p -= self.g


class Adam:
    """p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), where
    m = beta1 m + (1 - beta1) g and v = beta2 v + (1 - beta2) g^2.
    """

    def __init__(self, parameters, gradients, lr):
        self.p, self.g, self.lr, self.t = parameters, gradients, lr, 0
        self.m, self.v, self.scratch = np.zeros((3, parameters.size), parameters.dtype)

    def step(self):
        self.t += 1
        (beta1, beta2), g, scratch = ADAM_BETAS, self.g, self.scratch
        self.m *= beta1
        self.m += np.multiply(g, 1 - beta1, out=scratch)
        self.v *= beta2
        g *= g
        g *= 1 - beta2
        self.v += g
        np.divide(self.v, 1 - beta2**self.t, out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += ADAM_EPS
        np.divide(self.m, scratch, out=scratch)
        scratch *= self.lr / (1 - beta1**self.t)
        self.p -= scratch


class Handwritten:
    """A multilayer perceptron and its optimizer, with a training step."""

    parts: ClassVar[dict[str, type]] = {
        "linear": Linear, "batch norm": BatchNorm, "relu": ReLU, "sigmoid": Sigmoid,
        "cross-entropy": CrossEntropy, "sgd": SGD, "adam": Adam,
    }  # fmt: skip

    def __init__(self, case: Case, values: list[np.ndarray]):
        N, dtype = case.batch_size, values[0].dtype
        flat = np.concatenate([value.reshape(-1) for value in values])
        flat_gradient = np.empty_like(flat)
        self.parameters = views(flat, like=values)
        parameters = zip(
            self.parameters, views(flat_gradient, like=values), strict=True
        )

        self.layers = []
        for layer, sizes in enumerate(pairwise(case.sizes)):
            hidden = layer < len(case.sizes) - 2
            weight = next(parameters)
            bias = None if hidden and case.batch_norm else next(parameters)
            linear = self.parts["linear"]
            self.layers.append(linear(N, *sizes, weight, bias, is_first=layer == 0))
            if hidden and case.batch_norm:
                gamma, beta = next(parameters), next(parameters)
                batch_norm = self.parts["batch norm"]
                self.layers.append(batch_norm(N, sizes[1], gamma, beta))
            if hidden:
                activation = self.parts[case.activation]
                self.layers.append(activation(N, sizes[1], dtype))
        self.loss = self.parts["cross-entropy"](N, case.sizes[-1], dtype)
        optimizer = self.parts[case.optimizer]
        self.optimizer = optimizer(flat, flat_gradient, case.lr)

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Take one optimizer step on this batch, and return its loss."""
        x = images
        for layer in self.layers:
            x = layer.forward(x)
        loss = self.loss.forward(x, labels)
        g = self.loss.backward()
        for layer in reversed(self.layers):
            g = layer.backward(g)
        self.optimizer.step()
        return loss


def views(flat: np.ndarray, like: list[np.ndarray]) -> list[np.ndarray]:
    """Parts of ``flat``, one after the other, shaped like the arrays in ``like``."""
    ends = np.cumsum([array.size for array in like])[:-1]
    return [
        part.reshape(array.shape)
        for part, array in zip(np.split(flat, ends), like, strict=True)
    ]
