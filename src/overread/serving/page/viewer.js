// The picture: zoom, move, window, slices, invert, and a map over it. Draws on one canvas; knows nothing of cases or servers.

import { coloured } from "./colours.js";
import { draw as drawOutlines, objectAt } from "./outlines.js";
import { drawn } from "./picture.js";

const STEP = 1.25, LARGEST = 64;

export class Viewer {
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed, picture: null, map: null, outlines: null, outlined: true, marked: null, opacity: 0.6, tool: "pan", touches: new Map() });
    this.reset(false);
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.touches.delete(event.pointerId));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("dblclick", () => this.fit());
  }

  /** Show a picture; its window and place start anew unless it is the same case seen in another way. */
  show(picture, { keep = false } = {}) {
    const same = keep && this.picture && this.picture.slices === picture?.slices;
    this.picture = picture;
    this.map = this.outlines = this.marked = null;
    if (same) this.#rewindow();
    else this.reset(false);
    this.#changed();
  }

  /** Lay a map over the picture: ``{map, width, height}``, or null for none. */
  lay(map, signed = false) {
    this.map = map ? coloured(map, signed) : null;
    this.#changed();
  }

  /** Lay outlined objects over the picture (see outlines.js), or null for none. */
  outline(traced) { this.outlines = traced; this.marked = null; this.#changed(); }
  setOutlined(shown) { this.outlined = shown; this.#changed(); }

  setOpacity(share) { this.opacity = share; this.#changed(); }
  setTool(tool) { this.tool = tool; this.canvas.classList.toggle("window", tool === "window"); this.#changed(); }
  setInverted(inverted) { this.inverted = inverted; this.plane = null; this.#changed(); }
  setWindow(level, width) {
    this.low = level - width / 2;
    this.high = level + width / 2;
    this.plane = null;
    this.#changed();
  }
  setSlice(slice) {
    this.slice = Math.max(0, Math.min((this.picture?.slices ?? 1) - 1, slice));
    this.plane = null;
    this.#changed();
  }
  zoomBy(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.max(0.25, Math.min(LARGEST, this.scale * factor)), real = scale / this.scale;
    const middleX = this.canvas.clientWidth / 2 + this.x, middleY = this.canvas.clientHeight / 2 + this.y;
    this.x += (x - middleX) * (1 - real);
    this.y += (y - middleY) * (1 - real);
    this.scale = scale;
    this.#changed();
  }
  fit() { Object.assign(this, { scale: 1, x: 0, y: 0 }); this.#changed(); }
  reset(tell = true) {
    Object.assign(this, { scale: 1, x: 0, y: 0, inverted: this.picture?.inverted ?? false, slice: Math.floor((this.picture?.slices ?? 1) / 2) });
    this.#rewindow();
    if (tell) this.#changed();
  }

  get level() { return (this.low + this.high) / 2; }
  get width() { return this.high - this.low; }

  draw() {
    const { canvas, picture } = this, ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!picture || !width || !height) return;
    this.plane ??= this.#planeOf();
    const zoom = this.zoom * ratio, wide = picture.width * zoom, high = picture.height * zoom;
    const left = width / 2 + this.x * ratio - wide / 2, top = height / 2 + this.y * ratio - high / 2;
    context.imageSmoothingEnabled = zoom < 4;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.plane, left, top, wide, high);
    if (this.outlines && this.outlined) drawOutlines(context, this.outlines, left, top, wide / this.outlines.width, ratio, this.marked);
    if (!this.map) return;
    context.globalAlpha = this.opacity;
    context.imageSmoothingEnabled = true;
    context.drawImage(this.map, left, top, wide, high);
    context.globalAlpha = 1;
  }

  /** Screen pixels to a pixel of the picture. */
  get zoom() {
    const { clientWidth, clientHeight } = this.canvas, { width = 1, height = 1 } = this.picture ?? {};
    return this.scale * Math.min(clientWidth / width, clientHeight / height);
  }

  #planeOf() {
    const plane = new OffscreenCanvas(this.picture.width, this.picture.height);
    plane.getContext("2d").putImageData(drawn(this.picture, this.slice, this.low, this.high, this.inverted), 0, 0);
    return plane;
  }

  #rewindow() { Object.assign(this, { low: this.picture?.low ?? 0, high: this.picture?.high ?? 255, plane: null }); }
  #changed() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
    this.changed?.(this);
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.touches.set(event.pointerId, { x: event.clientX, y: event.clientY, window: this.tool === "window" || event.button === 2 || event.shiftKey });
  }

  /** Mark the object under the pointer. */
  #hover(event) {
    if (!this.outlines || !this.outlined || !this.picture) return;
    const box = this.canvas.getBoundingClientRect(), zoom = (this.zoom * this.picture.width) / this.outlines.width;
    const x = (event.clientX - box.left - box.width / 2 - this.x) / zoom + this.outlines.width / 2;
    const y = (event.clientY - box.top - box.height / 2 - this.y) / zoom + this.outlines.height / 2;
    const found = objectAt(this.canvas.getContext("2d"), this.outlines, x, y);
    if (found === this.marked) return;
    this.marked = found;
    this.#changed();
  }

  #move(event) {
    const touch = this.touches.get(event.pointerId);
    if (!touch) this.#hover(event);
    if (!touch || !this.picture) return;
    const dx = event.clientX - touch.x, dy = event.clientY - touch.y;
    if (this.touches.size === 2) this.#pinch(event, touch);
    else if (touch.window) {
      const step = (this.picture.high - this.picture.low) / 250;
      this.setWindow(this.level - dy * step, Math.max(step, this.width + dx * step));
    } else {
      this.x += dx;
      this.y += dy;
      this.#changed();
    }
    Object.assign(touch, { x: event.clientX, y: event.clientY });
  }

  #pinch(event, touch) {
    const [other] = [...this.touches].filter(([id]) => id !== event.pointerId).map(([, each]) => each);
    const before = Math.hypot(touch.x - other.x, touch.y - other.y), now = Math.hypot(event.clientX - other.x, event.clientY - other.y);
    const box = this.canvas.getBoundingClientRect();
    if (before > 0) this.zoomBy(now / before, (event.clientX + other.x) / 2 - box.left, (event.clientY + other.y) / 2 - box.top);
  }

  /** Turns slices, or zooms; a page that is only scrolled past the picture is not caught. */
  #wheel(event) {
    const active = document.activeElement === this.canvas || event.ctrlKey;
    if (!this.picture || !active) return;
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    if (this.picture.slices > 1 && !event.ctrlKey) this.setSlice(this.slice + Math.sign(event.deltaY));
    else this.zoomBy(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 80 : 24, shift = (x, y) => { this.x += x; this.y += y; this.#changed(); };
    const done = {
      "+": () => this.zoomBy(STEP), "=": () => this.zoomBy(STEP), "-": () => this.zoomBy(1 / STEP), 0: () => this.reset(),
      ArrowLeft: () => shift(far, 0), ArrowRight: () => shift(-far, 0), ArrowUp: () => shift(0, far), ArrowDown: () => shift(0, -far),
      PageUp: () => this.setSlice(this.slice - 1), PageDown: () => this.setSlice(this.slice + 1),
      i: () => this.setInverted(!this.inverted),
    }[event.key];
    if (!done) return;
    event.preventDefault();
    event.stopPropagation();
    done();
  }
}
