"use strict";
// Another threshold on the stored curve: counts are exact at each stop, everything else follows from them.
(function () {
  const box = document.getElementById("try");
  const all = JSON.parse(box.dataset.sliders);
  const at = (name) => box.querySelector("[data-of='" + name + "']");
  const set = (name, text) => { at(name).textContent = text; };
  const range = at("range"), choice = at("question"), prevalence = at("prevalence");
  let held = all[0];

  const percent = (part, whole) => (whole > 0 ? shown(100 * part / whole) : "–");
  const shown = (value) => value.toFixed(1) + "\u00a0%";
  const place = (stop) => [100 * stop[2] / held.negatives, 100 - 100 * stop[1] / held.positives];

  function put(name, stop) {
    const [x, y] = place(stop);
    at(name).setAttribute("cx", x);
    at(name).setAttribute("cy", y);
  }

  function there(sensitivity, specificity) {
    const share = Number(prevalence.value) / 100;
    at("there").hidden = !(share > 0 && share < 1);
    const found = sensitivity * share, alarms = (1 - specificity) * (1 - share);
    const cleared = specificity * (1 - share), missed = (1 - sensitivity) * share;
    return [percent(found, found + alarms), percent(cleared, cleared + missed)];
  }

  function show() {
    const stop = held.stops[Number(range.value)], [threshold, hits, alarms] = stop;
    const missed = held.positives - hits, cleared = held.negatives - alarms;
    const studies = Number(range.value) === held.study;
    const name = threshold === "" ? "nobody is flagged" : "a score of " + threshold + " or more";
    put("moved", stop);
    for (const [key, value] of [["hits", hits], ["missed", missed], ["alarms", alarms], ["cleared", cleared]]) {
      set(key, value.toLocaleString("en"));
    }
    set("sensitivity", percent(hits, held.positives));
    set("specificity", percent(cleared, held.negatives));
    set("ppv", percent(hits, hits + alarms));
    set("npv", percent(cleared, cleared + missed));
    const [ppv, npv] = there(hits / held.positives, cleared / held.negatives);
    set("ppv-there", ppv);
    set("npv-there", npv);
    set("threshold", name);
    set("whose", studies ? "This is the study’s point, " + held.point + "."
      : "This is not the study’s point: it is chosen here by looking at the test part, and what it shows is too good to be reported.");
    box.classList.toggle("own", !studies);
    range.setAttribute("aria-valuetext", name + (studies ? ", the study’s point" : "") + ": sensitivity " +
      percent(hits, held.positives) + ", specificity " + percent(cleared, held.negatives));
  }

  function open(index) {
    held = all[index];
    range.max = held.stops.length - 1;
    range.value = held.at;
    at("line").setAttribute("points", held.stops.map((stop) => place(stop).join(",")).join(" "));
    at("study").style.display = held.study === null ? "none" : "";
    if (held.study !== null) put("study", held.stops[held.study]);
    for (const name of box.querySelectorAll("[data-name]")) name.textContent = held.name;
    set("here", percent(held.positives, held.positives + held.negatives));
    show();
  }

  at("controls").hidden = false;
  range.addEventListener("input", show);
  prevalence.addEventListener("input", show);
  if (choice) choice.addEventListener("change", () => open(Number(choice.value)));
  at("back").addEventListener("click", () => { range.value = held.at; show(); });
  open(0);
})();
