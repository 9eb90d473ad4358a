// A part of a model card as elements: its tables, lists and paragraphs. What it does not know stays text, as everything does.

import { make } from "./answer.js";

const UNESCAPED = { "&lt;": "<", "&gt;": ">", "&amp;": "&" };

/** The section of ``card`` under a heading of the second order, blank where there is none. */
export function section(card, name) {
  const found = card.split(/^## /m).find((part) => part.startsWith(`${name}\n`));
  return found ? found.slice(name.length).trim() : "";
}

/** Markdown as elements, one for each block. */
export function rendered(text) {
  return text.split(/\n{2,}/).map((block) => block.trim().split("\n")).filter(([first]) => first).map((lines) => {
    if (lines.every((line) => line.startsWith("|"))) return table(lines);
    if (lines.every((line) => line.startsWith("- "))) return make("ul", "", ...lines.map((line) => make("li", "", words(line.slice(2)))));
    return make("p", "", words(lines.join(" ").replace(/^#+ /, "")));
  });
}

function table(lines) {
  const [head, , ...body] = lines.map((line) => line.slice(1).replace(/\|\s*$/, "").split(/(?<!\\)\|/).map((cell) => words(cell.trim())));
  const cells = (row, tag) => make("tr", "", ...row.map((cell) => make(tag, "", cell)));
  const made = make("div", "scroll", make("table", "", make("thead", "", cells(head, "th")), make("tbody", "", ...body.map((row) => cells(row, "td")))));
  made.tabIndex = 0;
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", "Table");
  return made;
}

/** Text without the signs of emphasis and escape. */
const words = (text) => text.replace(/\*\*|`/g, "").replace(/\\([\\`*_{}[\]()#+.!|<>~-])/g, "$1").replace(/&(?:lt|gt|amp);/g, (sign) => UNESCAPED[sign]);
