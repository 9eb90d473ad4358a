// The nearest known cases, after the probability: seen first, neighbours sway a reader more than they should (Tschandl 2020).

import { make, number } from "./answer.js";

/** Known cases with their labels, and how far neighbours are to be believed; ``open`` is called with the one that is chosen. */
export function neighbours(found, open) {
  const parts = document.createDocumentFragment();
  parts.append(...(found.words ?? []).map((line) => make("p", "under", line)));
  parts.append(make("ol", "near", ...found.neighbours.map((near) => make("li", "", card(near, open)))));
  return parts;
}

function card(near, open) {
  const picture = near.thumbnail ? make("img") : make("span", "none", "no picture");
  if (near.thumbnail) Object.assign(picture, { src: near.thumbnail, alt: "" });
  const button = make("button", "", picture, make("span", "label", near.label), make("span", "meta", [near.source, `distance ${number(near.distance)}`].filter(Boolean).join(", ")));
  button.type = "button";
  button.addEventListener("click", () => open(near));
  return button;
}
