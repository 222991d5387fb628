import numpy as np

import tinygrad_bn as tg

u, c = np.array([0, 1, 4, -1.0]), np.array([-1, 0.75, 0.25, 1.5])
b = tg.Tensor(2.0, requires_grad=True, name="b")
x = (u + b).named("x")
mean = x.mean().named("E[x]")
# Without its "#", the next line cuts the route through E[x].
# mean = tg.stop_gradient(mean)
loss = ((x - mean) * c).sum().named("L")
print(tg.explain(loss, b))
