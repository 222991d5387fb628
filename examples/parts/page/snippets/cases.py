import numpy as np

import tinygrad_bn as tg

u = np.array([[1, 0, 2], [3, 1, -1], [-2, 4, 0], [2, -1, 3.0]])
c = np.array([[0.5, -1, 0.25], [-0.25, 0.75, 1], [1, 0.25, -0.5], [-0.5, 1.5, 0.5]])
b = tg.Tensor(np.array([0.5, -1, 2]), requires_grad=True, name="b")
for constants in ((), ("mean",), ("var",), ("mean", "var")):
    loss = (tg.batch_norm(u + b, constants=constants) * c).sum().named("L")
    print("constant:", *constants or ["nothing"])
    print(tg.explain(loss, b))
