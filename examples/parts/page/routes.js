// Chapter 2: the words and numbers of each step were written when the page was built.
// What belongs to a step has data-since, and is shown from that step on.
{
  const { steps, alternatives, parts } = data.routes;
  const last = steps.length - 1;
  const section = $("#routes");

  function show({ step, part }) {
    for (const e of section.querySelectorAll("[data-since]")) {
      e.classList.toggle("later", e.dataset.since > step);
    }
    for (const e of section.querySelectorAll("[data-part]")) {
      const reached = parts[e.dataset.part].since <= step;
      const isBox = e.querySelector(".box") !== null;
      e.classList.toggle("ghost", !reached && !isBox);
      e.classList.toggle("chosen", e.dataset.part === part);
      e.setAttribute("aria-pressed", e.dataset.part === part);
      e.setAttribute("aria-disabled", !reached);
      e.setAttribute("tabindex", reached ? 0 : -1);
    }
    write("#routes-step", `${step} of ${last}`);
    const { name, rule, values } = parts[part] ?? {};
    write("#routes-said", part ? `${name}: ${values}. ${rule}` : steps[step]);
    $("#routes [data-action=back]").setAttribute("aria-disabled", step === 0);
    $("#routes [data-action=next]").setAttribute("aria-disabled", step === last);
    put("#routes-figure", { "aria-label": alternatives[step] });
  }

  const move = (by) => set("routes", { step: chapters.routes.state.step + by, part: "" });
  const choose = (element) => {
    const { part, step } = chapters.routes.state;
    const { name, since } = parts[element.dataset.part];
    if (since > step) return write("#routes-said", `${name}: not computed yet. Press Next.`);
    set("routes", { part: part === element.dataset.part ? "" : element.dataset.part });
  };

  chapter("routes", {
    defaults: { step: 0, part: "" },
    clean({ step, part }) {
      step = Math.round(within(step, 0, last, 0));
      const shown = Object.hasOwn(parts, part) && parts[part].since <= step;
      return { step, part: shown ? part : "" };
    },
    show,
    actions: { next: () => move(1), back: () => move(-1) },
  });

  section.addEventListener("click", ({ target }) => {
    const element = target.closest("[data-part]");
    if (element) choose(element);
  });
  section.addEventListener("keydown", (event) => {
    const element = event.target.closest("[data-part]");
    if (event.key === "ArrowRight") move(1);
    else if (event.key === "ArrowLeft") move(-1);
    else if (event.key === "Escape") set("routes", { part: "" });
    else if (element && (event.key === "Enter" || event.key === " ")) choose(element);
    else return;
    event.preventDefault();
  });
}
