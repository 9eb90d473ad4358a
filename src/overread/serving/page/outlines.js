// Outlined objects: their paths, what is said of them, and the answer in words. Knows nothing of cases or servers.

import { make, number } from "./answer.js";

// Okabe and Ito (2008), told apart with every kind of colour blindness; the dashes tell classes apart without colour.
const COLOURS = ["#56b4e9", "#e69f00", "#cc79a7", "#f0e442", "#009e73", "#d55e00"];
const DASHES = [[], [7, 3], [2, 2.5], [9, 2.5, 2, 2.5], [4, 2], [12, 3]];
const HALO = "rgb(16 20 24 / .75)";
const SAID = { area: "px", "equivalent diameter": "px across", circularity: "circular", "intensity mean": "mean intensity" };

/** Objects as a viewer draws them: a path each, with its stroke. */
export function traced({ objects, width, height }) {
  const classes = [...new Set(objects.map(({ of }) => of))].sort();
  return { width, height, objects: objects.map((each) => {
    const path = new Path2D(), place = classes.indexOf(each.of);
    for (const ring of each.pieces.flat()) {
      ring.forEach(([x, y], at) => (at ? path.lineTo(x, y) : path.moveTo(x, y)));
      path.closePath();
    }
    return { ...each, path, colour: COLOURS[place % COLOURS.length], dashes: DASHES[place % DASHES.length] };
  }) };
}

/** Draw outlines over a picture whose corner lies at ``left``, ``top`` and of which a pixel has ``zoom`` points. */
export function draw(context, traced, left, top, zoom, ratio, marked) {
  context.save();
  context.setTransform(zoom, 0, 0, zoom, left, top);
  context.lineJoin = "round";
  for (const [width, colour] of [[3.2, () => HALO], [1.6, (each) => each.colour]]) {
    for (const each of traced.objects) {
      context.lineWidth = ((each === marked ? width + 1.4 : width) * ratio) / zoom;
      context.strokeStyle = colour(each);
      context.setLineDash(width > 2 ? [] : each.dashes.map((dash) => (dash * ratio) / zoom));
      context.stroke(each.path);
    }
  }
  context.restore();
}

/** The object at a place of the image, the smallest where one lies in another. */
export function objectAt(context, traced, x, y) {
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  const held = traced.objects.filter(({ path }) => context.isPointInPath(path, x, y, "evenodd"));
  context.restore();
  return held.sort((a, b) => a.measures.area - b.measures.area)[0] ?? null;
}

/** What is said of an object where a pointer rests on it. */
export function told({ number: which, of, measures }) {
  const said = Object.entries(SAID).filter(([name]) => name in measures).map(([name, unit]) => (unit === "circular" ? `circularity ${number(measures[name])}` : `${number(measures[name])} ${unit}`));
  return [`${of || "object"} ${which}`, ...said].join(" · ");
}

export const inWords = ({ objects }) => (objects.length === 1 ? "1 object" : `${objects.length} objects`);

/** The answer: how many, of which class, how large. */
export function answer(found) {
  const parts = document.createDocumentFragment(), { objects } = found;
  parts.append(make("div", "block", make("p", "headline", inWords(found)), make("p", "under", `In an image of ${found.width} × ${found.height} pixels.`)));
  const classes = [...new Set(objects.map(({ of }) => of))].sort();
  if (objects.length) {
    const rows = classes.map((of) => {
      const areas = objects.filter((each) => each.of === of).map(({ measures }) => measures.area).sort((a, b) => a - b);
      const at = (share) => number(areas[Math.min(areas.length - 1, Math.floor(share * areas.length))]);
      return make("tr", "", make("th", "", of || "objects"), make("td", "", areas.length), make("td", "", at(0.5)), make("td", "", `${at(0.025)} – ${at(0.975)}`));
    });
    const head = make("tr", "", ...["", "Number", "Median area, px", "95 % lie between"].map((word) => make("th", "", word)));
    parts.append(make("div", "block", make("h3", "", "What was outlined"), make("table", "reliable sized", make("thead", "", head), make("tbody", "", ...rows))));
  }
  if (found.facts.length) parts.append(make("div", "block", make("h3", "", "On its test part"), make("ul", "facts", ...found.facts.map((line) => make("li", "", line.charAt(0).toUpperCase() + line.slice(1))))));
  return parts;
}
