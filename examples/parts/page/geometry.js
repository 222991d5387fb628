// Chapter 3: three samples are one arrow in space, and the backward pass projects twice.

// The gradient of batch norm (eps = 0), part by part.
function projections(x, g) {
  const mean = average(x);
  const sigma = Math.sqrt(average(x.map((v) => (v - mean) ** 2)));
  const xHat = x.map((v) => (v - mean) / sigma);
  const meanPart = g.map(() => -average(g));
  const along = average(g.map((v, i) => v * xHat[i]));
  const hatPart = xHat.map((v) => -v * along);
  const rest = g.map((v, i) => v + meanPart[i] + hatPart[i]);
  return { sigma, xHat, meanPart, hatPart, rest, dX: rest.map((v) => v / sigma) };
}

// The plane of all vectors with mean 0: two directions of length 1, at right angles.
const acrossPlane = [Math.SQRT1_2, -Math.SQRT1_2, 0];
const upPlane = [1, 1, -2].map((v) => v / Math.sqrt(6));
const inSpace = ([p, q], mean) => acrossPlane.map((a, i) => p * a + q * upPlane[i] + mean);
const inPlane = (v) => [dot(v, acrossPlane), dot(v, upPlane)];

{
  const { scale, center, side, sideScale, width, top, bottom, longest } = data.geometry;
  const atFirst = projections(inSpace(data.geometry.x, 1), inSpace(data.geometry.g, 0));
  const plus = ([a, b], [c, d]) => [a + c, b + d];
  const length = (v) => Math.hypot(...v);
  const onScreen = ([p, q]) => [center[0] + scale * p, center[1] - scale * q];
  const fromSide = (p, q) => [side[0] + sideScale * p, side[1] - sideScale * q];

  function show({ x, g, mean }) {
    const parts = projections(inSpace(x, 1), inSpace(g, mean));
    const [hat, rest, dX] = [parts.xHat, parts.rest, parts.dX].map(inPlane);
    const tips = { hat, x, g: plus(hat, g), rest: plus(hat, rest), dx: plus(x, dX) };

    aim("side-g", fromSide(0, 0), fromSide(length(g), Math.sqrt(3) * mean));
    aim("side-ones", fromSide(length(g), Math.sqrt(3) * mean), fromSide(length(g), 0));
    aim("side-plane", fromSide(0, 0), fromSide(length(g), 0));
    aim("xc", onScreen([0, 0]), onScreen(x));
    aim("hat", onScreen([0, 0]), onScreen(hat));
    aim("g", onScreen(hat), onScreen(tips.g));
    aim("removed", ...aside(onScreen(tips.g), onScreen(tips.rest), scale * length(rest)));
    aim("rest", onScreen(hat), onScreen(tips.rest));
    aim("dx", onScreen(x), onScreen(tips.dx));
    const [x2, y2] = onScreen(hat.map((v) => 3 * v));
    put("#geometry-ray", { x2, y2 });

    for (const [name, tip] of [["x", x], ["g", tips.g]]) {
      put(`#geometry-handle-${name}`, {
        transform: `translate(${onScreen(tip).join(" ")})`,
        "aria-valuenow": length(name === "x" ? x : g).toFixed(2),
        "aria-valuetext": `${(name === "x" ? x : g).map(plain).join(" and ")} in the plane`,
      });
    }
    label({ x, g, hat, rest }, tips);
    tabulate(inSpace(x, 1), inSpace(g, mean), parts);
    write("#geometry-mean", plain(mean));
    write("#geometry-said", said(g, mean, parts));
    compare(parts);
    put("#geometry-figure", {
      "aria-label":
        `x − E[x] at ${x.map(plain).join(", ")} in the plane, x̂ on the circle at ` +
        `${hat.map(plain).join(", ")}. ${said(g, mean, parts)} From the start: ` +
        `${$("#geometry-sigma").textContent}, ${$("#geometry-length").textContent}.`,
    });
  }

  function said(g, mean, { sigma, rest, dX }) {
    const whole = length(inSpace(g, mean));
    if (length(rest) < 1e-9) {
      return `σ = ${plain(sigma)}. Of a gradient of length ${plain(whole)} nothing is left.`;
    }
    return (
      `σ = ${plain(sigma)}. Of a gradient of length ${plain(whole)}, ` +
      `${plain(length(rest))} is left; divided by σ: ${plain(length(dX))}.`
    );
  }

  // How much longer x and its gradient are than at the start.
  function compare({ sigma, dX }) {
    const end = sigma > longest.x / Math.sqrt(3) - 1e-9 ? "limit: " : "";
    write("#geometry-sigma", `${end}σ ×${plain(sigma / atFirst.sigma)}`);
    write("#geometry-length", `|∂L/∂x| ×${plain(length(dX) / length(atFirst.dX))}`);
  }

  function tabulate(x, g, parts) {
    for (const [name, row] of Object.entries({ x, g, ...parts })) {
      if (name === "sigma" || name === "rest") continue;
      const format = name === "x" || name === "xHat" ? plain : signed;
      row.forEach((v, i) => write(`#geometry-${name}-${i}`, format(v)));
    }
  }

  // Two ends of an arrow, moved a bit aside if it is closer than that to the arrow back.
  function aside([x1, y1], [x2, y2], distance) {
    const long = Math.hypot(x2 - x1, y2 - y1);
    const shift = Math.max(0, 8 - distance) / (long || 1);
    const [dx, dy] = [(y2 - y1) * shift, (x1 - x2) * shift];
    return [[x1 + dx, y1 + dy], [x2 + dx, y2 + dy]];
  }

  // An arrow from one point to another; a short one has a small head.
  function aim(name, [x1, y1], [x2, y2]) {
    const [dx, dy] = [x2 - x1, y2 - y1];
    const size = Math.min(1, Math.hypot(dx, dy) / 16);
    const angle = Math.atan2(dy, dx);
    const [endX, endY] = [x2 - 8 * size * Math.cos(angle), y2 - 8 * size * Math.sin(angle)];
    put(`#geometry-${name} line`, { x1, y1, x2: endX, y2: endY });
    const turn = (angle * 180) / Math.PI;
    const transform = `translate(${x2} ${y2}) rotate(${turn}) scale(${size})`;
    put(`#geometry-${name} path`, { transform });
  }

  // --- Labels: each goes to the free place nearest to its tip.

  function label({ x, g, hat, rest }, tips) {
    const half = (v) => v.map((a) => a / 2);
    const anchors = {
      x, g: tips.g, hat, dx: plus(x, half(plus(tips.dx, x.map((a) => -a)))),
      removed: half(plus(tips.g, tips.rest)), rest: tips.rest,
    };
    const shown = { g: length(g), rest: length(rest), dx: length(rest) };
    shown.removed = length(plus(g, rest.map((a) => -a)));
    const taken = [...$("#geometry-fixed").children].map((e) => e.getBBox());
    taken.push(...[x, tips.g].map((tip) => around(onScreen(tip), 20, 20)));
    const ends = {
      x: [[0, 0], x], g: [hat, tips.g], removed: [tips.g, tips.rest], rest: [hat, tips.rest],
      dx: [x, tips.dx],
    };
    const along = ([a, b]) =>
      [0, 0.2, 0.4, 0.6, 0.8, 1].map((t) => onScreen(a.map((v, i) => v + t * (b[i] - v))));
    for (const name of ["x", "g", "hat", "removed", "rest", "dx"]) {
      const element = $(`#geometry-label-${name}`);
      element.classList.toggle("later", shown[name] < 0.15);
      if (shown[name] < 0.15) continue;
      const { [name]: own = [], ...others } = mapped(ends, along);
      const place = freePlace(onScreen(anchors[name]), element, taken, own, others);
      put(`#geometry-label-${name}`, { x: place.x, y: place.y + 14 });
      taken.push(place);
    }
  }

  // Points on both circles, which labels avoid.
  const circles = [Math.sqrt(3), longest.x].flatMap((radius) =>
    Array.from({ length: 60 }, (_, i) => (i * Math.PI) / 30).map((angle) =>
      onScreen([radius * Math.cos(angle), radius * Math.sin(angle)])));
  const around = ([x, y], w, h) => ({ x: x - w / 2, y: y - h / 2, width: w, height: h });
  const overlap = (a, b) =>
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

  const mapped = (object, f) =>
    Object.fromEntries(Object.entries(object).map(([key, value]) => [key, f(value)]));
  // How far the nearest of some points is from a place.
  const distance = ({ x, y, width: w, height: h }, points) =>
    Math.min(...points.map(([px, py]) =>
      Math.hypot(px - within(px, x, x + w, px), py - within(py, y, y + h, py))));

  // Of the places around a point: one that is free, near, not on an arrow or a circle, and not
  // nearer to another arrow than to its own.
  function freePlace([x, y], element, taken, own, others) {
    const [w, h] = [element.getComputedTextLength() + 4, 18];
    let best = null;
    for (let away = 16; away < 140; away += 10) {
      for (let k = 0; k < 16; k += 1) {
        const angle = (k * Math.PI) / 8;
        const across = (w / 2 + away - 8) * Math.cos(angle);
        const place = around([x + across, y + away * Math.sin(angle)], w, h);
        const inside =
          place.x >= 0 && place.x + w <= width && place.y >= top && place.y + h <= bottom;
        if (!inside || taken.some((other) => overlap(place, other))) continue;
        const near = (points, gap) => points.filter((p) => distance(place, [p]) < gap).length;
        const hits = near([own, ...Object.values(others)].flat(), 5) + near(circles, 2);
        const ownDistance = distance(place, own);
        const mistaken = Object.values(others).some((o) => distance(place, o) < ownDistance);
        const cost = away + 12 * hits + 40 * mistaken;
        if (best === null || cost < best.cost) best = { ...place, cost };
      }
    }
    return best ?? around([x, y], w, h);
  }

  // --- Moving the tips

  // A point close to the line through 0 and a direction goes onto it.
  function snapped(point, direction, close) {
    const unit = direction.map((v) => v / length(direction));
    const along = dot(point, unit);
    const onLine = unit.map((v) => v * along);
    const distance = length(plus(point, onLine.map((v) => -v)));
    return distance < close ? onLine : point;
  }

  function drag(name) {
    const handle = $(`#geometry-handle-${name}`);
    // A finger on a tip does not scroll. (Browsers heed touch-action for a whole figure only.)
    handle.addEventListener("touchstart", (e) => e.preventDefault(), { passive: false });
    draggable(handle, () => {
      const { [name]: start, x } = chapters.geometry.state;
      return (dx, dy) => {
        const moved = plus(start, [dx / scale, -dy / scale]);
        set("geometry", { [name]: snapped(moved, x === start ? start : x, 0.12) });
      };
    });
    handle.addEventListener("keydown", (event) => {
      const steps = {
        ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1],
      };
      const stretch = { PageUp: 1.1, PageDown: 1 / 1.1 }[event.key];
      const { [name]: from } = chapters.geometry.state;
      if (steps[event.key]) set("geometry", { [name]: plus(from, steps[event.key]) });
      else if (stretch) set("geometry", { [name]: from.map((v) => v * stretch) });
      else return;
      event.preventDefault();
    });
  }

  // A vector of a length between two limits, in the direction that it has.
  function limited(v, shortest, longest, otherwise) {
    if (v.length !== 2 || !v.every(Number.isFinite)) return otherwise;
    const size = length(v);
    if (size < 1e-9) return shortest ? otherwise : [0, 0];
    const factor = within(size, shortest, longest, 1) / size;
    return v.map((a) => a * factor);
  }

  const { x, g, mean } = data.geometry;
  chapter("geometry", {
    defaults: { x, g, mean },
    clean(s) {
      const found = limited(s.x, 1, longest.x, x);
      // The rounding of an address must not turn g away from the line of x.
      const onLine = snapped(limited(s.g, 0, longest.g, g), found, 0.002);
      return { x: found, g: onLine, mean: within(s.mean, -1, 1, mean) };
    },
    show,
  });
  drag("x");
  drag("g");
}
