import numpy as np

import tinygrad_bn as tg

u, c = np.array([0, 1, 4, -1.0]), np.array([-1, 0.75, 0.25, 1.5])
b = tg.Tensor(2.0, requires_grad=True, name="b")
x = (u + b).named("x")
mean = x.mean().named("E[x]")
x_hat = (x - mean).named("x_hat")
loss = (x_hat * c).sum().named("L")
for tensor in (x_hat, mean, x, b):  # x: the sum of the two rows in the picture
    print(tensor.name, tensor.data, tg.grad(loss, tensor).data)
tg.draw(loss, b, direction="TB").save("centering.svg")
