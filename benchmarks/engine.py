"""The engine as a contestant: tinygrad_bn, used as in the README."""

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
