"use strict";
// The tables and figures are HTML already. This script shows one group at a time, links points with their policies,
// sorts tables, draws training curves and filters responses. Texts are only ever set as text, never as markup.

const PAGE = 20;  // pairs of responses shown at a time
const SVG = "http://www.w3.org/2000/svg";  // a name, never fetched
const data = JSON.parse(document.getElementById("data").textContent);
const parts = [...document.querySelectorAll(".part")];
const byId = (id) => document.getElementById(id);
let group, limit;

/** An HTML element; `properties` are set as properties (`textContent`, `className`). */
function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** An SVG element with attributes. */
function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Groups and policies

function showPart() {
  const part = parts.find(({ id }) => `#${id}` === location.hash) ?? parts[0];
  parts.forEach((other, place) => {
    other.hidden = other !== part;
    byId("parts").children[place].ariaCurrent = String(other === part);
  });
  group = data.groups[parts.indexOf(part)];  // parts across policies come last and have no responses
  byId("curves").hidden = byId("responses").hidden = !group;
  if (!group) return;
  fillCurves();
  fillFilters(part.dataset.chosen);
}

/** Show the policy of an element inside a part, if it belongs to one. */
function choose(part, element) {
  const policy = element?.closest("[data-policy]")?.dataset.policy;
  if (policy === undefined) return;
  part.dataset.chosen = policy;
  for (const other of part.querySelectorAll("[data-policy]")) other.classList.toggle("chosen", other.dataset.policy === policy);
}

function watch(part) {
  // Not over tables: another policy's card may be longer, and would move the table away from the pointer.
  part.addEventListener("pointerover", ({ target }) => choose(part, target.closest(".point")));
  part.addEventListener("focusin", ({ target }) => choose(part, target));
  part.addEventListener("click", (event) => {
    if (event.target.closest("a")) event.preventDefault();
    choose(part, event.target);
  });
  const cards = [...part.querySelectorAll(".card")];
  choose(part, cards.findLast((card) => card.querySelector(".badge")) ?? cards[0]);
}

/** Sort the table by this column: numbers from the highest, words from A. A cell without a number comes last. */
function addSorting(head) {
  const isText = head.classList.contains("words"), button = make("button", { type: "button", textContent: head.textContent });
  const key = (row) => row.cells[head.cellIndex].textContent;
  const number = (row) => Number.parseFloat(key(row).replaceAll(",", ""));
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const isDescending = head.ariaSort ? head.ariaSort === "ascending" : !isText, sign = isDescending ? -1 : 1;
    for (const other of head.parentElement.cells) other.ariaSort = null;
    head.ariaSort = isDescending ? "descending" : "ascending";
    const body = head.closest("table").tBodies[0];
    body.append(...[...body.rows].sort((a, b) => isText ? sign * key(a).localeCompare(key(b))
      : Number.isNaN(number(a)) - Number.isNaN(number(b)) || sign * (number(a) - number(b))));
  });
}

// Training curves

function fillCurves() {
  const stages = group.stages.map((id) => data.curves[id]).filter(({ metrics }) => Object.keys(metrics).length);
  const names = [...new Set(stages.flatMap(({ metrics }) => Object.keys(metrics).map((name) => name.replace(/^eval_/, ""))))];
  byId("curves").hidden = !stages.length;
  fill("metric", names.sort((a, b) => (b === "loss") - (a === "loss") || a.localeCompare(b)));
  byId("metric").onchange = () => byId("charts").replaceChildren(...stages.map(({ title, metrics }) =>
    makeChart(title, metrics[byId("metric").value] ?? [], metrics[`eval_${byId("metric").value}`] ?? [])));
  byId("metric").onchange();
  byId("logged").replaceChildren(...stages.filter(({ completions }) => completions.length).map(makeLog));
}

/** A table, closed at first, of the responses that were logged while a stage trained. */
function makeLog({ title, completions }) {
  const rows = [["update", "prompt", "response"], ...completions];
  const cells = (row) => row.map((textContent) => make("td", { className: "words", textContent }));
  return make("details", {}, make("summary", { textContent: `${title}: responses while training` }),
    make("table", {}, make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row))))));
}

/** A line chart of (x, y) points, and dots, with the last values below. */
function makeChart(title, line, dots) {
  const [width, height, left, bottom] = [360, 170, 48, 150], all = [...line, ...dots], values = all.map(([, y]) => y);
  const [low, high] = [Math.min(...values), Math.max(...values)], end = Math.max(...all.map(([x]) => x));
  const at = ([x, y]) => [left + (x / end) * (width - left - 8), bottom - ((y - low) / (high - low || 1)) * (bottom - 10)];
  const label = (x, y, anchor, text) => draw("text", { x, y, "text-anchor": anchor }, text);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    draw("path", { class: "axis", d: `M${left} 10V${bottom}H${width - 8}` }),
    label(left - 6, 14, "end", short(high)), label(left - 6, bottom, "end", short(low)),
    label(width - 8, height - 4, "end", `update ${end}`),
    ...line.length ? [draw("polyline", { points: line.map(at).join(" ") })] : [],
    ...dots.map(at).map(([cx, cy]) => draw("circle", { cx, cy, r: 4 })));
  const last = [line, dots].filter((points) => points.length).map((points) => short(points.at(-1)[1]));
  const note = make("p", { className: "note", textContent: `at the end ${last.join(", held out ")}` });
  return make("div", { className: "chart" }, make("h3", { textContent: title }), ...all.length ? [svg, note] : []);
}

const short = (value) => String(Number(value.toPrecision(3)));

// Responses

function fillFilters(policy) {
  const values = (key) => ["", ...new Set(group.prompts.map((prompt) => prompt[key]).filter(Boolean))].sort();
  const titles = group.policies.map(({ title }, place) => [place, title]);
  fill("left", titles);
  fill("right", titles, policy);
  fill("kind", values("kind").map((name) => [name, name || "all"]));
  fill("category", values("category").map((name) => [name, name.replaceAll("_", " ") || "all"]));
  filter();
}

/** Set the options of a select: names, or [value, name]. */
function fill(id, options, chosen) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  byId(id).replaceChildren(...pairs.map(([value, textContent]) => make("option", { value, textContent })));
  if (chosen !== undefined) byId(id).value = chosen;
}

function filter() {
  limit = PAGE;
  showResponses();
}

function showResponses() {
  const sides = ["left", "right"].map((id) => group.policies[byId(id).value]);
  const places = group.prompts.map((prompt, place) => place).filter((place) => isShown(sides, place));
  const cut = data.cut === null ? "" : ` Texts end after ${data.cut} characters.`;
  byId("count").textContent = `${Math.min(limit, places.length)} of ${places.length} prompts, ${group.prompts.length} in all.${cut}`;
  byId("pairs").replaceChildren(...places.slice(0, limit).map((place) => makePair(sides, place)));
  byId("more").hidden = places.length <= limit;
}

function isShown(sides, place) {
  const prompt = group.prompts[place], which = byId("which").value, wanted = byId("search").value.toLowerCase();
  const texts = [prompt.text, ...sides.map((side) => side.texts[place])];
  const verdicts = group.criteria.map((name) => sides.map((side) => side.verdicts[name][place]));
  return ["kind", "category"].every((key) => !byId(key).value || prompt[key] === byId(key).value)
    && (!wanted || texts.some((number) => data.texts[number]?.toLowerCase().includes(wanted)))
    && (which !== "text" || texts[1] !== texts[2])
    && (which !== "verdict" || verdicts.some(([one, other]) => one !== other))
    && (which !== "failed" || verdicts.flat().some((value) => typeof value === "string"));
}

function makePair(sides, place) {
  const prompt = group.prompts[place], badges = [prompt.kind, prompt.category?.replaceAll("_", " ")].filter(Boolean);
  const head = make("header", {}, ...badges.map((textContent) => make("span", { className: "badge", textContent })),
    make("p", { textContent: data.texts[prompt.text] }));
  return make("section", { className: "pair" }, head, ...sides.map((side) => {
    const text = data.texts[side.texts[place]] ?? "(no response to this prompt)";
    return make("article", {}, make("h3", { textContent: side.title }), ...side.baseline ? [] : makeVerdicts(side, place),
      make("p", { textContent: text || "(an empty response)", className: "text", tabIndex: text.length > 900 ? 0 : -1 }));
  }));
}

function makeVerdicts({ verdicts }, place) {
  return Object.entries(verdicts).filter(([, values]) => values[place] !== null).map(([name, values]) => {
    const value = values[place], isFailed = typeof value === "string";
    const word = isFailed ? value : value > 0.5 ? "won" : value < 0.5 ? "lost" : "tied";
    return make("span", { className: `verdict ${isFailed ? "failed" : word}`, textContent: `${name}: ${word}` });
  });
}

document.documentElement.classList.add("js");
parts.forEach(watch);
document.querySelectorAll("th").forEach(addSorting);
for (const kind of ["input", "change"]) byId("filters").addEventListener(kind, filter);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("more").addEventListener("click", () => { limit += PAGE; showResponses(); });
window.addEventListener("hashchange", showPart);
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
showPart();
