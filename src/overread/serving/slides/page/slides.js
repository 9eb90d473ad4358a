// The slides of a run: choose one, look at it at any depth, with the heat map, what was found, and what people outlined.

import { make, percent } from "./answer.js";
import { legend } from "./colours.js";
import { Deep, inMicrons, magnification, scaleBar } from "./deep.js";
import { at, dialogs, facts, isAway, listen, problem, put, quiet, watch } from "./frame.js";
import { get, text } from "./server.js";

const MOST = 300; // lesions in a list
const AROUND = 600; // microns around a lesion that is gone to

const state = { about: null, run: null, all: [], shown: null, slide: null, items: new Map(), pointer: null, threshold: 0.5 };
const deep = new Deep(at("deep"), at("marks"), { told, failed });

// -- the list of slides -----------------------------------------------------------------------------------------------------

async function start() {
  quiet();
  state.about = await get("about");
  at("to-report").hidden = !state.about.report;
  at("to-card").hidden = !state.about.model_card;
  state.run = await get("slides");
  state.all = state.run.slides;
  at("task").textContent = state.run.positive ? `looked at for: ${state.run.positive}` : "";
  for (const part of [...new Set(state.all.map((each) => each.part))]) at("part").append(option(part, PARTS[part] ?? part));
  at("order").querySelector("[value=score]").disabled = state.all.every(({ score }) => score === null);
  listed();
  const first = chosen().find(({ missing }) => !missing) ?? chosen()[0];
  if (first) await show(first);
  else at("slide-words").textContent = "This run has no slides to look at.";
}
const PARTS = { test: "test", tuning: "tuning", new: "new slides" };

function option(value, words) {
  const made = make("option", "", words);
  made.value = value;
  return made;
}

function chosen() {
  const part = at("part").value, order = at("order").value, found = state.all.filter((each) => !part || each.part === part);
  if (order === "score") found.sort((a, b) => (b.score ?? -1) - (a.score ?? -1));
  if (order === "name") found.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  return found;
}

function listed() {
  const found = chosen();
  at("count").textContent = found.length;
  state.items.clear();
  put("slides", ...found.map((each) => {
    const what = each.missing ? "not where it was" : [each.score === null ? "" : each.score.toFixed(3), each.label, part(each)].filter(Boolean).join(" · ");
    const button = make("button", "", small(each), make("span", "who", each.name), make("span", each.missing ? "what failed" : "what", what));
    Object.assign(button, { type: "button", title: each.name });
    button.addEventListener("click", () => show(each));
    state.items.set(each.key, button);
    return make("li", "", button);
  }));
  current();
}
const part = (each) => (at("part").value ? "" : PARTS[each.part] ?? each.part);

/** The slide in one tile, where that is offered: asked for when it comes into sight. */
function small(each) {
  if (each.missing) return make("span", "none");
  const image = make("img");
  Object.assign(image, { alt: "", loading: "lazy", src: `tile?slide=${each.key}&layer=slide&level=0&column=0&row=0` });
  image.addEventListener("error", () => image.replaceWith(make("span", "none")), { once: true });
  return image;
}

function current() {
  for (const [key, button] of state.items) {
    button.removeAttribute("aria-current");
    if (key === state.shown?.key) button.setAttribute("aria-current", "true");
  }
}

// -- one slide ------------------------------------------------------------------------------------------------------------------

async function show(each) {
  Object.assign(state, { shown: each, slide: null });
  quiet();
  current();
  state.items.get(each.key)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  at("slide-title").textContent = each.name;
  at("slide-words").textContent = "";
  deep.close();
  for (const id of ["lesions", "people-list", "slide-facts", "slide-notes", "skipped-list"]) put(id);
  at("lesions-words").textContent = "";
  busy("Opening …");
  try {
    const slide = await get(`slide?slide=${each.key}`);
    if (state.shown !== each) return;
    state.slide = slide;
    busy("");
    opened(slide); // which may have something to wait for of its own
  } catch (error) {
    if (state.shown !== each) return;
    busy("");
    trouble(error, () => show(each));
  }
}

function opened(slide) {
  const called = slide.score === null ? "" : `score ${slide.score.toFixed(3)}`, over = state.run.threshold !== null && slide.score !== null ? (slide.score >= state.run.threshold ? "called positive" : "called negative") : "";
  at("slide-words").textContent = [PARTS[slide.part] ?? slide.part, slide.label && `label ${slide.label}`, called, over].filter(Boolean).join(" · ");
  state.threshold = slide.threshold ?? 0.5;
  const heat = slide.layers.some(({ name }) => name === "heat-map");
  at("heat").disabled = !heat;
  at("threshold-said").textContent = heat
    ? `${slide.threshold === null ? "No threshold was chosen on tuning slides; it begins at 0.5." : `The threshold of tuning slides is ${slide.threshold.toFixed(3)}.`} A square is ${inMicrons(slide.cell)} wide; from afar it shows the highest of those it covers.`
    : "There is no heat map of this slide.";
  at("outlined").hidden = !slide.outlines.length;
  facts("slide-facts", [["Size", `${inMicrons(slide.width)} × ${inMicrons(slide.height)}`], ["Finest pixel", `${+slide.mpp.toPrecision(4)} µm${slide.objective ? `, objective ${slide.objective}×` : ""}`]]);
  put("slide-notes", ...slide.facts.map((fact) => make("li", "", fact)));
  at("facts-box").hidden = false;
  magnifications(slide);
  people(slide);
  deep.least = state.threshold;
  deep.open(slide);
  setThreshold(state.threshold);
  if (at("skipped-on").checked) skipped();
}

/** What was not looked at: asked for once a slide, since its mask takes a moment. */
async function skipped() {
  const { slide } = state;
  if (!slide || deep.layer("skipped")) return;
  busy("Finding what was skipped …");
  try {
    const found = await get(`skipped?slide=${slide.key}`);
    if (state.slide !== slide) return;
    put("skipped-list", ...found.skipped.map(({ what, share, colour }) => {
      const box = make("span");
      box.style.backgroundColor = `rgb(${colour.join(" ")})`;
      return make("li", "", box, `${what} ${percent(share)}`);
    }));
    deep.add(found.layer);
  } catch (error) {
    if (state.slide === slide) trouble(error);
  } finally { if (state.slide === slide) busy(""); }
}

function magnifications(slide) {
  const finest = 2 * magnification(slide.mpp);
  put("magnify", ...[1.25, 5, 10, 20, 40].filter((each) => each <= finest).map((each) => {
    const button = make("button", "", `${each}×`);
    Object.assign(button, { type: "button", title: `${10 / each} µm a pixel` });
    button.addEventListener("click", () => deep.magnify(10 / each));
    return button;
  }));
}

// -- lesions --------------------------------------------------------------------------------------------------------------------

function lesions() {
  const { slide } = state;
  if (!slide) return;
  const reached = deep.lesions, shown = reached.slice(0, MOST);
  at("lesions-words").textContent = !slide.lesions.length ? (at("heat").disabled ? "Nothing was looked for on this slide." : "None was found.")
    : `${reached.length === slide.lesions.length ? reached.length : `${reached.length} of ${slide.lesions.length}`} reach ${deep.least.toFixed(3)}, highest score first${shown.length < reached.length ? `; the first ${MOST} are listed` : ""}.`;
  for (const id of ["previous", "next"]) at(id).disabled = !reached.length;
  put("lesions", ...shown.map((each) => {
    const area = each.area === null ? "" : each.area < 0.1 ? `, ${Math.round(1e6 * each.area).toLocaleString("en")} µm²` : `, ${+each.area.toPrecision(2)} mm²`, truth = each.outlined === null || !deep.shown.people ? "" : each.outlined ? ", on an outlined lesion" : ", on no outlined lesion";
    const button = make("button", "", make("span", "number", `${each.number}`), make("span", "what", each.score === null ? "no score" : each.score.toFixed(3), make("small", "", `x ${Math.round(each.x).toLocaleString("en")} µm, y ${Math.round(each.y).toLocaleString("en")} µm${area}${truth}`)));
    button.type = "button";
    button.addEventListener("click", () => to(each));
    each.item = button;
    return make("li", "", button);
  }));
  if (deep.now && !reached.includes(deep.now)) deep.mark(null);
  marked();
}

function to(lesion) {
  deep.mark(lesion);
  deep.goTo(lesion.x, lesion.y, AROUND);
  marked();
  lesion.item?.scrollIntoView({ block: "nearest" });
  say(`Lesion ${lesion.number}, score ${lesion.score === null ? "unknown" : lesion.score.toFixed(3)}.`);
}

function marked() {
  for (const { item } of state.slide?.lesions ?? []) item?.removeAttribute("aria-current");
  deep.now?.item?.setAttribute("aria-current", "true");
}

function step(by) {
  const all = deep.lesions, now = all.indexOf(deep.now);
  if (all.length) to(all[now < 0 ? (by > 0 ? 0 : all.length - 1) : (now + by + all.length) % all.length]);
}

function people(slide) {
  at("people").hidden = !slide.outlines.length;
  at("people-count").textContent = `(${slide.outlines.length})`;
  put("people-list", ...slide.outlines.slice(0, MOST).map((each, number) => {
    const { x, y, side } = middle(each.rings[0] ?? [[0, 0]]);
    const button = make("button", "", make("span", "number", `${number + 1}`), make("span", "what", each.group || "outline", make("small", "", `${each.longest === null ? "" : inMicrons(Math.round(each.longest))}${each.excluded ? ", not judged" : ""}`)));
    button.type = "button";
    button.addEventListener("click", () => { deep.goTo(x, y, Math.max(AROUND / 2, 1.4 * side)); say(`Outline ${number + 1}.`); });
    return make("li", "", button);
  }));
}

function middle(ring) {
  const [left, right] = ends(ring.map(([x]) => x)), [top, bottom] = ends(ring.map(([, y]) => y));
  return { x: (left + right) / 2, y: (top + bottom) / 2, side: Math.max(right - left, bottom - top) };
}
const ends = (all) => all.reduce(([low, high], each) => [Math.min(low, each), Math.max(high, each)], [Infinity, -Infinity]);

// -- the view -------------------------------------------------------------------------------------------------------------------

function told() {
  const { mpp, slide } = deep, place = state.pointer && deep.placeOf(state.pointer.clientX, state.pointer.clientY);
  at("scale-bar").hidden = !deep.ready;
  if (!deep.ready || !mpp) { at("stage-words").textContent = ""; return; }
  const bar = scaleBar(mpp);
  at("scale-words").textContent = bar.words;
  at("scale-line").style.width = `${bar.pixels.toFixed(1)}px`;
  const where = place && `x ${Math.round(place.x).toLocaleString("en")} µm, y ${Math.round(place.y).toLocaleString("en")} µm`;
  const times = magnification(mpp);
  at("stage-words").textContent = [`${times.toPrecision(times < 1 ? 2 : 3)}×`, `${+mpp.toPrecision(3)} µm a pixel`, where].filter(Boolean).join(" · ");
  at("stage").setAttribute("aria-label", `Slide ${slide.name}`);
}

function setOpacity(value) {
  at("opacity").value = value;
  at("opacity-words").textContent = `${at("opacity").value} %`;
  deep.setOpacity(at("opacity").value / 100);
}

let later = 0;
function setThreshold(value, wait = 0) {
  at("threshold").value = Math.round(1000 * value);
  at("threshold-words").textContent = value.toFixed(3);
  clearTimeout(later);
  const done = () => { deep.setLeast(value); lesions(); };
  if (wait) later = setTimeout(done, wait);
  else done();
}

function flip(id, name) {
  if (name) at(id).checked = !at(id).checked;
  const layer = { "heat-on": "heat-map", "found-on": "found", "outlined-on": "people", "skipped-on": "skipped" }[id];
  deep.show(layer, at(id).checked);
  if (id === "skipped-on") { at("skipped-list").hidden = !at(id).checked; if (at(id).checked) skipped(); }
  if (id === "outlined-on") lesions();
}

// -- what is said ---------------------------------------------------------------------------------------------------------------

function say(words) { at("said").textContent = words; }
function busy(words) {
  at("stage-wait").textContent = words;
  at("stage-wait").hidden = !words;
}

function trouble(error, again) {
  problem("Not shown. ", error, again);
  if (isAway(error) && again) watch(again);
}

/** A tile did not come: say once why, in the server's words. */
async function failed(url) {
  const { shown } = state;
  if (at("trouble").firstChild || !shown) return;
  try {
    await text(url);
  } catch (error) { if (state.shown === shown && !at("trouble").firstChild) trouble(error, () => show(shown)); }
}

// -- about, keys, token ------------------------------------------------------------------------------------------------------------

function about() {
  at("about").showModal();
  if (!state.about) return;
  const { task, outcomes, version } = state.about, { run } = state;
  facts("facts", [["Asked", task], ["Answers", outcomes.join(", ")], ["Slides", `${state.all.length}, of which ${state.all.filter(({ missing }) => missing).length} are not where they were`],
    ["Threshold", run?.threshold === null || !run ? "none was frozen" : `a score of ${run.threshold.toFixed(3)}, frozen on tuning slides`], ["Made with", `overread ${version}`], ...(run?.facts ?? []).map((fact) => ["Note", fact])]);
}

const neighbour = (by) => {
  const all = chosen(), to = all[all.indexOf(state.shown) + by];
  if (to) show(to);
};
const KEYS = [
  ["← ↑ → ↓", "move, with Shift further", {}],
  ["+ −", "zoom", { "+": () => deep.zoomBy(1.5), "=": () => deep.zoomBy(1.5), "-": () => deep.zoomBy(1 / 1.5) }],
  ["0", "all of the slide", { 0: () => deep.whole() }],
  ["N, P", "next lesion, previous lesion", { n: () => step(1), p: () => step(-1) }],
  ["J, K", "next slide, slide before", { j: () => neighbour(1), k: () => neighbour(-1) }],
  ["H", "heat map on or off", { h: () => { if (!at("heat").disabled) flip("heat-on", true); } }],
  [", .", "less, more of the heat map", { ",": () => setOpacity(Number(at("opacity").value) - 10), ".": () => setOpacity(Number(at("opacity").value) + 10) }],
  ["[ ]", "lower, higher threshold", { "[": () => setThreshold(Math.max(0, deep.least - 0.05)), "]": () => setThreshold(Math.min(1, deep.least + 0.05)) }],
  ["L", "lesions found on or off", { l: () => flip("found-on", true) }],
  ["O", "outlines by people on or off", { o: () => flip("outlined-on", true) }],
  ["S", "what was skipped on or off", { s: () => flip("skipped-on", true) }],
  ["?", "these keys", { "?": () => at("keys").showModal() }],
  ["Wheel, or two fingers", "zoom", {}], ["Esc", "closes what is open", {}],
];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Arrows move the slide where it has the focus; elsewhere they are those of the page. */
function moved(event) {
  const arrow = ARROWS[event.key];
  if (!arrow || !event.target.closest?.("#stage")) return Boolean(arrow);
  event.preventDefault();
  deep.move(...arrow.map((way) => way * (event.shiftKey ? 240 : 60)));
  return true;
}

// -- wiring ----------------------------------------------------------------------------------------------------------------------

function wire() {
  const on = (id, what, does) => at(id).addEventListener(what, does);
  on("part", "change", listed);
  on("order", "change", listed);
  dialogs(about);
  listen(KEYS, moved);
  on("zoom-in", "click", () => deep.zoomBy(1.5));
  on("zoom-out", "click", () => deep.zoomBy(1 / 1.5));
  on("whole", "click", () => deep.whole());
  on("next", "click", () => step(1));
  on("previous", "click", () => step(-1));
  for (const id of ["heat-on", "found-on", "outlined-on", "skipped-on"]) on(id, "change", () => flip(id));
  on("opacity", "input", () => setOpacity(at("opacity").value));
  on("threshold", "input", () => setThreshold(at("threshold").value / 1000, 150));
  on("stage", "pointermove", (event) => { state.pointer = event; told(); });
  on("stage", "pointerleave", () => { state.pointer = null; told(); });
  deep.viewer.addHandler("canvas-click", ({ quick, originalEvent }) => {
    const lesion = quick && deep.lesionAt(originalEvent.clientX, originalEvent.clientY);
    if (lesion) { deep.mark(lesion); marked(); lesion.item?.scrollIntoView({ block: "nearest" }); }
  });
  const canvas = at("deep").querySelector(".openseadragon-canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The slide");
  canvas.setAttribute("aria-describedby", "stage-keys");
  legend(at("scale").querySelector("canvas"), false);
  setOpacity(55);
}

wire();
start().catch((error) => trouble(error, () => start().catch((again) => trouble(again, start))));
