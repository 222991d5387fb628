"""Networks in PyTorch for test_pytorch.py, which imports them if it can."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    """A residual block as in torchvision: ReLU and the addition work in place."""

    def __init__(self, width, affine=True, momentum=0.1):
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.bn1 = nn.BatchNorm1d(width, affine=affine, momentum=momentum)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(width, width, bias=False)
        self.bn2 = nn.BatchNorm1d(width)

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.fc1(x)))
        out = self.bn2(self.fc2(out))
        out += identity
        return self.relu(out)


class Everything(nn.Module):
    """All functions and methods that a forward may call."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
        self.frozen = nn.Parameter(torch.ones(3) / 3, requires_grad=False)
        self.register_buffer("shift", torch.tensor([0.25, 0.0, -0.5]))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("unsaved", torch.full((3,), 1.5), persistent=False)
        self.register_buffer("missing", None)
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.named = nn.Sequential()
        self.named.add_module("first", nn.Linear(3, 3))
        self.named.add_module("bn", nn.BatchNorm1d(3))
        self.steps = 2

    def forward(self, x):  # (N, 2, 3)
        batch, _, features = x.size()
        for layer in self.layers:
            x = layer(x)
        y = x.view(batch * 2, -1)
        y = self.named(y) * self.scale + self.shift * self.mask - self.frozen
        y = y.reshape(x.size(0), x.shape[1], features) / self.unsaved
        y = torch.sigmoid(y) + functional.relu(y) - y.tanh() * 2 + 1 / (2 + y.sigmoid())
        z = torch.flatten(y, 1) + y.flatten(start_dim=1) + (-x).reshape((batch, 6))
        z = torch.relu(z).relu() + torch.tanh(functional.tanh(z))
        for _ in range(self.steps):
            z = z - z.mean(dim=0, keepdim=True) + torch.mean(z, -1, keepdim=True)
        z = torch.add(z, z.sum(1, keepdim=True)).mul(0.5)
        z = torch.div(torch.sub(z, torch.mul(z, z)), 4)
        return z[:, 1:5] + z.mean(), y.sum(dim=[1, 2]), torch.sum(y)


class Shared(nn.Module):
    """One module used three times, and two linear layers with one weight."""

    def __init__(self, width):
        super().__init__()
        self.cell = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width))
        self.again = self.cell
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight

    def forward(self, x):
        for module in (self.cell, self.again, self.cell):
            x = torch.tanh(module(x))
        return self.second(torch.relu(self.first(x)))


class DiffersByMode(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x) if self.training else x


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x * y, [x + y]


class Forward(nn.Module):
    """A module with the forward given as a function of the module and its inputs."""

    def __init__(self, function, **members):
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, x):
        return self.function(self, x)


def batch_norm(rng, kind, width):
    """A batch norm with random settings, parameters and running statistics."""
    layer = kind(
        width,
        eps=float(rng.choice([1e-5, 1e-3])),
        momentum=rng.choice([None, 0.1, 0.3]),
        affine=bool(rng.random() < 0.7),
        track_running_stats=bool(rng.random() < 0.8),
    )
    if layer.track_running_stats:
        layer.running_mean.copy_(torch.tensor(rng.standard_normal(width)))
        layer.running_var.copy_(torch.tensor(rng.random(width) + 0.5))
        layer.num_batches_tracked.fill_(int(rng.integers(5)))
    if layer.affine:
        nn.init.uniform_(layer.weight, 0.5, 1.5)
        nn.init.uniform_(layer.bias, -1, 1)
    return layer


def activation(rng):
    return rng.choice([nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Identity])()


def random_network(seed):
    """A random architecture, and the shape of its input."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    width, batch = int(rng.integers(2, 6)), int(rng.integers(6, 10))
    shape = [(batch, width), (batch, width, 2), (batch, width, 2, 3)][seed % 3]
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    layers = [batch_norm(rng, kind, width), activation(rng), nn.Flatten()]
    features = int(np.prod(shape[1:]))
    shared = None
    for _ in range(int(rng.integers(1, 5))):
        block = rng.choice(["linear", "residual", "nested", "dropout", "shared"])
        if block == "linear":
            out = int(rng.integers(2, 7))
            layers.append(nn.Linear(features, out, bias=bool(rng.random() < 0.7)))
            layers.append(batch_norm(rng, nn.BatchNorm1d, out))
            layers.append(nn.ReLU(inplace=True))
            features, shared = out, None
        elif block == "residual":
            layers.append(Residual(features, momentum=None))
        elif block == "nested":
            inner = nn.Sequential(nn.Linear(features, features), activation(rng))
            layers.append(nn.Sequential(inner, nn.Identity()))
        elif block == "dropout":
            layers.append(nn.Dropout(0.0))
        else:
            shared = shared or Shared(features)
            layers.append(shared)
    net = nn.Sequential(*layers, nn.Linear(features, 3))
    for parameter in net.parameters():
        parameter.requires_grad = bool(rng.random() < 0.9)
    return net, shape
