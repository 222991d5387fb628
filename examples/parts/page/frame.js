"use strict";

// What all chapters share: state, controls, the URL's hash, numbers as text.
//
// A chapter registers its default state, a function that makes any state valid, and one
// that shows a state. Controls name the entry of the state that they set
// (data-state="b"), and buttons name an action of the chapter (data-action="train").
// `interrupt` ends an animation before anything else happens.

const data = JSON.parse(document.getElementById("data").textContent);
const chapters = {};

function chapter(id, { defaults, clean, show, actions = {}, interrupt = () => {} }) {
  const section = document.getElementById(id);
  const state = { ...defaults };
  chapters[id] = { section, defaults, clean, show, state };
  section.addEventListener("input", ({ target }) => {
    if (!target.dataset.state) return;
    interrupt();
    set(id, { [target.dataset.state]: valueOf(target) });
  });
  // A slider jumps to the finger before the browser knows that the finger scrolls.
  let before = state;
  section.addEventListener("pointerdown", () => (before = { ...state }));
  section.addEventListener("pointercancel", ({ target }) => {
    if (target.type === "range") set(id, before);
  });
  section.addEventListener("click", ({ target }) => {
    const action = target.closest("[data-action]")?.dataset.action;
    if (!action) return;
    interrupt();
    if (action === "reset") set(id, defaults);
    else actions[action]();
  });
}

// Change entries of a chapter's state, show it, and remember it in the hash.
function set(id, changes) {
  const { state, clean } = chapters[id];
  Object.assign(state, clean({ ...state, ...changes }));
  refresh(id);
  remember(id);
}

function refresh(id) {
  const { section, state, show } = chapters[id];
  for (const control of section.querySelectorAll("[data-state]")) {
    const value = state[control.dataset.state];
    if (control.type === "checkbox") control.checked = value;
    else control.value = value;
  }
  show(state);
}

function valueOf(control) {
  if (control.type === "checkbox") return control.checked;
  return control.type === "range" ? control.valueAsNumber : control.value;
}

// --- The hash: #chapter&chapter.entry=value&..., with the entries that are not defaults.

let waiting = null;

function remember(id) {
  // Browsers refuse a change of the address at every movement of the mouse.
  clearTimeout(waiting);
  waiting = setTimeout(() => history.replaceState("seen", "", hashOf(id)), 150);
}

function hashOf(id) {
  const entries = [];
  for (const [name, { state, defaults }] of Object.entries(chapters)) {
    for (const key of Object.keys(defaults)) {
      const text = short(state[key]);
      if (text !== short(defaults[key])) entries.push(`&${name}.${key}=${text}`);
    }
  }
  return `#${id}${entries.join("")}`;
}

// A value as an address has it, its numbers with three decimals.
function short(value) {
  if (Array.isArray(value)) return value.map(short).join();
  return typeof value === "number" ? `${rounded(value)}` : encodeURIComponent(value);
}

function recall() {
  const [id, ...entries] = location.hash.slice(1).split("&");
  // A link within the page names only a chapter, and keeps what the reader has set. So does
  // the way back to an address that this page has written.
  if (recall.done && (entries.length === 0 || history.state === "seen")) {
    if (Object.hasOwn(chapters, id)) remember(id);
    return;
  }
  const found = {};
  for (const entry of entries) {
    const [, name, key, text] = /^(\w+)\.(\w+)=(.*)$/.exec(entry) ?? [];
    if (Object.hasOwn(chapters, name) && Object.hasOwn(chapters[name].defaults, key)) {
      (found[name] ??= {})[key] = parse(text, chapters[name].defaults[key]);
    }
  }
  for (const [name, { state, defaults, clean }] of Object.entries(chapters)) {
    Object.assign(state, clean({ ...defaults, ...found[name] }));
    refresh(name);
  }
  if (entries.length && Object.hasOwn(chapters, id)) {
    chapters[id].section.scrollIntoView({ behavior: "instant" });
  }
  recall.done = true;
}

// The text of an entry as a value of the type that its default has.
function parse(text, like) {
  try {
    text = decodeURIComponent(text);
  } catch {
    return like;
  }
  if (typeof like === "boolean") return text === "true";
  if (typeof like === "number") return text.trim() ? Number(text) : like;
  if (Array.isArray(like)) return text.split(",").map(Number);
  return text;
}

// --- Numbers

const sum = (v) => v.reduce((total, a) => total + a, 0);
const rounded = (value) => Number(value.toFixed(3));
const average = (v) => sum(v) / v.length;
const dot = (v, w) => sum(v.map((a, i) => a * w[i]));
const within = (value, low, high, otherwise) =>
  Number.isFinite(value) ? Math.min(Math.max(value, low), high) : otherwise;

// A value, such as 2.00 or −0.13; adding 0 removes the sign of a rounded -0.
function plain(value) {
  return (Number(value.toFixed(2)) + 0).toFixed(2).replace("-", "\u2212");
}

// A gradient, such as +1.50; 0 where nothing but rounding is left.
function signed(value) {
  if (Math.abs(value) < 1e-9) return "0";
  return (value > 0 ? "+" : "") + plain(value);
}

// --- The document

const $ = (selector) => document.querySelector(selector);
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function write(selector, text) {
  $(selector).textContent = text;
}

function put(selector, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    $(selector).setAttribute(name, value);
  }
}

// While the pointer drags an element, call `move` with its distance from where it began,
// in units of the figure. `begin` returns `move`. A drag that turns out to be a swipe, with
// which the browser scrolls, is taken back.
function draggable(element, begin) {
  const matrix = () => element.ownerSVGElement.getScreenCTM().inverse();
  const at = ({ clientX, clientY }) => new DOMPoint(clientX, clientY).matrixTransform(matrix());
  let move = null;
  let start = null;
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    start = at(event);
    move = begin();
  });
  element.addEventListener("pointermove", (event) => {
    const point = at(event);
    move?.(point.x - start.x, point.y - start.y);
  });
  element.addEventListener("pointercancel", () => move?.(0, 0));
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, () => (move = null));
  }
}

async function copy(button) {
  const code = button.parentElement.querySelector("pre code");
  getSelection().selectAllChildren(code);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Selected: press Ctrl+C";
  }
}

// All chapters are registered before anything is shown.
addEventListener("DOMContentLoaded", () => {
  recall();
  addEventListener("hashchange", recall);
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", () => copy(button));
  }
  // The bar marks the chapter that crosses a line in the upper part of the window.
  const passing = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const link = $(`nav a[href="#${target.id}"]`);
      if (isIntersecting) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-30% 0px -70% 0px" });
  document.querySelectorAll(".chapter").forEach((e) => passing.observe(e));
  // A figure that is too wide for the screen scrolls, by keyboard too.
  const scrolling = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  document.querySelectorAll("figure, pre").forEach((e) => scrolling.observe(e));
});
