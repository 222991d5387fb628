// Chapter 5: profiles that the engine measured when the page was built.
{
  const { measured, theory, first, activations, norms, sigmas } = data.depth;
  const { left, right, top, bottom, limit } = data.depth;
  const layers = measured[`${first.activation} ${first.norm} ${first.sigma}`].length;
  const across = (i) => left + (i * (right - left)) / (layers - 1);
  const up = (power) => (top + bottom) / 2 - (power * (bottom - top)) / (2 * limit);
  const points = (profile) => profile.map((v, i) => `${across(i)},${up(v)}`).join(" ");

  function show({ activation, norm, sigma }) {
    const profile = (n, s) => measured[`${activation} ${n} ${s}`];
    const curves = [...document.querySelectorAll("#depth-curves polyline")];
    const chosen = profile(norm, sigma);
    sigmas.forEach((s, i) => {
      curves[2 * i].setAttribute("points", points(profile("none", s)));
      curves[2 * i + 1].setAttribute("points", points(profile(norm, s)));
    });
    sigmas.forEach((s, i) => label(i, s, profile("none", s), chosen));
    curves.at(-1).setAttribute("points", points(chosen));
    const expected = theory[`${activation} ${norm} ${sigma}`];
    const circles = expected.map((v, i) => (i % 3 === 1 ? dotAt(i, v) : null)).filter(Boolean);
    $("#depth-theory").replaceChildren(...circles);

    for (const [name, row] of Object.entries({ measured: chosen, theory: expected })) {
      write(`#depth-${name}-factor`, factor(row).toFixed(2));
      write(`#depth-${name}-all`, scientific(row[0]));
    }
    const all = sigmas.map((s) => profile(norm, s)[0]);
    // The key names only lines that can be distinguished.
    $("#depth-key-other").classList.toggle("absent", alike(all));
    $("#depth-key-without").classList.toggle("absent", norm === "none");
    const said = `From layer ${layers} to layer 1: ×\u00a0${scientific(chosen[0])}. ${spread(all)}`;
    write("#depth-said", said);
    write("#depth-why", reason(activation, norm));
    put("#depth-figure", {
      "aria-label":
        `Curves of |∂L/∂h|² over the layers for ${activation}, ${norms[norm]}, weight scale ` +
        `${sigma}. ${said}`,
    });
  }

  function reason(activation, norm) {
    if (activation !== "sigmoid" || norm !== "layer") return "";
    return (
      "Sigmoid’s outputs are positive, so all samples have much in common. Batch norm " +
      "subtracts that; layer norm keeps it and divides by it, and the gradient vanishes."
    );
  }

  // A dotted line has its weight scale where it enters the frame: above or below the line at
  // the left edge, or outside the frame if the line comes from there, as an arrow shows.
  function label(i, scale, profile, chosen) {
    const name = `#depth-scale-${i}`;
    const first = profile.findIndex((v) => Math.abs(v) <= limit);
    if (first > 0) {
      const above = profile[0] > 0;
      write(name, `${scale} ${above ? "↑" : "↓"}`);
      const half = $(name).getComputedTextLength() / 2;
      return put(name, { x: across(first - 0.5) - half, y: above ? top - 3 : bottom + 15 });
    }
    write(name, scale);
    // Above its line if it falls, or else below; on the other side if the chosen curve is there.
    const isFree = (y) => chosen.slice(0, 7).every((v) => Math.abs(up(v) - y + 5) > 9);
    const sides = profile[0] > 0 ? [-5, 16] : [16, -5];
    const places = sides.map((d) => within(up(profile[0]) + d, top + 12, bottom - 4, top));
    put(name, { x: left + 5, y: places.find(isFree) ?? places[0] });
  }

  const alike = (powers) => Math.max(...powers) - Math.min(...powers) < 0.1;

  function spread(powers) {
    const [low, high] = [Math.min(...powers), Math.max(...powers)];
    if (alike(powers)) return "Every weight scale gives the same line.";
    return `Other scales: from ${scientific(low)} to ${scientific(high)}.`;
  }

  function dotAt(i, power) {
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    const place = { cx: across(i), cy: up(power), r: 3.5, class: "theory" };
    for (const [name, value] of Object.entries(place)) circle.setAttribute(name, value);
    return circle;
  }

  // The factor per layer toward the input, averaged over layers 8 to 25.
  const factor = (profile) => 10 ** ((profile[7] - profile[24]) / 17);

  // A power of ten, such as 2.3 · 10⁴, or a plain number where that is short.
  function scientific(power) {
    if (Math.abs(power) < 2) return (10 ** power).toFixed(2);
    const whole = Math.floor(power);
    const digits = [...String(whole)].map((d) => (d === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]));
    return `${(10 ** (power - whole)).toFixed(1)}\u00a0·\u00a010${digits.join("")}`;
  }

  const known = (value, values, otherwise) => (values.includes(value) ? value : otherwise);
  chapter("depth", {
    defaults: first,
    clean: ({ activation, norm, sigma }) => ({
      activation: known(activation, activations, first.activation),
      norm: known(norm, Object.keys(norms), first.norm),
      sigma: known(sigma, sigmas, first.sigma),
    }),
    show,
  });
}
