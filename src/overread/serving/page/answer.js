// What the server says of a case, made into elements. Every text is set as text, never as markup: names come from files.

const SVG = "http://www.w3.org/2000/svg";

/** An element with a class, texts and children; blanks are left out. */
export function make(tag, name = "", ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children.filter((child) => child || child === 0));
  return made;
}

const drawnIn = (tag, values) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(values)) made.setAttribute(name, value);
  return made;
};

/** A share; what is neither 0 nor 1 is not rounded to it. */
export function percent(value, digits = 1) {
  if (value === null || value === undefined) return "–";
  const least = 0.5 * 10 ** (-2 - digits), unit = (10 ** -digits).toFixed(digits);
  if (value < least) return `< ${unit} %`;
  return value > 1 - least ? `> ${(100 - unit).toFixed(digits)} %` : `${(100 * value).toFixed(digits)} %`;
}
export const number = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString());
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const list = (items, name = "") => make("ul", name, ...items.map((item) => make("li", "", item)));

/** The one answer to tell of a case: the class called, else the most probable; of a quantity its value. */
export function headline(opinion) {
  const { answers, called, kind } = opinion;
  if (kind === "quantity" || kind === "number") return { name: answers[0].name, value: answers[0].value, quantity: true };
  const most = answers.reduce((best, each) => ((each.value ?? -1) > (best.value ?? -1) ? each : best), answers[0]);
  const found = answers.find(({ name }) => name === called) ?? most;
  return { name: called || found.name, value: found.name === called || !called ? found.value : null, quantity: false };
}

export function inWords(opinion) {
  const { name, value, quantity } = headline(opinion);
  return quantity ? `${name} ${number(value)}` : value === null ? name : `${name} ${percent(value, 0)}`;
}

/** The whole answer: probability, calls at the frozen points, how sure, and what speaks against relying on it. */
export function answer(opinion) {
  const first = headline(opinion), parts = document.createDocumentFragment();
  const head = make("div", "block",
    make("p", "headline", first.name, first.value === null ? "" : make("span", "p", ` ${first.quantity ? number(first.value) : percent(first.value)}`)),
    opinion.called_by && make("p", "under", `Called by the rule ${opinion.called_by}.${lesser(opinion)}`),
    make("p", "", make("span", opinion.trusted ? "chip sound" : "chip doubt", opinion.trusted ? "Nothing found that speaks against it" : "Not to be relied on: see below")));
  parts.append(head);
  if (!first.quantity) parts.append(bars(opinion));
  else if (opinion.answers[0].low !== null) parts.append(make("p", "under", `The members of the ensemble say ${number(opinion.answers[0].low)} to ${number(opinion.answers[0].high)}.`));
  if (opinion.calls.length) parts.append(calls(opinion.calls));
  parts.append(...[sure(opinion), doubts(opinion)].filter(Boolean));
  if (opinion.facts.length) parts.append(make("details", "", make("summary", "", "About this model"), list(opinion.facts)));
  return parts;
}

/** What is said where the class called is not the most probable one: rules may weigh classes. */
function lesser({ answers, called }) {
  const own = answers.find(({ name }) => name === called), most = answers.reduce((best, each) => ((each.value ?? -1) > (best.value ?? -1) ? each : best), answers[0]);
  return own && most.value > own.value ? ` More probable is ${most.name}, ${percent(most.value)}: the rule weighs the classes.` : "";
}

function bars({ answers, called, calibration }) {
  const rows = [...answers].sort((a, b) => (b.value ?? -1) - (a.value ?? -1)).map(({ name, value, low, high }) => {
    const drawing = drawnIn("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" });
    drawing.append(drawnIn("rect", { width: 100 * (value ?? 0), height: 6 }));
    if (low !== null && high !== null) drawing.append(drawnIn("line", { x1: 100 * low, x2: 100 * high, y1: 3, y2: 3 }));
    const range = low === null || high === null ? "" : make("small", "", ` ${percent(low, 0)} to ${percent(high, 0)}`);
    return make("li", name === called ? "called" : "", make("span", "", name), make("span", "value", percent(value), range), drawing);
  });
  return make("div", "block", make("h3", "", "Probability"), make("ul", "bars", ...rows), calibration && make("p", "under", capital(calibration)));
}

function calls(rows) {
  const items = rows.map((call) => {
    const verdict = make("span", "", `${capital(call.at)}: `, make("strong", "", call.positive ? "positive" : "negative"), ` for ${call.of}`);
    const reached = ["sensitivity", "specificity"].filter((name) => call[name]?.value !== null && call[name])
      .map((name) => `${name} ${percent(call[name].value, 0)} (${percent(call[name].low, 0)} to ${percent(call[name].high, 0)})`);
    const where = `Score ${number(call.score)}, point ${number(call.threshold)}.`;
    return make("li", "", verdict, call.near && make("span", "", ", but so near to the point that it could as well have been the other"),
      make("span", "under", where, reached.length ? ` On the test part: ${reached.join(", ")}.` : ""));
  });
  return make("div", "block", make("h3", "", "At the points frozen before the test"), make("ul", "calls", ...items));
}

function sure({ certainty, ruled_in: ruled, coverage, novelty }) {
  const lines = [];
  if (certainty.word) lines.push(make("p", "", make("strong", "", capital(certainty.word)), certainty.margin === null ? "" : `; the first two answers are ${(100 * certainty.margin).toFixed(0)} points apart`));
  if (ruled.length) lines.push(make("p", "", `Cannot be ruled out: ${ruled.join(", ")}`, coverage === null ? "" : make("span", "under", ` (sets like this hold the truth of ${percent(coverage, 0)} of cases)`)));
  if (novelty.unlike === false) lines.push(make("p", "", "Like the images of training", novelty.limit === null ? "" : make("span", "under", ` (distance ${number(novelty.distance)}, limit ${number(novelty.limit)})`)));
  return lines.length ? make("div", "block", make("h3", "", "How sure"), ...lines) : "";
}

function doubts({ trusted, warnings, findings, seen, novelty, unchecked }) {
  const said = warnings.map((line) => line.replace(/^(?:warning|error|note): /i, ""));
  for (const line of [...findings.map(({ message }) => message), seen].filter(Boolean)) if (!said.some((known) => known.includes(line))) said.push(line);
  if (novelty.unlike && !said.some((line) => /unlike/i.test(line))) said.unshift(`The image is unlike those of training (distance ${number(novelty.distance)}, limit ${number(novelty.limit)})`);
  const missing = [...unchecked, ...(novelty.unlike === null && novelty.why && !unchecked.includes(novelty.why) ? [novelty.why] : [])];
  const parts = make("div", "block");
  if (said.length) parts.append(make("div", "box", make("h3", "", trusted ? "To know" : "Do not rely on this answer"), list(said.map(capital))));
  if (missing.length) parts.append(make("details", "", make("summary", "", `Not checked: ${missing.length}`), list(missing.map(capital))));
  return parts.childElementCount ? parts : "";
}

// -- maps -------------------------------------------------------------------------------------------------------------

/** What a method was found to be worth on this run, in one sentence. */
export function worth({ criteria }) {
  const made = criteria.filter(isMade), passed = made.filter((each) => each.passed).length;
  if (!made.length) return "not checked on a sample of this run’s cases.";
  return `passed ${passed} of ${made.length} checks on a sample of this run’s cases.`;
}

const isMade = ({ value }) => value !== null;

/** What is to be known before a map is believed. */
export function verdict(map) {
  const parts = document.createDocumentFragment();
  if (map.nothing) parts.append(make("p", "nothing", `This map says nothing for ${map.target}: no value is above 0.`));
  if (map.verdict) parts.append(make("p", "said", map.verdict));
  parts.append(...[make("p", map.verdict ? "under" : "said", `${map.method.title}: ${worth(map.method)}`), criteria(map.method, isMade)].filter(Boolean));
  parts.append(...map.notes.map((note) => make("p", "under", note)));
  return parts;
}

function criteria(method, kept = () => true) {
  const rows = method.criteria.filter(kept);
  return rows.length && make("ul", "criteria", ...rows.map((each) => {
    const outcome = !isMade(each) ? "unmade" : each.passed ? "passed" : "failed";
    return make("li", outcome, make("span", "", make("span", "hidden", outcome === "unmade" ? "" : `${outcome}: `), `${capital(each.criterion)}: ${each.words}`));
  }));
}

export function methodList(methods) {
  return methods.flatMap((method) => [make("dt", "", method.title),
    make("dd", "", make("p", "", method.words), make("p", "", capital(worth(method))), criteria(method), method.source && make("p", "small", method.source))]);
}
