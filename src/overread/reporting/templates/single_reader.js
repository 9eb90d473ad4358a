"use strict";
// What an accuracy against fallible labels can mean: the closed forms of overread.stats.agreement.imperfect_truth.
(function () {
  const box = document.getElementById("truth");
  const start = JSON.parse(box.dataset.start);
  const at = (name) => box.querySelector("[data-of='" + name + "']");
  const inputs = [...box.querySelectorAll("[data-in]")];

  const majority = (right, readers, alike) => {
    let found = 0, ways = 1;
    const choose = (n, k) => { ways = 1; for (let i = 1; i <= k; i++) ways = ways * (n - k + i) / i; return ways; };
    for (let votes = (readers + 1) / 2; votes <= readers; votes++) {
      let chance = choose(readers, readers - votes);
      for (let place = 0; place < readers; place++) {
        const hit = place < votes, base = hit ? right : 1 - right, before = hit ? place : place - votes;
        chance *= (base * (1 - alike) + before * alike) / (1 - alike + place * alike);
      }
      found += chance;
    }
    return Math.min(1, found);
  };
  const agreement = (error, other, shared) => 1 - error - other + 2 * (error * other + shared * (Math.min(error, other) - error * other));
  const shown = (error, labels, prevalence, shared) =>
    prevalence * agreement(error, 1 - labels.sensitivity, shared) + (1 - prevalence) * agreement(error, 1 - labels.specificity, shared);

  function fitting(measured, labels, prevalence, shared) {
    const knots = [...new Set([0, 1 - labels.sensitivity, 1 - labels.specificity, 1])].sort((a, b) => a - b);
    const values = knots.map((error) => shown(error, labels, prevalence, shared));
    const found = [];
    for (let i = 0; i + 1 < knots.length; i++) {
      const here = values[i], there = values[i + 1];
      if (Math.abs(there - here) < 1e-15) {
        if (Math.abs(here - measured) < 1e-12) found.push(knots[i], knots[i + 1]);
        continue;
      }
      const share = (measured - here) / (there - here);
      if (share >= -1e-12 && share <= 1 + 1e-12) found.push(knots[i] + Math.min(Math.max(share, 0), 1) * (knots[i + 1] - knots[i]));
    }
    found.sort((a, b) => a - b);
    return found.filter((error, i) => !i || error - found[i - 1] > 1e-9).map((error) => 1 - error);
  }

  function wilson(share, cases) {
    const z = start.z, scale = 1 + z * z / cases, centre = (share + z * z / (2 * cases)) / scale;
    const half = z * Math.sqrt(share * (1 - share) / cases + z * z / (4 * cases * cases)) / scale;
    return [share <= 0 ? 0 : Math.max(0, centre - half), share >= 1 ? 1 : Math.min(1, centre + half)];
  }

  function bounds(right, least, most) {
    const wrong = 1 - right, few = 1 - most, many = 1 - least;
    const worst = Math.min(Math.max(1 - wrong, few), many), closest = Math.min(Math.max(wrong, few), many);
    return [Math.max(0, 1 - Math.min(wrong + worst, 2 - wrong - worst)), 1 - Math.abs(wrong - closest)];
  }

  function gap(first, second, right) {
    const wrong = 1 - right, apart = 1 - first, other = 1 - second;
    const turned = (x) => [Math.max(0, wrong + x - 1), Math.min(wrong, x)];
    const ours = turned(apart), theirs = turned(other);
    return [other - apart + 2 * (ours[0] - theirs[1]), other - apart + 2 * (ours[1] - theirs[0])];
  }

  function needed(reader, prevalence, accuracy, alike) {
    for (let readers = 1; readers <= start.most; readers += 2) {
      const right = prevalence * majority(reader.sensitivity, readers, alike) + (1 - prevalence) * majority(reader.specificity, readers, alike);
      if (right > accuracy) return readers;
    }
    return null;
  }

  const percent = (value) => (100 * value).toFixed(1) + "\u00a0%";
  const either = (values) => (values.length ? values.map(percent).join(" or ") : "no such model shows it");
  const points = (share) => (100 * share).toFixed(1).replace("-", "\u2212");
  const put = (name, text, value) => { at(name).textContent = text; at(name).dataset.value = JSON.stringify(value); };
  const range = (pair) => pair.map(percent).join(" to ");

  function show() {
    const given = {};
    for (const input of inputs) {
      const value = Math.min(Math.max(Number(input.value) || 0, Number(input.min)), Number(input.max));
      given[input.dataset.in] = value / Number(input.dataset.scale);
      at("told-" + input.dataset.in).textContent = input.dataset.scale === "100" ? value + "\u00a0%" : String(value);
    }
    given.panel = 2 * Math.floor(given.panel / 2) + 1;
    at("told-panel").textContent = given.panel === 1 ? "one reader" : "majority of " + given.panel;
    const reader = { sensitivity: given.sensitivity, specificity: given.specificity }, share = given.prevalence;
    const labels = { sensitivity: majority(reader.sensitivity, given.panel, given.alike), specificity: majority(reader.specificity, given.panel, given.alike) };
    const right = share * labels.sensitivity + (1 - share) * labels.specificity;
    put("right", percent(right), right);
    const rows = [["first", given.accuracy], ["second", given.other]].map(([name, measured]) => {
      const [least, most] = wilson(measured, given.cases);
      const fits = bounds(right, measured, measured), sampled = bounds(right, Math.min(least, measured), Math.max(most, measured));
      put(name + "-measured", percent(measured), measured);
      put(name + "-fits", range(fits), fits);
      put(name + "-sampled", range(sampled), sampled);
      const alone = fitting(measured, labels, share, 0), shared = fitting(measured, labels, share, given.shared);
      put(name + "-independent", either(alone), alone);
      put(name + "-shared", either(shared), shared);
      const repeated = right < 1 ? Math.max(0, measured - right) / (1 - right) : 0;
      put(name + "-repeated", (100 * repeated).toFixed(0) + "\u00a0%", repeated);
      return { name, measured, fits, sampled };
    });
    const between = gap(given.accuracy, given.other, right), certain = between[0] > 1e-12 || between[1] < -1e-12;
    put("gap", points(between[0]) + " to " + points(between[1]) + " points", between);
    const apart = Math.abs(given.accuracy - given.other), settles = apart ? needed(reader, share, 1 - apart / 2, given.alike) : null;
    put("settles", settles === null ? (apart ? "none of up to " + start.most : "–") : String(settles), settles);
    at("order").textContent = certain ? "The one that showed more is the better one, whatever errors are shared."
      : "Either may be the better one: these labels cannot tell.";
    draw(rows, right);
  }

  function draw(rows, right) {
    const floor = Math.max(0, Math.floor(20 * Math.min(...rows.map((row) => row.sampled[0]), right) - 0.2) / 20);
    const x = (value) => 100 * (value - floor) / (1 - floor);
    for (const row of rows) {
      for (const [kind, pair] of [["fits", row.fits], ["sampled", row.sampled]]) {
        const bar = at("bar-" + row.name + "-" + kind);
        bar.setAttribute("x", x(pair[0]));
        bar.setAttribute("width", Math.max(0.4, x(pair[1]) - x(pair[0])));
      }
      at("dot-" + row.name).setAttribute("cx", x(row.measured));
    }
    at("ceiling").setAttribute("d", "M" + x(right) + " 0V34");
    for (let i = 0; i <= 5; i++) at("tick-" + i).textContent = Number((100 * (floor + i * (1 - floor) / 5)).toFixed(1));
    at("drawing").setAttribute("aria-label", rows.map((row) => "the " + row.name + " model is right in " + range(row.fits)).join("; "));
  }

  at("controls").hidden = false;
  at("drawing").style.display = "";
  for (const input of inputs) input.addEventListener("input", show);
  at("back").addEventListener("click", () => { for (const input of inputs) input.value = start.values[input.dataset.in]; show(); });
  show();
})();
