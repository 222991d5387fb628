// Chapter 1: four samples, one bias, and what is left of its gradient.

// The forward pass and the two routes to b. `flow` is false where E[x] is a constant.
function centered({ u, c }, b, flow) {
  const x = u.map((value) => value + b);
  const mean = average(x);
  const xHat = x.map((value) => value - mean);
  const direct = sum(c);
  // E[x] is subtracted from every sample, and it is an average of all of them.
  const share = -sum(c) / u.length;
  const through = flow ? sum(u.map(() => share)) : null;
  return { x, mean, xHat, loss: dot(c, xHat), direct, through, total: direct + through };
}

{
  const { u, lr, steps, b: start, limit, scale, origin, width } = data.bias;
  const position = (value) => origin + scale * value;
  // Without the rounding of thirty additions.
  const place = (b) => within(Number(b.toFixed(6)), -limit, limit, start);
  let step = 0; // Of the training that is running, 0 if there is none.
  let timer = null;

  function show({ b, from, flow, trained }) {
    const { x, mean, xHat, loss, direct, through, total } = centered(data.bias, b, flow);
    write("#bias-b", plain(b));
    x.forEach((value, i) => put(`#bias-x${i}`, { cx: position(value) }));
    xHat.forEach((value, i) => put(`#bias-hat${i}`, { cx: position(value) }));
    put("#bias-mean", { transform: `translate(${position(mean)} 0)` });
    write("#bias-mean text", flow ? "E[x]" : "E[x], gradient cut");
    const half = $("#bias-mean text").getComputedTextLength() / 2;
    const inFigure = within(position(mean), half + 4, width - half - 4, origin);
    put("#bias-mean text", { x: inFigure - position(mean) });
    put("#bias-trail", { x1: position(average(u) + from), x2: position(mean) });
    write("#bias-loss", `loss L = Σ c·x̂ = ${plain(loss)}`);
    write("#bias-direct", signed(direct));
    write("#bias-through", flow ? signed(through) : "cut");
    write("#bias-total", signed(total));
    write("#bias-said", said(chapters.bias.state, total));
    put("#bias-figure", {
      "aria-label":
        `Upper line: the four samples x = u + b at ${x.map(plain).join(", ")}, and their ` +
        `mean E[x] at ${plain(mean)}. Lower line: x̂ = x − E[x] at ` +
        `${xHat.map(plain).join(", ")}, and their mean at 0. The loss is ${plain(loss)}.`,
    });
  }

  function said({ b, from, flow, trained }, total) {
    if (step) return `Step ${step} of ${steps}: ∂L/∂b is ${signed(total)}.`;
    if (trained && flow) return `${steps} steps, and b stays where it was: each brought 0.`;
    if (trained && b === from) {
      return `b is at the end of the scale. ∂L/∂b is ${signed(total)}: only the scale stops b.`;
    }
    const moved = `b has moved by ${signed(b - from)}; x̂ and the loss have not.`;
    if (trained) {
      const end = Math.abs(b) === limit
        ? "The scale ends here; nothing else would stop b."
        : "With this loss, nothing ever stops it.";
      return `In ${steps} steps, ${moved} ${end}`;
    }
    if (!flow) {
      return (
        "The backward pass treats E[x] as a constant: it takes nothing back, so b gets a " +
        "gradient. Yet x̂ never notices b."
      );
    }
    return b === from ? "Drag b, and watch both rows of dots and the loss." : moved;
  }

  // One step of gradient descent after the other, or all at once without motion.
  function train() {
    const { b, flow } = chapters.bias.state;
    step = (step + 1) % (steps + 1);
    if (step === 1) chapters.bias.state.from = b;
    if (step === 0) return set("bias", { trained: true });
    set("bias", { b: b - lr * centered(data.bias, b, flow).total });
    if (still()) train();
    else timer = setTimeout(train, 40);
  }

  function interrupt() {
    clearTimeout(timer);
    step = 0;
    Object.assign(chapters.bias.state, { trained: false, from: start });
  }

  chapter("bias", {
    // The path of b is measured from where it started, or from where its training began.
    defaults: { b: start, from: start, flow: true, trained: false },
    clean: (s) => ({ ...s, b: place(s.b), from: place(s.from) }),
    show,
    actions: { train },
    interrupt,
  });
  draggable($("#bias-samples"), () => {
    interrupt();
    const { b } = chapters.bias.state;
    return (dx) => set("bias", { b: b + dx / scale });
  });
}
