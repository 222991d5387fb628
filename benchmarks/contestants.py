"""The other contestants: the engine, and its peers where they are installed.

A contestant is constructed from a case and the initial values of the parameters.
``step(images, labels)`` takes one training step on NumPy arrays and returns the loss.
``parameters`` returns the current values as arrays. To add a library, write such a
class and add it to ``PEERS``.
"""

from itertools import pairwise

import numpy as np

from tinygrad_bn import Tensor, nn, optim

from .cases import ADAM_BETAS, ADAM_EPS, BN_EPS, BN_MOMENTUM, Case


class Engine:
    """tinygrad_bn, used as in the README."""

    def __init__(self, case: Case, values: list[np.ndarray]):
        dtype = values[0].dtype
        *hidden, last = pairwise(case.sizes)
        layers = []
        for fan_in, fan_out in hidden:
            layers.append(nn.Linear(fan_in, fan_out, not case.batch_norm, dtype=dtype))
            if case.batch_norm:
                layers.append(
                    nn.BatchNorm(fan_out, eps=BN_EPS, momentum=BN_MOMENTUM, dtype=dtype)
                )
            layers.append({"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[case.activation]())
        self.model = nn.Sequential(*layers, nn.Linear(*last, dtype=dtype))
        for parameter, value in zip(self.model.parameters(), values, strict=True):
            parameter.data = value
        if case.optimizer == "sgd":
            self.optimizer = optim.SGD(self.model.parameters(), case.lr)
        else:
            self.optimizer = optim.Adam(
                self.model.parameters(), case.lr, ADAM_BETAS, ADAM_EPS
            )

    def step(self, images, labels):
        loss = nn.cross_entropy(self.model(Tensor(images)), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    @property
    def parameters(self) -> list[np.ndarray]:
        return [parameter.data for parameter in self.model.parameters()]


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


# Keys are the names under which the libraries are imported.
PEERS = {"torch": Torch}
