"""A small program as a user would write it, with annotations of their own.

``test_types.py`` runs it, and hands it to mypy and pyright, which must accept every
line: it uses each kind of expression that an editor should understand. ``assert_type``
makes a checker confirm that it infers exactly this type, not just a compatible one.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value, kind):
        return value


class Residual(nn.Module):
    """A custom block with a skip connection."""

    def __init__(self, features: int, rng: np.random.Generator) -> None:
        self.linear = nn.Linear(features, features, bias=False, rng=rng)
        self.norm = nn.BatchNorm(features)
        self.scale = Tensor(np.ones(features), requires_grad=True, dtype=np.float32)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * tg.relu(self.norm(self.linear(x)))


def operators() -> float:
    """Arithmetic, comparisons, methods, indexing, and functions of tensors."""
    x = Tensor([[1.0, -2.0], [3.0, 4.0]], requires_grad=True, name="x")
    w = Tensor(np.eye(2), requires_grad=True)
    y: Tensor = 2 * x + x @ w - x / 4 + (-x) ** 2 - 1.0
    assert_type(2 * x, Tensor)
    assert_type(x @ w, Tensor)
    assert_type(1 / (x + 10) - abs(x), Tensor)
    positive: np.ndarray = x > 0
    ones: np.ndarray = w == 1
    y = tg.where(positive, y, tg.maximum(x, 0.0)) * ones

    assert_type(y.sum(), Tensor)
    assert_type(y.mean(axis=0, keepdims=True), Tensor)
    assert_type(y.var(axis=(0, 1)), Tensor)
    assert_type(y.reshape(4).max(), Tensor)
    assert_type(y.T @ y.transpose(1, 0).astype(np.float64), Tensor)
    assert_type(y[0], Tensor)
    assert_type(y[:, 1], Tensor)
    assert_type(y[positive], Tensor)
    assert_type(y.detach().named("y"), Tensor)
    rows, columns = y.shape
    assert_type(rows * columns + y.size + y.ndim + len(y), int)
    values: np.ndarray = y.data + y.numpy()

    assert_type(tg.relu(x), Tensor)
    assert_type(tg.exp(x) + tg.log(x * x) + tg.tanh(tg.sigmoid(x)), Tensor)
    assert_type(tg.softmax(x) + tg.minimum(x, 1.0) + tg.clip(x, 0, 1), Tensor)
    assert_type(tg.squeeze(x.std(axis=0, keepdims=True)).exp().flatten(), Tensor)
    assert_type(x.argmax(axis=1), Tensor)
    probabilities: np.ndarray = tg.softmax(values)
    assert_type(tg.concatenate([x, w]), Tensor)
    assert_type(tg.stack([x, w], axis=1), Tensor)
    assert_type(tg.stop_gradient(x), Tensor)
    array: np.ndarray = tg.relu(values) + 0 * probabilities

    loss = y.sum()
    loss.backward()
    d_x = tg.grad((x * x).sum(), x)
    d_x, d_w = tg.grad((x @ w).sum(), [x, w], create_graph=True)
    assert_type(d_x, Tensor)
    with tg.no_grad():
        assert_type(d_x + d_w, Tensor)
    tg.check_gradients(lambda x, w: tg.tanh(x @ w), x, w)
    assert x.grad is not None
    return float(loss) + float(x.grad.sum()) + float(array.sum())


def network(seed: int = 0) -> tuple[nn.Sequential, float]:
    """Train a model on noise, with SGD and then with Adam, and return its loss."""
    rng = np.random.default_rng(seed)
    model = nn.Sequential(
        nn.Linear(3, 4, rng=rng), Residual(4, rng), nn.Linear(4, 2, rng=rng)
    )
    images = rng.normal(size=(8, 3)).astype(np.float32)
    labels = rng.integers(0, 2, 8)
    first: Tensor = model[0].weight
    assert first.requires_grad and len(model) == 3

    optimizer: optim.Optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss = nn.cross_entropy(model(Tensor(images)), labels)
    for step in range(10):
        if step == 5:
            optimizer = optim.Adam(model.named_parameters(), lr=1e-2)
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(Tensor(images)), labels)
        loss.backward()
        norm: float = optim.clip_grad_norm(model.parameters(), 10.0)
        assert norm > 0
        optimizer.lr = optim.cosine_lr(step, 20, lr=optimizer.lr)
        optimizer.step()
    assert_type(loss, Tensor)
    names: list[str] = [name for name, parameter in model.named_parameters()]
    assert "1.linear.weight" in names
    model.eval()
    return model.train(), loss.item()


def inspection(folder: Path) -> str:
    """Explain, draw and save a model, and load it again."""
    model, _ = network()
    x = Tensor(np.random.default_rng(1).normal(size=(8, 3)), dtype=np.float32)
    bias: Tensor = model[0].bias
    loss = nn.mse_loss(model(x), np.zeros((8, 2), np.float32))
    table: str = str(tg.explain(loss, bias))
    print(tg.check_redundant(model, x))

    drawing = tg.draw(loss, bias, title="A user's network")
    assert_type(drawing, tg.Drawing)
    path: Path = tg.side_by_side(drawing).save(folder / "network.dot")
    assert path.exists()

    tg.save(folder / "model.npz", model=model.state_dict(), epoch=3)
    state: dict[str, Any] = tg.load(folder / "model.npz")
    model.load_state_dict(state["model"])
    return table


def batch_norm(x: Tensor) -> Tensor:
    """Both definitions of batch norm, and a custom operation."""
    softplus = tg.Primitive(
        "softplus", lambda x: np.logaddexp(x, 0), lambda g, y, x: g * tg.sigmoid(x)
    )

    @tg.composite
    def centered(x: Tensor, axis: int = 0) -> Tensor:
        return x - x.mean(axis=axis, keepdims=True)

    assert_type(centered(x, axis=1), Tensor)
    y = tg.batch_norm(x, eps=1e-5) - tg.fused_batch_norm(x, axes=(0,))
    assert_type(y, Tensor)
    return y + softplus(centered(x))


if __name__ == "__main__":
    print(operators())
    print(network()[1])
    print(inspection(Path("out")))
    print(batch_norm(Tensor([[1.0], [2.0]])))
