// The page: what the data in it say, group by group. Texts of policies are only ever set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const PAGE = 20;  // pairs of responses shown at a time
let group = data.groups[0];
let pinned = 0;      // the chosen policy
let limit = PAGE;
let sorting = { key: null, descending: false };

const criteria = () => group.criteria.map(({ name }) => name);
const columns = () => [
  ["policy", (p) => p.name, "words"],
  ["β", (p) => p.beta], ["q", (p) => p.q], ["seed", (p) => (new Set(group.policies.map(({ seed }) => seed)).size > 1 ? p.seed : null)],
  ...criteria().map((key) => [key, (p) => p.estimates[key]]),
  ["front", (p) => (p.front ? 1 : 0)],
  ...["refused risky", "refused benign", "KL (nats)"].map((key) => [key, (p) => p.estimates[key]]),
  ["tokens", (p) => p.tokens],
  ["missing", (p) => p.missing],
];

function showGroup(place) {
  group = data.groups[place];
  pinned = Math.max(0, group.policies.findLastIndex((policy) => policy.front && !policy.baseline));
  document.querySelectorAll(".still").forEach((still, index) => still.classList.toggle("current", index === place));
  document.querySelectorAll("[role=tab]").forEach((tab, index) => {
    tab.setAttribute("aria-selected", String(index === place));
    tab.tabIndex = index === place ? 0 : -1;
  });
  byId("heading").textContent = group.heading;
  byId("provenance").textContent = group.provenance;
  document.title = `${group.heading} – sacpo_exp report`;
  const baseline = group.policies.find((policy) => policy.baseline);
  const fronts = group.policies.filter((policy) => policy.front).length;
  byId("summary").textContent = `${group.policies.length} policies on ${group.prompts.length} prompts, judged by `
    + `${group.judge} against ${baseline ? baseline.name.replace(" (baseline)", "") : "a baseline"}; ${fronts} on the Pareto front.`;
  showFigure(); showTable(); showChoices(); showAcross(place); showCurves(); prepareCategories(); showHealth(); prepareResponses(); showTables();
  choose(pinned, true);
}

// Figure and the chosen policy

function showFigure() {
  byId("figure").replaceChildren(drawTradeOff(group, choose));
  showLegend("legend", group.families);
  toggleLayers();
}

function showLegend(id, families) {
  const entries = families.map(({ name, marker, colour }) => [name, marker, colour]);
  entries.unshift(["baseline", "baseline", "currentColor"]);
  byId(id).replaceChildren(...entries.map(([name, marker, colour]) => make("li", {},
    draw("svg", { viewBox: "-9 -9 18 18", "aria-hidden": "true" }, draw("path", { d: MARKERS[marker], fill: colour })), name)));
}

function toggleLayers() {
  document.querySelectorAll("#figure .bar").forEach((bar) => bar.setAttribute("display", byId("bars").checked ? "inline" : "none"));
  document.querySelectorAll("#figure .front-line").forEach((line) =>
    line.setAttribute("display", byId("front").checked ? "inline" : "none"));
  document.querySelectorAll("#figure .point").forEach((point) =>
    point.classList.toggle("on-front", byId("front").checked && group.policies[point.dataset.policy].front));
}

/** Show a policy; null goes back to the one that was chosen for good. */
function choose(place, isFinal) {
  if (isFinal) pinned = place;
  const shown = place ?? pinned;
  document.querySelectorAll("#figure [data-policy], #table [data-policy]").forEach((element) =>
    element.classList.toggle("chosen", Number(element.dataset.policy) === shown));
  showDetail(group.policies[shown]);
}

function showDetail(policy) {
  const list = make("dl");
  for (const [name, estimate] of Object.entries(policy.estimates)) {
    if (estimate[3]) list.append(make("dt", { textContent: name }), make("dd", { textContent: `${spell(estimate)}, n ${estimate[3]}` }));
  }
  if (policy.tokens !== null) list.append(make("dt", { textContent: "tokens" }), make("dd", { textContent: short(policy.tokens) }));
  if (policy.missing) list.append(make("dt", { textContent: "no verdict" }), make("dd", { textContent: `${policy.missing} prompts` }));
  const badges = [policy.baseline && "baseline", policy.front && "Pareto front"].filter(Boolean)
    .map((text) => make("span", { className: text === "baseline" ? "badge" : "badge strong", textContent: text }));
  const line = make("ol", { className: "line" }, ...policy.line.map((id) => {
    const made = data.made[id];
    if (!made) return make("li", {}, id, make("small", { textContent: "not in this store" }));
    const merged = made.parents.length > 1 ? ` of ${made.parents.map((p) => data.made[p]?.policy ?? p).join(" and ")}` : "";
    return make("li", { title: id }, made.policy, make("small", { textContent: made.kind + merged + (made.recipe ? `: ${made.recipe}` : "") }));
  }));
  const commands = policy.train
    ? [command(policy.train), command(policy.eval), make("p", { className: "note",
      textContent: "The overrides of the command that made it. hardware=… as your machine has it; judge and prompts by name only." })]
    : [make("p", { className: "note", textContent: policy.line.length === 1 && (policy.baseline || data.made[policy.id]?.kind === "model")
      ? "As it came: nothing was trained here." : "What is stored of this policy does not say how it was made." })];
  byId("detail").replaceChildren(
    make("h3", { textContent: policy.title }), ...badges, list,
    make("h4", { textContent: "Lineage" }), line,
    make("h4", { textContent: "How to make it again" }), ...commands,
    make("p", { className: "note", textContent: policy.id }));
}

function command(text) {
  const copy = make("button", { type: "button", className: "copy", textContent: "Copy" });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {  // pages from a file may not be allowed to
      getSelection().selectAllChildren(copy.previousElementSibling);
      copy.textContent = "Marked";
    }
  });
  return make("div", {}, make("pre", { textContent: text, tabIndex: 0 }), copy);
}

// Table of policies

function showTable() {
  const has = columns().filter(([, get]) => group.policies.some((policy) => hasValue(get(policy))));
  const head = make("tr", {}, ...has.map(([key, get, kind]) => {
    const button = make("button", { type: "button", textContent: key });
    button.addEventListener("click", () => {
      // Numbers from the highest on, words from A on.
      sorting = { key, descending: sorting.key === key ? !sorting.descending : kind !== "words" };
      showTable();
      byId("table").querySelector("th[aria-sort]:not([aria-sort=none]) button").focus();
    });
    const th = make("th", { scope: "col", className: kind ?? "" }, button);
    th.setAttribute("aria-sort", sorting.key !== key ? "none" : sorting.descending ? "descending" : "ascending");
    return th;
  }));
  const order = group.policies.map((policy, place) => place);
  const column = has.find(([key]) => key === sorting.key);
  if (column) order.sort((a, b) => compare(column[1](group.policies[a]), column[1](group.policies[b]), sorting.descending));
  const rows = order.map((place) => {
    const policy = group.policies[place];
    const cells = has.map(([key, get, kind]) => make("td", { className: kind ?? "" }, ...cell(key, get(policy), place)));
    const row = make("tr", { className: place === pinned ? "chosen" : "" }, ...cells);
    row.dataset.policy = place;
    row.addEventListener("click", () => choose(place, true));
    return row;
  });
  byId("table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  byId("policies-note").textContent = "Win rates against the baseline, ties as half; refusals by string matching "
    + `[${+(100 * group.confidence).toFixed(2)} % intervals]. A heading sorts; a policy's name shows it above.`;
}

function hasValue(value) {
  return Array.isArray(value) ? value[3] > 0 : value !== null && value !== undefined;
}

/** Without a value always last. */
function compare(a, b, isDescending) {
  const [one, other] = [a, b].map((value) => (Array.isArray(value) ? value[0] : value) ?? null);
  if (one === null || other === null) return (one === null) - (other === null);
  const order = typeof one === "string" ? one.localeCompare(other) : one - other;
  return isDescending ? -order : order;
}

function cell(key, value, place) {
  if (key === "policy") {
    const button = make("button", { type: "button", textContent: value });
    button.addEventListener("click", (event) => { event.stopPropagation(); choose(place, true); });
    return [button];
  }
  if (key === "front") return value ? [make("span", { textContent: "●", title: "on the Pareto front" })] : [""];
  if (!Array.isArray(value)) return [short(value)];
  const [first, ...rest] = spell(value).split(" ");
  return [first, make("span", { className: "interval", textContent: rest.length ? ` ${rest.join(" ")}` : "" })];
}

// Means over seeds, and pairs of policies: of the groups that differ from this one in the seed alone

function showAcross(place) {
  const cohort = data.cohorts.find(({ groups }) => groups.includes(place));
  byId("across").hidden = byId("to-across").hidden = !cohort;
  if (!cohort) return;
  byId("across-note").textContent = cohort.provenance;
  byId("means").hidden = cohort.policies.length === 0;
  if (cohort.policies.length) {
    let chosen = 0;
    const choose = (next, isFinal) => {
      if (isFinal) chosen = next;
      describeMean(cohort, next ?? chosen);
    };
    byId("means-figure").replaceChildren(drawTradeOff(cohort, choose));
    showLegend("means-legend", cohort.families);
    choose(Math.max(0, cohort.policies.findLastIndex(({ front }) => front)), true);
  }
  byId("across-tables").replaceChildren(...cohort.sections.map((section) => table(section, true)));
}

function describeMean(cohort, place) {
  const { title, estimates, spreads, seeds } = cohort.policies[place];
  document.querySelectorAll("#means-figure [data-policy]").forEach((point) =>
    point.classList.toggle("chosen", Number(point.dataset.policy) === place));
  const means = Object.entries(spreads).map(([key, spread]) => `${key} ${spell(estimates[key])}, sd ${short(spread)}`);
  const single = seeds.map(({ seed, rates }) => `${seed}: ${rates.map((rate) => (rate === null ? "–" : rate.toFixed(2))).join(" / ")}`);
  byId("means-detail").textContent = `${title}, mean of ${seeds.length} seeds: ${means.join("; ")}.\n`
    + `By seed, as small points: ${single.join(", ")}.`;
}

// Training curves

function showCurves() {
  const stages = [...new Set(group.policies.flatMap((policy) => policy.line))].filter((id) => Object.keys(data.curves[id] ?? {}).length);
  const names = [...new Set(stages.flatMap((id) => Object.keys(data.curves[id])).map((name) => name.replace(/^eval_/, "")))];
  names.sort((a, b) => (b === "loss") - (a === "loss") || b.startsWith("rewards") - a.startsWith("rewards") || a.localeCompare(b));
  fill("metric", names.map((name) => [name, name]));
  byId("metric").onchange = () => showStages(stages, byId("metric").value);
  showStages(stages, byId("metric").value);
}

function showStages(stages, name) {
  const cards = stages.map((id) => {
    const points = data.curves[id][name] ?? [], held = data.curves[id][`eval_${name}`] ?? [];
    if (points.length + held.length === 0) return null;
    const readout = make("p", { textContent: data.made[id].recipe });
    const read = (text) => { readout.textContent = text || data.made[id].recipe; };
    return make("div", { className: "card" }, make("h3", { textContent: data.made[id].policy }),
      drawCurve(points, held, `${name} of ${data.made[id].policy}`, read), readout);
  }).filter(Boolean);
  byId("charts").replaceChildren(...cards.length ? cards
    : [make("p", { className: "empty", textContent: "No training curves are stored for these policies." })]);
}

// Categories

function prepareCategories() {
  const rows = group.categories;
  byId("categories").hidden = rows.length === 0;
  const policies = [...new Set(rows.map((row) => row.policy))], criteria = [...new Set(rows.map((row) => row.criterion))];
  fill("category-policy", policies.map((place) => [place, group.policies[place].title]), policies[policies.length - 1]);
  fill("category-criterion", criteria.map((name) => [name, name]));
  byId("category-policy").onchange = byId("category-criterion").onchange = showCategories;
  showCategories();
}

function showCategories() {
  const row = group.categories.find(({ policy, criterion }) =>
    String(policy) === byId("category-policy").value && criterion === byId("category-criterion").value);
  const rates = row ? Object.entries(row.rates).sort(([, a], [, b]) => (b[0] ?? -1) - (a[0] ?? -1)) : [];
  byId("category-bars").replaceChildren(...rates.map(([name, estimate]) => make("div", { className: "rate" },
    make("span", { textContent: name.replaceAll("_", " ") }), drawRate(estimate),
    make("span", { textContent: `${spell(estimate)}  n ${estimate[3]}` }))));
  if (!rates.length) byId("category-bars").append(make("p", { className: "empty", textContent: "No verdicts by category." }));
}

// Judge

function showHealth() {
  const { states, flips, accuracy, usd, calls, is_asked: isAsked } = group.health;
  const total = Object.values(states).reduce((sum, count) => sum + count, 0);
  const cards = Object.entries(states).map(([state, count]) =>
    [state === "ok" ? "verdicts" : state, count.toLocaleString("en"), `of ${total.toLocaleString("en")}`]);
  for (const [name, rate] of Object.entries(flips)) cards.push([`flip rate, ${name}`, spell(rate).split(" ")[0], spell(rate).split(" ").slice(1).join(" ")]);
  for (const [name, rate] of Object.entries(accuracy)) cards.push([`held-out accuracy, ${name}`, spell(rate).split(" ")[0], spell(rate).split(" ").slice(1).join(" ")]);
  cards.push(["cost", isAsked ? (usd === null ? "price not known" : `$${usd.toFixed(2)}`) : "$0", isAsked ? `${calls.toLocaleString("en")} calls` : "not asked by call"]);
  byId("health").replaceChildren(...cards.map(([name, value, small]) => make("div", {},
    make("dt", { textContent: name }), make("dd", {}, value, make("small", { textContent: small })))));
  byId("judge-tables").replaceChildren(...group.sections.filter(isAboutJudge).map((section) => table(section, section.rows.length < 15)));
}

function isAboutJudge({ title }) {
  return /judg/i.test(title);
}

function showTables() {
  byId("all-tables").replaceChildren(...group.sections.filter((section) => !isAboutJudge(section)).map((section) => table(section, false)));
}

function table({ title, rows: [head, ...rows], left, note }, isOpen) {
  const kind = (place) => (place < left ? "words" : "");
  const line = (name, cells) => make("tr", {}, ...cells.map((text, place) => make(name, { className: kind(place), textContent: text })));
  return make("details", { open: isOpen }, make("summary", { textContent: title }),
    make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, make("thead", {}, line("th", head)),
      make("tbody", {}, ...rows.map((cells) => line("td", cells))))),
    make("p", { className: "note", textContent: note }));
}

// Responses

function prepareResponses() {
  const titles = group.policies.map((policy, place) => [place, policy.title]);
  fill("left", titles, 0);
  fill("right", titles, pinned);
  const values = (key) => [...new Set(group.prompts.map((prompt) => prompt[key]).filter((value) => value !== null))].sort();
  fill("kind", [["", "all"], ...values("kind").map((name) => [name, name])]);
  fill("category", [["", "all"], ...values("category").map((name) => [name, name.replaceAll("_", " ")])]);
  byId("search").value = "";
  showResponses();
}

function showResponses() {
  const left = Number(byId("left").value), right = Number(byId("right").value), wanted = byId("search").value.toLowerCase();
  const places = group.prompts.map((prompt, place) => place).filter((place) => {
    const prompt = group.prompts[place], texts = [prompt.text, said(left, place), said(right, place)];
    return (!byId("kind").value || prompt.kind === byId("kind").value)
      && (!byId("category").value || prompt.category === byId("category").value)
      && (!wanted || texts.some((number) => number !== null && data.texts[number].toLowerCase().includes(wanted)))
      && isShown(byId("which").value, left, right, place);
  });
  const cut = data.cut === null ? "" : ` Texts end after ${data.cut} characters.`;
  byId("count").textContent = `${Math.min(limit, places.length)} of ${places.length} prompts, ${group.prompts.length} in all.${cut}`;
  byId("pairs").replaceChildren(...places.slice(0, limit).map((place) => pair(place, left, right)));
  byId("more").hidden = places.length <= limit;
}

const said = (policy, place) => group.answers[policy].texts[place];

function isShown(which, left, right, place) {
  const [one, other] = [group.answers[left], group.answers[right]];
  const differs = (key) => one.verdicts[key][place] !== other.verdicts[key][place];
  if (which === "text") return one.texts[place] !== other.texts[place];
  if (which === "verdict") return criteria().some(differs);
  if (which === "failed") return [one, other].some((side) => criteria().some((key) => typeof side.verdicts[key][place] === "string"));
  return true;
}

function pair(place, left, right) {
  const prompt = group.prompts[place], labels = [prompt.kind, prompt.category?.replaceAll("_", " ")].filter(Boolean);
  const met = group.meetings.find(({ pair: [a, b] }) => (a === left && b === right) || (a === right && b === left));
  const direct = met ? [make("div", {}, ...verdicts(met, place, `${group.policies[met.pair[0]].title} against the other: `))] : [];
  return make("section", { className: "pair" },
    make("header", {}, ...labels.map((text) => make("span", { className: "badge", textContent: text })),
      make("p", { textContent: data.texts[prompt.text] }), ...direct),
    make("div", {}, ...[left, right].map((policy) => answer(policy, place))));
}

function answer(policy, place) {
  const number = said(policy, place), text = number === null ? null : data.texts[number];
  const isLong = (text ?? "").length > 900;  // scrolls by itself, so that the keyboard has to reach it
  const body = text ? make("p", { textContent: text, className: isLong ? "long" : "", tabIndex: isLong ? 0 : -1 })
    : make("p", { className: "empty", textContent: text === "" ? "(an empty response)" : "(was not asked this)" });
  const { title, baseline } = group.policies[policy];
  const against = baseline ? [] : verdicts(group.answers[policy], place, "");
  return make("article", {}, make("h3", { textContent: title }), ...against, body);
}

function verdicts(match, place, before) {
  return criteria().filter((key) => match.verdicts[key]?.[place] != null).map((key) => {
    const value = match.verdicts[key][place];
    const word = typeof value === "string" ? value : value > 0.5 ? "won" : value < 0.5 ? "lost" : "tied";
    const kind = typeof value === "string" ? "failed" : word;
    const share = typeof value === "number" && ![0, 0.5, 1].includes(value) ? ` (${short(value)})` : "";
    return make("span", { className: `verdict ${kind}`, textContent: `${before}${key}: ${word}${share}` });
  });
}

/** The options of a select; `chosen` is a value. */
function fill(id, options, chosen) {
  byId(id).replaceChildren(...options.map(([value, textContent]) => make("option", { value, textContent })));
  if (chosen !== undefined) byId(id).value = chosen;
}

function start() {
  document.documentElement.classList.add("js");
  if (data.groups.length > 1) {
    byId("tabs").append(...data.groups.map(({ heading, provenance }, place) => {
      const tab = make("button", { type: "button", title: provenance, textContent: `${place + 1}: ${heading}` });
      tab.setAttribute("role", "tab");
      tab.addEventListener("click", () => showGroup(place));
      return tab;
    }));
    byId("tabs").addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key], tabs = [...byId("tabs").children];
      if (move) tabs[(tabs.indexOf(document.activeElement) + move + tabs.length) % tabs.length].focus();
    });
  } else byId("tabs").remove();
  byId("bars").onchange = byId("front").onchange = toggleLayers;
  for (const kind of ["input", "change"]) byId("filters").addEventListener(kind, () => { limit = PAGE; showResponses(); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("more").onclick = () => { limit += PAGE; showResponses(); };
  window.matchMedia("(max-width: 52rem)").addEventListener("change", () => {
    showFigure(); showAcross(data.groups.indexOf(group)); choose(pinned, true);
  });
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
  showGroup(0);
}

start();
