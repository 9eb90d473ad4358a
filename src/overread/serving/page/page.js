// The reading room: files in, answers out. Cases live in this tab's memory only; the server keeps nothing.

import { answer, inWords, make, methodList, number, percent, verdict } from "./answer.js";
import { isZip, unzipped } from "./archive.js";
import { legend } from "./colours.js";
import { at, dialogs, facts, isAway, listen, problem, put, quiet, watch } from "./frame.js";
import { neighbours } from "./neighbours.js";
import * as outlines from "./outlines.js";
import { rendered, section } from "./markdown.js";
import { decoded, pictures, thumbnail } from "./picture.js";
import { Problem, form, get, lines, post, text } from "./server.js";
import { Viewer } from "./viewer.js";

const BATCH = 50; // files of a request: progress, and a stop that costs little

const state = { about: null, cases: [], shown: null, work: null, unfit: new Set(), number: 0 };
const viewer = new Viewer(at("canvas"), told);

// -- files in -----------------------------------------------------------------------------------------------------------

async function take(files) {
  if (!files.length) return;
  quiet();
  try {
    await ready();
    await (together() ? readOne(files) : readEach(await unpacked(files)));
  } catch (error) { trouble(error, () => take(files)); }
}

const together = () => document.querySelector("input[name=together]:checked").value === "one";

async function unpacked(files) {
  const { files: most, upload_megabytes: megabytes } = state.about.limits;
  const found = [];
  for (const file of files) found.push(...((await isZip(file)) ? await unzipped(file, most, 8e6 * megabytes) : [file]));
  return found;
}

function added(name, files) {
  state.number += 1;
  const kept = { number: state.number, name, files, opinion: null, problem: "", pictures: null, maps: new Map(), near: null, item: null };
  state.cases.push(kept);
  list(kept);
  return kept;
}

async function readOne(files) {
  const kept = added(files.length > 1 ? `${files[0].name} and ${files.length - 1} more` : files[0].name, files);
  say(`Reading ${kept.name} …`);
  show(kept);
  try {
    kept.opinion = await waiting(() => post(state.about.outlines ? "outline" : "predict", form(files)));
  } catch (error) { kept.problem = error.message; throw error; } finally { update(kept); }
  say(spoken(kept));
  if (window.matchMedia("(max-width: 52rem)").matches) at("result").scrollIntoView();
}

async function readEach(files) {
  if (files.length === 1) return readOne(files);
  const kept = files.map((file) => added(file.name, [file])), stop = new AbortController();
  state.work = stop;
  at("batch").hidden = false;
  try {
    for (let from = 0; from < kept.length; from += BATCH) await readSome(kept, from, stop.signal);
    say(`Read ${count(kept)}. ${summary(kept)}`);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    say(`Stopped. ${summary(kept)}`);
  } finally {
    at("batch").hidden = true;
    state.work = null;
    for (const each of kept) if (!each.opinion && !each.problem) { each.problem = "Not read"; update(each); }
  }
}

async function readSome(kept, from, signal) {
  if (state.about.outlines) return outlineSome(kept, from, signal);
  const part = kept.slice(from, from + BATCH);
  const ask = async () => {
    for await (const line of lines("batch", form(part.flatMap(({ files }) => files)), signal)) {
      const each = part[line.number - 1];
      each.opinion = line.opinion;
      each.problem = line.opinion ? "" : line.what;
      update(each);
      progress(from + line.number, kept.length);
      if (!state.shown) show(each);
    }
  };
  progress(from, kept.length);
  await waiting(ask, signal);
}

/** Outline the objects of some images, one after the other. */
async function outlineSome(kept, from, signal) {
  for (const [at, each] of kept.slice(from, from + BATCH).entries()) {
    progress(from + at, kept.length);
    try {
      each.opinion = await waiting(() => post("outline", form(each.files), signal), signal);
    } catch (error) {
      if (error.name === "AbortError" || !(error instanceof Problem) || error.status === 0) throw error;
      each.problem = error.message;
    }
    update(each);
    if (!state.shown) show(each);
  }
  progress(Math.min(from + BATCH, kept.length), kept.length);
}

/** Do what is asked; where the server is busy or asks to wait, wait, say so, and ask again. */
async function waiting(ask, signal) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Problem) || ![429, 503].includes(error.status) || !error.wait) throw error;
      say(`${error.message} Asking again in ${error.wait} s.`);
      await new Promise((done, stopped) => {
        const timer = setTimeout(done, 1000 * error.wait);
        signal?.addEventListener("abort", () => { clearTimeout(timer); stopped(new DOMException("stopped", "AbortError")); }, { once: true });
      });
    }
  }
}

function progress(done, of) {
  Object.assign(at("progress"), { max: of, value: done });
  at("progress-words").textContent = `Read ${done} of ${of}`;
}

const count = (kept) => (kept.length === 1 ? "1 case" : `${kept.length} cases`);
function summary(kept) {
  const doubt = kept.filter(({ opinion }) => opinion && opinion.trusted === false).length, failed = kept.filter(({ problem, opinion }) => problem && !opinion).length;
  return [doubt && `${doubt} not to be relied on.`, failed && `${failed} could not be read.`].filter(Boolean).join(" ");
}
const saidOf = (opinion) => (opinion.objects ? outlines.inWords(opinion) : inWords(opinion));
function spoken({ name, opinion }) {
  if (opinion.objects) return `${name}: ${outlines.inWords(opinion)}.`;
  return `${name}: ${inWords(opinion)}. ${opinion.trusted ? "Nothing found that speaks against it." : `Not to be relied on: ${opinion.warnings[0] ?? "see the answer"}`}`;
}

// -- what is said -------------------------------------------------------------------------------------------------------

function say(words) { at("said").textContent = words; }

function trouble(error, again = null) {
  say("");
  problem("Not read. ", error, isAway(error) ? again : null);
  if (isAway(error)) watch(() => say("The server answers again."));
}

// -- the cases of this session ------------------------------------------------------------------------------------------

function list(kept) {
  const button = make("button", "", make("canvas"), make("span", "who", kept.name), make("span", "what", "waiting"));
  button.type = "button";
  button.title = kept.name;
  button.addEventListener("click", () => show(kept, true));
  kept.item = make("li", "", button);
  at("cases").append(kept.item);
  document.body.dataset.state = "read";
  at("session").hidden = false;
  at("count").textContent = state.cases.length > 1 ? state.cases.length : "";
  thumbnails.push(kept);
  drawThumbnails();
}

const thumbnails = [];
async function drawThumbnails() {
  if (state.drawing) return;
  state.drawing = true;
  for (let kept = thumbnails.shift(); kept; kept = thumbnails.shift()) await small(kept).catch(() => {});
  state.drawing = false;
}
async function small(kept) {
  const canvas = kept.item.querySelector("canvas");
  if (kept.pictures) thumbnail(kept.pictures[0], canvas);
  else thumbnail(await decoded(kept.files[0]), canvas);
}

function update(kept) {
  const what = kept.item.querySelector(".what"), doubt = kept.opinion?.trusted === false;
  what.textContent = kept.opinion ? `${doubt ? "⚠ " : ""}${saidOf(kept.opinion)}` : kept.problem || "waiting";
  what.classList.toggle("doubt", Boolean(doubt));
  what.classList.toggle("failed", Boolean(kept.problem && !kept.opinion));
  if (state.shown === kept) { answered(kept); beyond(kept); }
}

function clear() {
  state.work?.abort();
  viewer.show(null);
  Object.assign(state, { cases: [], shown: null });
  thumbnails.length = 0;
  for (const id of ["cases", "answer", "neighbours"]) put(id);
  for (const id of ["session", "result"]) at(id).hidden = true;
  document.body.dataset.state = "empty";
  at("files").value = "";
  quiet();
  say("Cleared.");
  at("files").focus();
}

// -- one case -----------------------------------------------------------------------------------------------------------

function show(kept, focus = false) {
  state.shown = kept;
  for (const each of state.cases) each.item.firstChild.toggleAttribute("aria-current", each === kept);
  kept.item.firstChild.setAttribute("aria-current", "true");
  kept.item.scrollIntoView({ block: "nearest", inline: "nearest" });
  at("case-title").textContent = kept.name;
  at("result").hidden = false;
  at("map").hidden = at("near").hidden = true;
  put("verdict");
  answered(kept);
  looked(kept);
  beyond(kept);
  if (focus) at("result").focus();
}

function answered(kept) {
  at("answer").setAttribute("aria-busy", String(!kept.opinion && !kept.problem));
  put("answer", kept.opinion ? (kept.opinion.objects ? outlines.answer(kept.opinion) : answer(kept.opinion)) : make("p", kept.problem ? "headline" : "soft", kept.problem ? "No answer" : "Reading …"), ...(kept.problem && !kept.opinion ? [make("p", "", kept.problem)] : []));
}

/** The picture itself. */
async function looked(kept) {
  kept.view = 0;
  viewer.show(null);
  put("which");
  if (!kept.pictures) {
    try {
      kept.pictures = await pictures(kept.files);
      small(kept);
    } catch (error) {
      if (state.shown === kept) at("stage-words").textContent = error instanceof Problem && error.status === 404 ? "This server does not show files of this kind." : `The picture cannot be shown: ${error.message}`;
      return;
    }
  }
  if (state.shown === kept) pick(kept, kept.view);
}

/** What comes after the probability: where it looked, then what is alike. */
async function beyond(kept) {
  if (!kept.opinion || state.shown !== kept) return;
  if (kept.opinion.objects) { outline(kept); return; }
  if (state.about.methods.length) {
    at("map").hidden = false;
    target(kept);
    await explain(kept);
  }
  if (state.about.neighbours) await alike(kept);
}

/** Lay the outlines of a case over its picture. */
function outline(kept) {
  at("outlined").hidden = false;
  if (!kept.opinion?.objects || !kept.pictures || viewer.picture !== kept.pictures[0]) return;
  kept.traced ??= outlines.traced(kept.opinion);
  viewer.outline(kept.traced);
}

/** What can be looked at of a case: its pictures, and what of them the network saw, each with the map of it. */
function views(kept) {
  const own = kept.pictures ?? [], panels = shownMap(kept)?.panels ?? [];
  const name = (each, at, of) => each.name || (of > 1 ? `image ${at + 1}` : "");
  const covered = state.about.whole && own.length === panels.length && own.every(({ slices }) => slices === 1);
  if (covered) return own.map((picture, at) => ({ name: name(picture, at, own.length) || "Picture", picture, panel: panels[at] }));
  return [...panels.map((panel, at) => ({ name: `Map${name(panel, at, panels.length) ? `: ${name(panel, at, panels.length)}` : ""}`, picture: panel.picture, panel })),
    ...own.map((picture, at) => ({ name: name(picture, at, own.length) || "Picture", picture, panel: null }))];
}

/** Show one of the views of a case. */
function pick(kept, chosen) {
  const all = views(kept), map = shownMap(kept);
  kept.view = Math.max(0, Math.min(chosen, all.length - 1));
  at("which").hidden = all.length < 2;
  put("which", ...all.map(({ name }, each) => {
    const button = make("button", "", name);
    button.type = "button";
    button.setAttribute("aria-pressed", String(each === kept.view));
    button.addEventListener("click", () => { pick(kept, each); at("which").children[each].focus(); });
    return button;
  }));
  const view = all[kept.view];
  viewer.show(view?.picture ?? null, { keep: viewer.picture === view?.picture });
  if (view?.panel && !map.nothing) viewer.lay(view.panel, map.method.signed);
  if (state.about?.outlines) outline(kept);
}

const shownMap = (kept) => kept.maps.get(keyOf(kept)) ?? null;
const keyOf = (kept) => `${at("method").value}\n${kept.target ?? ""}`;

function target(kept) {
  kept.target ??= defaultTarget(kept);
  put("target", ...state.about.outcomes.map((name) => option(name, name, name === kept.target)));
}
function defaultTarget({ opinion }) {
  const { outcomes } = state.about, most = opinion.answers.reduce((best, each) => ((each.value ?? -1) > (best.value ?? -1) ? each : best), opinion.answers[0]);
  return [opinion.called, most.name, outcomes[0]].find((name) => outcomes.includes(name));
}
function option(value, words, chosen) {
  const made = make("option", "", words);
  Object.assign(made, { value, selected: chosen });
  return made;
}

async function explain(kept) {
  const key = keyOf(kept), method = at("method").value;
  if (!kept.maps.has(key)) {
    busy(`Making the map: ${at("method").selectedOptions[0].textContent} …`);
    try {
      const map = await waiting(() => post("explain", form(kept.files, { method, target: kept.target })));
      for (const panel of map.panels) panel.picture = await decoded(panel.image, panel.name);
      kept.maps.set(key, map);
    } catch (error) {
      if (error.code === "method" && another(method)) return explain(kept);
      if (state.shown === kept && key === keyOf(kept)) { put("verdict", make("p", "failed", `No map: ${error.message}`)); viewer.lay(null); }
      return undefined;
    } finally { busy(""); }
  }
  if (state.shown !== kept || key !== keyOf(kept)) return undefined;
  const map = kept.maps.get(key);
  put("verdict", verdict(map));
  signs(map);
  pick(kept, kept.view ?? 0);
  return undefined;
}

/** A method that this network has nothing for is set aside once, and the next one taken, unless it was asked for. */
function another(method) {
  state.unfit.add(method);
  const choice = at("method"), asked = choice.dataset.asked === method;
  const set = [...choice.options].find(({ value }) => value === method);
  set.disabled = true;
  set.textContent += " (not for this network)";
  const next = [...choice.options].find(({ disabled }) => !disabled);
  if (asked || !next) return false;
  choice.value = next.value;
  return true;
}

function signs(map) {
  const [least, bar, most] = at("scale").children, strongest = Math.max(...map.panels.map((panel) => panel.strongest ?? 0));
  legend(bar, map.method.signed);
  least.textContent = map.method.signed ? `against ${map.target}` : "0";
  most.textContent = map.method.signed ? `for ${map.target}` : number(strongest);
  at("scale").hidden = map.nothing;
}

function busy(words) {
  at("stage-wait").textContent = words;
  at("stage-wait").hidden = !words;
}

async function alike(kept) {
  try {
    kept.near ??= await waiting(() => post("similar", form(kept.files)));
  } catch (error) {
    if (state.shown === kept) { at("near").hidden = false; put("neighbours", make("p", "", error.message)); }
    return;
  }
  if (state.shown !== kept) return;
  at("near").hidden = false;
  put("neighbours", neighbours(kept.near, kept.opinion.called || kept.target, (near) => beside(kept, near)));
}

/** A known case beside this one, large. */
function beside(kept, near) {
  at("neighbour-title").textContent = `Known case: ${near.label}`;
  const own = at("neighbour-own");
  own.hidden = !kept.pictures;
  if (kept.pictures) thumbnail(kept.pictures[0], own, 480);
  const image = near.thumbnail ? make("img") : make("p", "none", "no picture");
  if (near.thumbnail) Object.assign(image, { src: near.thumbnail, alt: `Known case: ${near.label}` });
  put("neighbour-other", image, make("figcaption", "", "Known case"));
  facts("neighbour-facts", [["Label", near.label], ["Source", near.source || "not known"], ["Distance", number(near.distance)]]);
  at("neighbour").showModal();
}

// -- the view -----------------------------------------------------------------------------------------------------------

function told() {
  const { picture, map, marked } = viewer;
  at("stage-words").textContent = picture ? [ marked ? outlines.told(marked) : "",
    `${picture.width} × ${picture.height}${picture.slices > 1 ? ` × ${picture.slices}` : ""}`, `${Math.round(100 * viewer.zoom)} %`,
    `level ${number(viewer.level)}, window ${number(viewer.width)}${picture.unit ? ` ${picture.unit}` : ""}`, viewer.inverted ? "inverted" : "",
    picture.shrunk > 1 ? `shown smaller by ${picture.shrunk.toFixed(1)}` : "", map && !shownOwn() ? "as the network saw it" : "",
  ].filter(Boolean).join(" · ") : "";
  at("canvas").setAttribute("aria-label", picture ? `Image of ${state.shown?.name ?? "the case"}${map ? ", with the map over it" : ""}` : "No image yet");
  for (const [id, value] of [["level", viewer.level], ["width", viewer.width]]) if (document.activeElement !== at(id)) at(id).value = picture ? number(value) : "";
  at("slices").hidden = !(picture?.slices > 1);
  if (picture?.slices > 1) {
    Object.assign(at("slice"), { max: picture.slices, value: viewer.slice + 1 });
    at("slice-words").textContent = `${viewer.slice + 1} of ${picture.slices}`;
  }
  at("invert").setAttribute("aria-pressed", String(viewer.inverted));
  for (const tool of ["pan", "window"]) at(`tool-${tool}`).setAttribute("aria-pressed", String(viewer.tool === tool));
}
const shownOwn = () => state.shown?.pictures?.includes(viewer.picture);

function opacity(value) {
  at("opacity").value = value;
  at("opacity-words").textContent = `${at("opacity").value} %`;
  viewer.setOpacity(at("opacity").value / 100);
}

// -- about, keys, token -------------------------------------------------------------------------------------------------

async function ready() {
  if (state.about) return;
  state.about = await get("about");
  const { task, methods, report, model_card: card, images_seen_together: seen, volume } = state.about;
  const { outcomes } = state.about;
  at("task").textContent = outcomes.length > 1 && outcomes.length <= 12 ? `${task}: ${outcomes.join(", ")}` : task;
  at("to-report").hidden = !report;
  at("to-card").hidden = !card;
  document.querySelector("#ask fieldset").hidden = state.about.outlines; // each image by itself
  document.querySelector(`input[name=together][value=${seen || volume ? "one" : "each"}]`).checked = true;
  put("method", ...methods.map(({ name, title }) => option(name, title, false)));
  put("methods", ...methodList(methods));
}

async function about() {
  at("about").showModal();
  try {
    await ready();
    const { version, task, outcomes, limits, volume, model_card: card } = state.about;
    facts("facts", [["Asked", task], ["Answers", outcomes.join(", ")], ["Sees", volume ? "volumes" : "images"], ["Made with", `overread ${version}`],
      ["Takes", `${limits.upload_megabytes} MB and ${limits.files} files at a time, images of ${limits.megapixels} megapixels, ${limits.images_a_minute || "any number of"} a minute`]]);
    const trained = card ? section(await text("model-card"), "Data") : "";
    const link = make("a", "", "The whole model card (opens in a new tab)");
    Object.assign(link, { href: "model-card", target: "_blank", rel: "noopener" });
    put("trained", ...(card ? [...rendered(trained), link] : [make("p", "", "This run has no model card.")]));
  } catch (error) { put("trained", make("p", "", error.message)); }
}

const step = (by) => {
  const to = state.cases[state.cases.indexOf(state.shown) + by];
  if (to) show(to);
};
const turn = (by) => {
  const { options } = at("method"), open = [...options].filter(({ disabled }) => !disabled), now = open.findIndex(({ selected }) => selected);
  if (!state.shown || !open.length) return;
  at("method").value = open[(now + by + open.length) % open.length].value;
  at("method").dispatchEvent(new Event("change"));
};
const KEYS = [
  ["O", "choose files", { o: () => at("files").click() }],
  ["J, K", "next case, case before", { j: () => step(1), k: () => step(-1) }],
  ["R", "to the result", { r: () => at("result").focus() }],
  ["V", "to the picture", { v: () => at("canvas").focus() }],
  [", .", "less, more of the map", { ",": () => opacity(Number(at("opacity").value) - 10), ".": () => opacity(Number(at("opacity").value) + 10) }],
  ["U", "outlines on or off", { u: () => { at("outlined-on").checked = !at("outlined-on").checked; viewer.setOutlined(at("outlined-on").checked); } }],
  ["M, N", "next method, method before", { m: () => turn(1), n: () => turn(-1) }],
  ["W, P", "dragging changes the window, moves the picture", { w: () => viewer.setTool("window"), p: () => viewer.setTool("pan") }],
  ["I", "invert", { i: () => viewer.setInverted(!viewer.inverted) }],
  ["0", "reset the view", { 0: () => viewer.reset() }],
  ["?", "these keys", { "?": () => at("keys").showModal() }],
  ["+ −", "in the picture: zoom", {}], ["← ↑ → ↓", "in the picture: move, with Shift further", {}], ["Page up, Page down", "in the picture: slices, as the wheel does", {}],
  ["Shift or right button and drag", "window: sideways its width, up and down its level", {}], ["Ctrl and wheel", "zoom", {}], ["Esc", "closes what is open", {}],
];

// -- wiring ---------------------------------------------------------------------------------------------------------------

/** The files of a drop, those in folders too. */
async function dropped(data) {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...data.files];
  const files = [];
  const walk = async (entry) => {
    if (entry.isFile) { if (!entry.name.startsWith(".")) files.push(await new Promise((done, failed) => entry.file(done, failed))); return; }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return;
      for (const each of some) await walk(each);
    }
  };
  for (const entry of entries) await walk(entry);
  return files;
}

function wire() {
  const on = (id, what, does) => at(id).addEventListener(what, does);
  on("ask", "submit", (event) => event.preventDefault());
  on("files", "change", () => { const files = [...at("files").files]; at("files").value = ""; take(files); });
  for (const what of ["dragenter", "dragover"]) document.addEventListener(what, (event) => { event.preventDefault(); document.body.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  document.addEventListener("drop", async (event) => { event.preventDefault(); document.body.classList.remove("over"); take(await dropped(event.dataTransfer)); });
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) { event.preventDefault(); take([...event.clipboardData.files]); } });
  on("clear", "click", clear);
  on("stop", "click", () => state.work?.abort());
  dialogs(about);
  listen(KEYS);
  on("tool-pan", "click", () => viewer.setTool("pan"));
  on("tool-window", "click", () => viewer.setTool("window"));
  on("zoom-in", "click", () => viewer.zoomBy(1.25));
  on("zoom-out", "click", () => viewer.zoomBy(0.8));
  on("invert", "click", () => viewer.setInverted(!viewer.inverted));
  on("reset", "click", () => viewer.reset());
  on("slice", "input", () => viewer.setSlice(at("slice").valueAsNumber - 1));
  for (const id of ["level", "width"]) on(id, "change", () => {
    const [level, width] = ["level", "width"].map((each) => at(each).valueAsNumber);
    if (Number.isFinite(level) && width > 0) viewer.setWindow(level, width);
  });
  on("outlined-on", "change", () => viewer.setOutlined(at("outlined-on").checked));
  on("opacity", "input", () => opacity(at("opacity").value));
  on("method", "change", () => { at("method").dataset.asked = at("method").value; if (state.shown) explain(state.shown); });
  on("target", "change", () => { if (state.shown) { state.shown.target = at("target").value; explain(state.shown); } });
  opacity(60);
}

wire();
ready().catch((error) => trouble(error, () => ready().catch(trouble)));
