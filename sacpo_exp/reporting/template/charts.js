"use strict";
// Drawing: SVG from numbers. Everything that comes from data is set as text or as an attribute, never as markup.

const SVG = "http://www.w3.org/2000/svg";  // a name, never fetched

/** An SVG element with attributes and children. */
function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** An HTML element; `properties` are set as properties (`textContent`, `className`, `onclick`). */
function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// matplotlib's letters for markers, as paths around the origin with a radius of about 7.
const MARKERS = {
  o: "M7 0A7 7 0 1 1-7 0A7 7 0 1 1 7 0Z",
  s: "M-6-6H6V6H-6Z",
  D: "M0-8L8 0L0 8L-8 0Z",
  "^": "M0-8L7.5 6H-7.5Z",
  v: "M0 8L7.5-6H-7.5Z",
  P: "M-2.6-7.5H2.6V-2.6H7.5V2.6H2.6V7.5H-2.6V2.6H-7.5V-2.6H-2.6Z",
  X: "M-4-7.5L0-3.6L4-7.5L7.5-4L3.6 0L7.5 4L4 7.5L0 3.6L-4 7.5L-7.5 4L-3.6 0L-7.5-4Z",
  p: "M0-8L7.6-2.5L4.7 6.5H-4.7L-7.6-2.5Z",
  "<": "M-8 0L6-7.5V7.5Z",
  ">": "M8 0L-6-7.5V7.5Z",
  "*": "M0-9L-2.3-3.2L-8.6-2.8L-3.7 1.2L-5.3 7.3L0 3.9L5.3 7.3L3.7 1.2L8.6-2.8L2.3-3.2Z",
  h: "M0-7.8L-6.8-3.9L-6.8 3.9L0 7.8L6.8 3.9L6.8-3.9Z",
  H: "M7.8 0L3.9-6.8L-3.9-6.8L-7.8 0L-3.9 6.8L3.9 6.8Z",
  d: "M0-8.5L5 0L0 8.5L-5 0Z",
  baseline: "M-7-5L-5-7L0-2L5-7L7-5L2 0L7 5L5 7L0 2L-5 7L-7 5L-2 0Z",
};

// matplotlib's letters for lines, as lengths of dashes and gaps.
const DASHES = { "-": "none", "--": "5 3", ":": "1.5 3", "-.": "6 3 1.5 3" };

/** Round numbers inside [low, high], about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9; i++) found.push(Number((i * step).toPrecision(6)));
  return found;
}

/** A function from [low, high] to [start, end]. */
function scale(low, high, start, end) {
  return (value) => start + ((value - low) / (high - low || 1)) * (end - start);
}

/** Limits around all values and ends of intervals, with a margin. */
function limits(estimates) {
  const ends = [0.5, ...estimates.flatMap((e) => e.slice(0, 3)).filter((v) => v !== null)];
  const low = Math.min(...ends), high = Math.max(...ends), margin = Math.max(0.04, 0.06 * (high - low));
  return [low - margin, high + margin];
}

/**
 * The trade-off figure. `choose(place, isFinal)` is called when a point is pointed at, focused or pressed.
 * Returns the SVG; its points carry `data-policy`.
 */
function drawTradeOff(group, choose) {
  const narrow = window.matchMedia("(max-width: 52rem)").matches;
  const width = narrow ? 480 : 720, height = narrow ? 440 : 500, left = 62, right = 16, top = 14, bottom = 56;
  const shown = group.policies.map((policy, place) => ({ policy, place }))
    .filter(({ policy }) => group.axes.every((name) => policy.estimates[name][0] !== null));
  const seeds = shown.flatMap(({ policy }) => (policy.seeds ?? []).map(({ rates }) => ({ policy, rates })))
    .filter(({ rates }) => !rates.includes(null));
  const [[x0, x1], [y0, y1]] = group.axes.map((name, side) =>
    limits([...shown.map(({ policy }) => policy.estimates[name]), ...seeds.map(({ rates }) => [rates[side]])]));
  const x = scale(x0, x1, left, width - right), y = scale(y0, y1, height - bottom, top);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": `Win rates for ${group.axes.join(" and ")}, one point per policy. Tab goes from point to point.` });
  svg.append(...axes({ group, x, y, x0, x1, y0, y1, width, height, left, right, top, bottom }));
  const at = (place) => {
    const [across, up] = group.axes.map((name) => group.policies[place].estimates[name]);
    return [x(across[0]), y(up[0])];
  };
  const path = (places) => "M" + places.map((place) => at(place).map((v) => v.toFixed(1)).join(" ")).join("L");
  for (const family of group.families) {
    for (const line of family.lines) {
      if (line.length > 1) svg.append(draw("path", { class: "join", d: path(line), stroke: family.colour,
        "stroke-dasharray": DASHES[family.line] }));
    }
  }
  for (const { policy, rates: [px, py] } of seeds) {  // lighter and smaller than their mean
    const family = group.families[policy.family];
    if (family) svg.append(draw("path", { class: "seed", d: MARKERS[family.marker], fill: family.colour,
      transform: `translate(${x(px).toFixed(1)} ${y(py).toFixed(1)}) scale(.55)` }));
  }
  const front = shown.filter(({ policy }) => policy.front).map(({ place }) => place);
  front.sort((a, b) => at(a)[0] - at(b)[0]);
  if (front.length > 1) svg.append(draw("path", { class: "front-line", d: path(front) }));
  const places = placeLabels(shown.map(({ place }) => at(place)), { left, right: width - right, top, bottom: height - bottom },
    shown.map(({ policy, place }) => labelOf(group, policy, place)), narrow ? 8.5 : 7);
  shown.forEach(({ policy, place }, index) =>
    svg.append(drawPoint(group, policy, place, at(place), x, y, places[index], choose)));
  return svg;
}

function labelOf(group, policy, place) {
  return policy.baseline ? "baseline" : group.families[policy.family]?.labels[place] ?? "";
}

function axes({ group, x, y, x0, x1, y0, y1, width, height, left, right, top, bottom }) {
  const parts = [];
  const inside = (low, high, count) => ticks(Math.max(0, low), Math.min(1, high), count);
  for (const value of inside(x0, x1, 6)) {
    parts.push(draw("line", { class: "grid-line", x1: x(value), x2: x(value), y1: top, y2: height - bottom }),
      draw("text", { x: x(value), y: height - bottom + 18, "text-anchor": "middle" }, String(value)));
  }
  for (const value of inside(y0, y1, 6)) {
    parts.push(draw("line", { class: "grid-line", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      draw("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  parts.push(draw("line", { class: "even", x1: x(0.5), x2: x(0.5), y1: top, y2: height - bottom }),  // as the baseline
    draw("line", { class: "even", x1: left, x2: width - right, y1: y(0.5), y2: y(0.5) }));
  const middle = (top + height - bottom) / 2;
  parts.push(draw("text", { x: (left + width - right) / 2, y: height - 12, "text-anchor": "middle" },
    axisTitle(group, 0)),
  draw("text", { transform: `translate(16 ${middle}) rotate(-90)`, "text-anchor": "middle" },
    axisTitle(group, 1)));
  return parts;
}

function axisTitle(group, side) {
  const { name, kinds } = group.criteria.find((criterion) => criterion.name === group.axes[side]);
  return `${name}: win rate on ${kinds} prompts →`;
}

function drawPoint(group, policy, place, [cx, cy], x, y, label, choose) {
  const family = policy.baseline ? null : group.families[policy.family];
  const colour = family ? family.colour : "currentColor";
  const [across, up] = group.axes.map((name) => policy.estimates[name]);
  const node = draw("g", { class: `point${policy.front ? " on-front" : ""}`, tabindex: 0, role: "button",
    "data-policy": place, "aria-label": `${policy.title}: ${group.axes[0]} ${spell(across)}, ${group.axes[1]} ${spell(up)}`
      + (policy.front ? ", on the Pareto front" : "") });
  if (across[1] !== null && !policy.baseline) {
    node.append(draw("line", { class: "bar", stroke: colour, x1: x(across[1]), x2: x(across[2]), y1: cy, y2: cy }),
      draw("line", { class: "bar", stroke: colour, x1: cx, x2: cx, y1: y(up[1]), y2: y(up[2]) }));
  }
  node.append(
    draw("circle", { cx, cy, r: 16, fill: "transparent" }),  // easier to hit
    draw("circle", { class: "ring", cx, cy, r: 12 }),
    draw("path", { class: "shape", d: MARKERS[family ? family.marker : "baseline"], fill: colour,
      transform: `translate(${cx.toFixed(1)} ${cy.toFixed(1)})` }));
  if (label) node.append(draw("text", { class: "label", x: label.x, y: label.y, "text-anchor": label.anchor }, label.text));
  node.addEventListener("pointerenter", () => choose(place, false));
  node.addEventListener("pointerleave", () => choose(null, false));
  node.addEventListener("focus", () => choose(place, true));
  node.addEventListener("click", () => choose(place, true));
  node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(place, true); }
  });
  return node;
}

/** For each point the first of eight places whose box meets no other label or point; none if all are taken. */
function placeLabels(points, bounds, texts, letter) {
  const taken = points.map(([px, py]) => [px - 11, py - 11, px + 11, py + 11]);
  const offsets = [[14, -8, "start"], [-14, -8, "end"], [14, 16, "start"], [-14, 16, "end"], [0, -17, "middle"],
    [0, 25, "middle"], [19, 4, "start"], [-19, 4, "end"]];
  return points.map(([px, py], index) => {
    const text = texts[index], wide = text.length * letter;
    if (!text) return null;
    for (const [dx, dy, anchor] of offsets) {
      const start = px + dx - (anchor === "end" ? wide : anchor === "middle" ? wide / 2 : 0);
      const box = [start, py + dy - 11, start + wide, py + dy + 3];
      const isInside = box[0] >= bounds.left && box[2] <= bounds.right && box[1] >= bounds.top && box[3] <= bounds.bottom;
      const isFree = taken.every((o, other) => other === index || box[2] < o[0] || box[0] > o[2] || box[3] < o[1] || box[1] > o[3]);
      if (isInside && isFree) {
        taken.push(box);
        return { x: px + dx, y: py + dy, anchor, text };
      }
    }
    return null;
  });
}

/** One training curve: updates across, values up; dots are held-out rows. `read(text)` is told what is pointed at. */
function drawCurve(points, held, name, read) {
  const width = 360, height = 170, left = 50, right = 10, top = 8, bottom = 24;
  const all = [...points, ...held], values = all.map((p) => p[1]), steps = all.map((p) => p[0]);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const end = Math.max(...steps), x = scale(0, end, left, width - right), y = scale(low, high, height - bottom, top);
  const last = all[all.length - 1];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0,
    "aria-label": `${name}: ${points.length ? `from ${short(points[0][1])} to ${short(points[points.length - 1][1])} ` : ""}`
      + `over ${end} updates${held.length ? `, held out ${short(held[held.length - 1][1])}` : ""}. Arrow keys read single values.` });
  for (const value of ticks(low, high, 3)) {
    svg.append(draw("line", { class: "grid-line", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  svg.append(draw("text", { x: width - right, y: height - 6, "text-anchor": "end" }, `update ${end}`),
    draw("text", { x: left, y: height - 6 }, "0"));
  const line = (list) => "M" + list.map(([step, value]) => `${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("L");
  if (points.length) svg.append(draw("path", { class: "curve", d: line(points) }));
  for (const [step, value] of held) svg.append(draw("circle", { class: "held", cx: x(step), cy: y(value), r: 4.5 }));
  const hair = draw("line", { class: "hair", y1: top, y2: height - bottom, visibility: "hidden" });
  svg.append(hair);
  let index = -1;
  const show = (next) => {
    index = Math.max(0, Math.min(all.length - 1, next));
    const [step, value] = all[index];
    hair.setAttribute("x1", x(step)); hair.setAttribute("x2", x(step)); hair.setAttribute("visibility", "visible");
    read(`update ${step}: ${short(value)}${index >= points.length ? " (held out)" : ""}`);
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), px = ((event.clientX - box.left) / box.width) * width;
    show(all.reduce((best, point, i) => Math.abs(x(point[0]) - px) < Math.abs(x(all[best][0]) - px) ? i : best, 0));
  });
  svg.addEventListener("pointerleave", () => { hair.setAttribute("visibility", "hidden"); read(""); });
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (move) { event.preventDefault(); show(index + move); }
  });
  return svg;
}

/** A rate in [0, 1] with its interval on one line. */
function drawRate([value, low, high]) {
  const svg = draw("svg", { viewBox: "0 0 300 22", "aria-hidden": "true", preserveAspectRatio: "none" });
  const x = scale(0, 1, 4, 296);
  svg.append(draw("line", { class: "track", x1: 4, x2: 296, y1: 11, y2: 11 }),
    draw("line", { class: "even", x1: 150, x2: 150, y1: 1, y2: 21 }));
  if (low !== null) svg.append(draw("line", { class: "range", x1: x(low), x2: x(high), y1: 11, y2: 11 }));
  if (value !== null) svg.append(draw("rect", { class: "value", x: x(value) - 2.5, y: 4, width: 5, height: 14, rx: 2 }));
  return svg;
}

/** A number as people read it. */
function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 100000) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

/** "0.73 [0.62, 0.83]". */
function spell([value, low, high, n]) {
  if (!n) return "–";
  if (value === null) return "withheld";
  return value.toFixed(2) + (low === null ? "" : ` [${low.toFixed(2)}, ${high.toFixed(2)}]`);
}

/** Which policy was chosen for a threshold, if anybody asked; each choice with its figure. */
function showChoices() {
  document.getElementById("choice").hidden = group.choices.length === 0;
  document.querySelector('nav a[href="#choice"]').hidden = group.choices.length === 0;
  document.getElementById("choices").replaceChildren(...group.choices.map(({ sentence, notes, picture, asked }) =>
    make("article", { className: "choice" }, make("p", { className: "sentence", textContent: sentence }),
      ...notes.map((note) => make("p", { className: "note", textContent: note })),
      make("img", { src: picture, alt: "What was tested of every policy, with its bound; the tables have the numbers" }),
      make("p", { className: "note", textContent: `Asked: ${asked}` }))));
}
