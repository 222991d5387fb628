// Chapter 6: the map was measured by learning_rates.py; pointing at a cell shows its curves.
{
  const { cells, steps, first, rates, weights, left, right, top, bottom, largest } = data.rates;
  const figure = $("#rates-figure");
  const percent = (value) => `${(100 * value).toFixed(0)}%`;
  const cellOf = (state) => figure.querySelector(`[data-cell="${state.lr} ${state.weights}"]`);

  function show(state) {
    const { without, with: withNorm } = cells[`${state.lr} ${state.weights}`];
    for (const cell of figure.querySelectorAll(".cell")) {
      const chosen = cell === cellOf(state);
      cell.setAttribute("tabindex", chosen ? 0 : -1);
      cell.setAttribute("aria-pressed", chosen);
    }
    put("#rates-curve-without", { points: curve(without.loss) });
    put("#rates-curve-with", { points: curve(withNorm.loss) });
    overflow(without.loss);
    write("#rates-without", percent(without.accuracy));
    write("#rates-with", percent(withNorm.accuracy));
    const said =
      `Rate ${state.lr}, weights × ${state.weights}: ` +
      `${percent(without.accuracy)} without, ${percent(withNorm.accuracy)} with.`;
    write("#rates-said", said);
    put("#rates-figure", {
      "aria-label":
        `A map of ${rates.length} learning rates and ${weights.length} initial weights, ` +
        `and the training curves of one cell. ${said}`,
    });
  }

  const across = (step) => left + ((right - left) * step) / steps.at(-1);
  const up = (loss) => bottom - ((bottom - top) * Math.min(loss, 2 * largest)) / largest;

  // The points of a training curve, up to where the loss overflows.
  function curve(losses) {
    const end = losses.indexOf(null);
    const finite = end < 0 ? losses : losses.slice(0, end);
    return finite.map((loss, i) => `${across(steps[i])},${up(loss)}`).join(" ");
  }

  function overflow(losses) {
    const end = losses.indexOf(null);
    const note = end < 0 ? "" : `: overflow by step ${steps[end] + 1}`;
    write("#rates-key-without", `without${note}`);
  }

  function move(key, by) {
    const { state } = chapters.rates;
    const values = key === "lr" ? rates : weights;
    const i = within(values.indexOf(state[key]) + by, 0, values.length - 1, 0);
    set("rates", { [key]: values[i] });
    cellOf(state).focus();
  }

  chapter("rates", {
    defaults: first,
    clean: ({ lr, weights: scale }) => ({
      lr: rates.includes(lr) ? lr : first.lr,
      weights: weights.includes(scale) ? scale : first.weights,
    }),
    show,
  });

  // Not "pointerover", which also happens when the map scrolls below a resting pointer.
  for (const kind of ["pointermove", "click"]) {
    figure.addEventListener(kind, ({ target }) => {
      const name = target.closest("[data-cell]")?.dataset.cell;
      const { lr, weights: scale } = chapters.rates.state;
      if (!name || name === `${lr} ${scale}`) return;
      const [newRate, newScale] = name.split(" ");
      set("rates", { lr: newRate, weights: newScale });
    });
  }
  figure.addEventListener("keydown", (event) => {
    const moves = {
      ArrowLeft: ["lr", -1], ArrowRight: ["lr", 1],
      ArrowDown: ["weights", -1], ArrowUp: ["weights", 1],
    };
    if (!moves[event.key]) return;
    move(...moves[event.key]);
    event.preventDefault();
  });
}
