// A slide at any depth: OpenSeadragon with layers of tiles from this server, and over it lesions and outlines on a canvas.
// Places are microns from the upper left corner of the slide; a magnification of 10 stands for 1 micron a pixel.

/* global OpenSeadragon */

const COLOURS = { people: "#00592b", left: "#5b6770", found: "#111418", now: "#b3261e" };
const RING = 13; // pixels of the mark of a lesion, at least
const STEPS = 1000; // of a threshold between 0 and 1, as the server counts them

// OpenSeadragon adds a rule for touch screens in an inline style, which our policy forbids, unless it finds its mark: an element
// of that name without a meaning.
const mark = document.createElementNS("urn:overread", "style");
mark.setAttribute("data-openseadragon-mobile-css", "true");
document.head.append(mark);

export const magnification = (mpp) => 10 / mpp;

export class Deep {
  /** `told` hears of every change of the view, `failed` of a tile that did not come. */
  constructor(element, marks, { told, failed }) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.marks = marks;
    this.told = told;
    this.slide = null;
    this.shown = { "heat-map": true, skipped: false, found: true, people: true };
    this.opacity = 0.55;
    this.least = 0.5;
    this.now = null;
    this.viewer = new OpenSeadragon.Viewer({
      element, drawer: "canvas", prefixUrl: "", showNavigationControl: false, showNavigator: true, navigatorPosition: "TOP_RIGHT", navigatorAutoFade: false,
      navigatorSizeRatio: 0.17, maxZoomPixelRatio: 4, minZoomImageRatio: 0.7, visibilityRatio: 0.4, animationTime: still ? 0 : 0.5, blendTime: 0,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true }, gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true },
      imageLoaderLimit: 6, tileRetryMax: 2, tileRetryDelay: 1200, maxImageCacheCount: 256, timeout: 60_000, crossOriginPolicy: false,
    });
    this.viewer.innerTracker.keyDownHandler = null; // keys are the page's
    this.viewer.innerTracker.keyHandler = null;
    for (const event of ["update-viewport", "resize", "open"]) this.viewer.addHandler(event, () => this.#changed());
    this.viewer.addHandler("tile-load-failed", ({ tile }) => failed(tile.getUrl()));
    new ResizeObserver(() => this.#changed()).observe(marks);
  }

  /** Open a slide, as the server describes it. */
  open(slide) {
    this.slide = slide;
    this.now = null;
    this.paths = slide.outlines.map(({ rings }) => tracedOf(rings, slide.width));
    this.viewer.close();
    this.viewer.addOnceHandler("open", () => { for (const name of ["heat-map", "skipped"]) this.#lay(name); });
    this.viewer.open([{ tileSource: this.#source("slide") }]);
  }

  /** Offer a further layer of the slide that is open. */
  add(layer) {
    if (!this.layer(layer.name)) this.slide.layers.push(layer);
    this.#lay(layer.name);
  }

  close() {
    this.slide = null;
    this.viewer.close();
    this.#changed();
  }

  layer(name) { return this.slide?.layers.find((each) => each.name === name) ?? null; }

  show(name, on) {
    this.shown[name] = on;
    if (name === "heat-map" || (name === "skipped" && (!on || this.layer(name)))) this.#lay(name);
    this.#changed();
  }

  setOpacity(share) {
    this.opacity = share;
    this.#held("heat-map")?.setOpacity(share);
  }

  /** The probability from which the heat map is shown. */
  setLeast(least) {
    this.least = least;
    this.#lay("heat-map");
    this.#changed();
  }

  // -- where it looks ------------------------------------------------------------------------------------------------------

  get ready() { return Boolean(this.slide && this.viewer.world.getItemCount()); }

  /** Microns of a pixel of the screen. */
  get mpp() {
    const across = this.#frame().scale;
    return this.slide && across ? this.slide.width / across : 0;
  }

  whole() { if (this.ready) this.viewer.viewport.goHome(); }
  zoomBy(by) { if (this.ready) this.viewer.viewport.zoomBy(by).applyConstraints(); }
  move(x, y) { if (this.ready) this.viewer.viewport.panBy(this.viewer.viewport.deltaPointsFromPixels(new OpenSeadragon.Point(x, y))).applyConstraints(); }

  /** Look at so many microns a pixel. */
  magnify(mpp) {
    if (!this.ready) return;
    const { viewport } = this.viewer;
    viewport.zoomTo(this.slide.width / mpp / viewport.getContainerSize().x).applyConstraints();
  }

  /** Go to a place so that `side` microns around it are seen. */
  goTo(x, y, side) {
    if (!this.ready) return;
    const w = this.slide.width;
    this.viewer.viewport.fitBounds(new OpenSeadragon.Rect((x - side / 2) / w, (y - side / 2) / w, side / w, side / w));
  }

  /** The place of the slide under a point of the screen, null beside it. */
  placeOf(clientX, clientY) {
    if (!this.ready) return null;
    const box = this.marks.getBoundingClientRect(), { left, top, scale } = this.#frame(), { width, height } = this.slide;
    const x = ((clientX - box.left - left) / scale) * width, y = ((clientY - box.top - top) / scale) * width;
    return x >= 0 && y >= 0 && x < width && y < height ? { x, y } : null;
  }

  /** The lesion marked under a point of the screen, null where there is none. */
  lesionAt(clientX, clientY) {
    if (!this.ready || !this.shown.found) return null;
    const box = this.marks.getBoundingClientRect(), { left, top, scale } = this.#frame(), w = this.slide.width;
    const away = ({ x, y }) => Math.hypot(left + (x / w) * scale - (clientX - box.left), top + (y / w) * scale - (clientY - box.top));
    const near = this.lesions.filter((each) => away(each) <= RING + 3).sort((a, b) => away(a) - away(b));
    return near[0] ?? null;
  }

  /** Lesions that reach the threshold. */
  get lesions() { return this.slide ? this.slide.lesions.filter(({ score }) => score === null || score >= this.least) : []; }

  mark(lesion) {
    this.now = lesion;
    this.#changed();
  }

  // -- layers ----------------------------------------------------------------------------------------------------------------

  #source(name) {
    const { key } = this.slide, layer = this.layer(name), least = name === "heat-map" ? `&least=${Math.round(this.least * STEPS)}` : "";
    const source = new OpenSeadragon.TileSource({ width: layer.width, height: layer.height, tileSize: layer.tile, tileOverlap: 0, minLevel: layer.least, maxLevel: layer.most });
    source.getTileUrl = (level, column, row) => `tile?slide=${key}&layer=${name}&level=${level}&column=${column}&row=${row}${least}`;
    source.hasTransparency = () => name !== "slide";
    return source;
  }

  #held(name) {
    const { world } = this.viewer;
    for (let at = 0; at < world.getItemCount(); at += 1) if (world.getItemAt(at).overreadLayer === name) return world.getItemAt(at);
    return null;
  }

  /** Lay a layer over the slide, in place of what was there of it, or take it away. */
  #lay(name) {
    if (!this.ready) return;
    const old = this.#held(name), layer = this.layer(name), { slide } = this;
    if (!layer || !this.shown[name]) { if (old) this.viewer.world.removeItem(old); return; }
    const wanted = `${slide.key} ${name} ${this.least}`;
    (this.asked ??= {})[name] = wanted;
    this.viewer.addTiledImage({
      tileSource: this.#source(name), x: layer.left / slide.width, y: layer.top / slide.width, width: (layer.right - layer.left) / slide.width,
      opacity: name === "heat-map" ? this.opacity : 1,
      success: ({ item }) => {
        item.overreadLayer = name;
        if (name === "heat-map") item.setOpacity(this.opacity); // which may have changed meanwhile
        if (this.slide !== slide || this.asked[name] !== wanted || !this.shown[name]) { this.viewer.world.removeItem(item); return; }
        if (old && this.viewer.world.getIndexOfItem(old) >= 0) this.viewer.world.removeItem(old);
      },
    });
  }

  // -- what is drawn over it ---------------------------------------------------------------------------------------------------

  /** Where the slide's upper left corner lies on the screen, and how many pixels wide it is. */
  #frame() {
    const { viewport } = this.viewer;
    if (!viewport) return { left: 0, top: 0, scale: 0 };
    const from = viewport.viewportToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    const to = viewport.viewportToViewerElementCoordinates(new OpenSeadragon.Point(1, 0));
    return { left: from.x, top: from.y, scale: to.x - from.x };
  }

  #changed() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => { this.#draw(); this.told(this); });
  }

  #draw() {
    const { marks } = this, ratio = window.devicePixelRatio || 1, context = marks.getContext("2d");
    const width = Math.round(marks.clientWidth * ratio), height = Math.round(marks.clientHeight * ratio);
    if (marks.width !== width || marks.height !== height) Object.assign(marks, { width, height });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.ready) return;
    const frame = this.#frame();
    if (this.shown.people) this.#drawOutlines(context, frame, ratio);
    if (this.shown.found) this.#drawLesions(context, frame, ratio);
  }

  #drawOutlines(context, { left, top, scale }, ratio) {
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * left, ratio * top);
    for (const [at, path] of this.paths.entries()) {
      const { excluded } = this.slide.outlines[at];
      context.setLineDash(excluded ? [6 / scale, 5 / scale] : []);
      for (const [wide, colour] of [[4.5, "#fff"], [2, excluded ? COLOURS.left : COLOURS.people]]) {
        context.lineWidth = wide / scale;
        context.strokeStyle = colour;
        context.stroke(path);
      }
    }
    context.setLineDash([]);
  }

  #drawLesions(context, { left, top, scale }, ratio) {
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "600 12px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    const all = [...this.lesions].reverse(); // the highest score on top
    for (const lesion of all) {
      const x = left + (lesion.x / this.slide.width) * scale, y = top + (lesion.y / this.slide.width) * scale, now = lesion === this.now;
      if (x < -40 || y < -40 || x > this.marks.clientWidth + 40 || y > this.marks.clientHeight + 40) continue;
      for (const [wide, colour] of [[now ? 6 : 4.5, "#fff"], [now ? 3 : 2, now ? COLOURS.now : COLOURS.found]]) {
        context.beginPath();
        context.arc(x, y, RING, 0, 2 * Math.PI);
        context.lineWidth = wide;
        context.strokeStyle = colour;
        context.stroke();
      }
      context.lineWidth = 3.5;
      context.strokeStyle = "#fff";
      context.strokeText(lesion.number, x, y - RING - 9);
      context.fillStyle = now ? COLOURS.now : COLOURS.found;
      context.fillText(lesion.number, x, y - RING - 9);
    }
  }
}

/** Rings in microns as a path in widths of the slide. */
function tracedOf(rings, width) {
  const path = new Path2D();
  for (const ring of rings) {
    for (const [at, [x, y]] of ring.entries()) path[at ? "lineTo" : "moveTo"](x / width, y / width);
    path.closePath();
  }
  return path;
}

/** A round length that takes at most `most` pixels, in microns, and how wide it is. */
export function scaleBar(mpp, most = 140) {
  const limit = mpp * most, power = 10 ** Math.floor(Math.log10(limit));
  const length = [5, 2, 1].map((by) => by * power).find((each) => each <= limit) ?? power;
  return { length, pixels: length / mpp, words: inMicrons(length) };
}
export const inMicrons = (length) => (length >= 1000 ? `${+(length / 1000).toPrecision(4)} mm` : `${+length.toPrecision(4)} µm`);
