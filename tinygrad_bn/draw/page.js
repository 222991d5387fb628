"use strict";
// A click on a box or an arrow, or Enter, highlights the routes through it and shows its
// values and its rule. Escape clears.

const svg = document.querySelector("svg");
const shown = document.querySelector("#chosen");
const parts = [...svg.querySelectorAll("[data-rule]")];
const lines = parts.filter((part) => part.dataset.arrow);
const boxes = parts.filter((part) => part.dataset.box);

// What a route passes from `start` on, toward the loss (to = "head") or away from it
// ("tail"). It stays in its group, except where all routes still share an arrow. Data
// has no group, and stays among data.
function follow(start, to) {
  const from = to === "head" ? "tail" : "head";
  const { panel, group } = start.dataset;
  const belongs = (other) => other === group ||
    (group !== undefined && other !== undefined && [group, other].includes("common"));
  const found = new Set([start]);
  for (const last of found) {  // a set may grow while it is walked
    lines.filter(({ dataset: next }) => next.panel === panel &&
      next[from] === last.dataset[to] && belongs(next.group),
    ).forEach((line) => found.add(line));
  }
  return found;
}

function routesThrough(part) {
  const { panel, box } = part.dataset;
  const isHere = (line, end) => line === part || line.dataset[end] === box;
  const found = lines.filter((line) => line.dataset.panel === panel).flatMap((line) => [
    ...(isHere(line, "tail") ? follow(line, "head") : []),
    ...(isHere(line, "head") ? follow(line, "tail") : []),
  ]);
  const ends = found.flatMap(({ dataset }) => [dataset.tail, dataset.head]);
  const passed = boxes.filter(({ dataset }) =>
    dataset.panel === panel && ends.includes(dataset.box));
  return new Set([part, ...found, ...passed]);
}

function choose(part) {
  const on = part ? routesThrough(part) : new Set();
  svg.classList.toggle("choice", part !== null);
  for (const each of parts) {
    each.classList.toggle("on", on.has(each));
    each.setAttribute("aria-pressed", each === part);
  }
  const values = part?.querySelector("title")?.textContent ?? "";
  shown.textContent = part ? `${part.dataset.rule}\n${values}`.trim() : "";
}

for (const part of parts) {
  part.setAttribute("role", "button");
  part.setAttribute("tabindex", "0");
  part.setAttribute("aria-label", part.dataset.rule);
  const path = part.dataset.arrow && part.querySelector("path");
  if (path) {
    const hit = path.cloneNode();
    hit.setAttribute("class", "hit");
    path.after(hit);
  }
}
svg.addEventListener("click", (event) => choose(event.target.closest("[data-rule]")));
document.addEventListener("keydown", (event) => {
  const part = event.target.closest?.("[data-rule]");
  if (event.key === "Escape") choose(null);
  if (part && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    choose(part);
  }
});
