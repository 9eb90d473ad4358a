// The nearest known cases, after the probability: seen first, neighbours sway a reader more than they should (Tschandl 2020).

import { make, number, percent } from "./answer.js";

/** Known cases with their labels, and how far neighbours are to be believed; ``open`` is called with the one that is chosen. */
export function neighbours(found, called, open) {
  const parts = document.createDocumentFragment();
  const agree = found.neighbours.filter(({ label }) => label === called).length;
  if (!found.neighbours.length) parts.append(make("p", "", "None: what is alike is of the same patient, or a copy."));
  else if (called) parts.append(make("p", "", `${agree} of ${found.neighbours.length} bear the label ${called}.`));
  if (found.limit !== null && found.distance > found.limit) parts.append(make("p", "far", `Unlike what is known: at a distance of ${number(found.distance)}, while 95 % of patients kept for tuning lie within ${number(found.limit)}.`));
  parts.append(make("ol", "near", ...found.neighbours.map((near) => make("li", "", card(near, open)))));
  parts.append(reliability(found, called));
  const where = `Among ${found.cases.toLocaleString("en")} cases of ${found.patients.toLocaleString("en")} patients, by ${found.measure} distance in the layer ${found.layer}; never the same patient, nor a copy.`;
  parts.append(make("p", "under", where), ...(found.notes ?? []).map((note) => make("p", "under", note)));
  return parts;
}

function card(near, open) {
  const picture = near.thumbnail ? make("img") : make("span", "none", "no picture");
  if (near.thumbnail) Object.assign(picture, { src: near.thumbnail, alt: "" });
  const button = make("button", "", picture, make("span", "label", near.label), make("span", "meta", near.source), make("span", "meta", `distance ${number(near.distance)}`));
  button.type = "button";
  button.addEventListener("click", () => open(near));
  return button;
}

/** Of the classes in sight: how often the neighbours of a case have its label, beside chance; of the test part where it was judged. */
function reliability({ reliability: rows, neighbours: found }, called) {
  const shown = [...new Set([called, ...found.map(({ label }) => label)])].filter(Boolean);
  const part = rows[0]?.part, one = (of, plain) => rows.find((row) => row.part === part && row.of === of && (plain ? /^precision@/ : /^prevalence$/).test(row.metric));
  const known = shown.filter((of) => one(of, true));
  if (!known.length) return make("p", "", make("strong", "", "How reliable neighbours are was not measured on this run."));
  const head = make("tr", "", ...["Of a case that is", "its nearest are the same in", "by chance"].map((words) => Object.assign(make("th", "", words), { scope: "col" })));
  const body = known.map((of) => {
    const { value, low, high } = one(of, true), chance = one(of, false);
    const range = low === null || high === null ? "" : make("span", "soft", ` (${percent(low, 0)} to ${percent(high, 0)})`);
    return make("tr", "", Object.assign(make("th", "", of), { scope: "row" }), make("td", "", percent(value, 0), range), make("td", "", chance ? percent(chance.value, 0) : "–"));
  });
  return make("table", "reliable", make("caption", "", `How reliable neighbours are here, measured on patients ${part === "test" ? "of the test part" : "kept for tuning"}`), make("thead", "", head), make("tbody", "", ...body));
}
