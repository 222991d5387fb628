import numpy as np

import tinygrad_bn as tg

across, up = np.array([1, -1, 0]) / 2**0.5, np.array([1, 1, -2]) / 6**0.5
x = tg.Tensor((1 + 2.36 * across - 0.86 * up)[:, None], requires_grad=True, name="x")
g = (0.8 - 0.65 * across + 2.05 * up)[:, None]
x_hat = tg.batch_norm(x, eps=0)
print("x_hat  ", x_hat.data.ravel())
print("dL/dx  ", tg.grad(x_hat, x, gradient=g).data.ravel())
rest = g - g.mean() - x_hat.data * (g * x_hat.data).mean()
print("by hand", (rest / x.data.std()).ravel())
