import numpy as np

from tinygrad_bn import Tensor, nn, optim

rng = np.random.default_rng(0)
x = Tensor(rng.standard_normal((128, 50)), dtype=np.float32)
labels = x.data[:, :5].argmax(axis=1)
norms = {"without": nn.Sequential, "with": lambda: nn.BatchNorm(50)}
for name, norm in norms.items():
    blocks = [(nn.Linear(50, 50, rng=rng), norm(), nn.ReLU()) for _ in range(10)]
    model = nn.Sequential(*sum(blocks, ()), nn.Linear(50, 5, rng=rng))
    sgd = optim.SGD(model.parameters(), lr=0.3)
    for _ in range(50):
        sgd.zero_grad()
        loss = nn.cross_entropy(model(x), labels)
        loss.backward()
        sgd.step()
    print(name, "batch norm: loss", loss.item())
