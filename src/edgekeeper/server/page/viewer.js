// Before and after in one canvas: slider, zoom and pan over tiles, and results side by side.

import { levelsOf, tileOf } from "./api.js";

const TILE = 512;
const KEPT = 200; // tiles of one image, 1 MB each when decoded
const MOST = 16; // screen pixels per pixel of the result
const GRIP = 22; // CSS pixels beside the slider's line that grip it

// An image as tiles at every power of two, of which those in sight are fetched.
class Layer {
  constructor(base, view, onLoad) {
    Object.assign(this, { base, view, onLoad, tiles: new Map(), levels: levelsOf(view) });
  }

  tile(level, x, y) {
    const key = `${level}/${x}_${y}`;
    let image = this.tiles.get(key);
    if (!image) {
      image = new Image();
      image.onload = this.onLoad;
      image.src = tileOf(this.base, level, x, y);
    }
    this.tiles.delete(key); // the last used stand last
    this.tiles.set(key, image);
    if (this.tiles.size > KEPT) this.tiles.delete(this.tiles.keys().next().value);
    return image.complete && image.naturalWidth ? image : null;
  }

  // Draw the image into the rectangle, as far as it lies in the box.
  draw(context, rect, box) {
    const wanted = this.levels + Math.ceil(Math.log2(rect.width / this.view.width));
    const level = Math.min(this.levels, Math.max(0, wanted));
    const coarse = Math.min(level, 8);
    context.save();
    context.beginPath();
    context.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    context.clip();
    if (!this.drawLevel(context, rect, level, box)) {
      this.drawLevel(context, rect, coarse, box);
      this.drawLevel(context, rect, level, box);
    }
    context.restore();
  }

  // Returns whether every tile was there.
  drawLevel(context, rect, level, { left, right, top, bottom }) {
    const shrink = 2 ** (this.levels - level);
    const wide = Math.ceil(this.view.width / shrink);
    const high = Math.ceil(this.view.height / shrink);
    const zoom = rect.width / wide;
    const zoomDown = rect.height / high;
    const range = (from, to, start, step, count) => [
      Math.max(0, Math.floor((from - start) / step)),
      Math.min(count - 1, Math.floor((to - start) / step)),
    ];
    const [x0, x1] = range(left, right, rect.x, TILE * zoom, Math.ceil(wide / TILE));
    const [y0, y1] = range(top, bottom, rect.y, TILE * zoomDown, Math.ceil(high / TILE));
    let all = true;
    for (let y = y0; y <= y1; y++) {
      for (let x = x0; x <= x1; x++) {
        const image = this.tile(level, x, y);
        if (!image) { all = false; continue; }
        const [l, t] = [Math.round(rect.x + x * TILE * zoom), Math.round(rect.y + y * TILE * zoomDown)];
        const r = Math.round(rect.x + (x * TILE + image.naturalWidth) * zoom);
        const b = Math.round(rect.y + (y * TILE + image.naturalHeight) * zoomDown);
        context.drawImage(image, l, t, r - l, b - t);
      }
    }
    return all;
  }
}

export class Viewer {
  // onSplit is told where the slider is, from 0 to 1.
  constructor(canvas, onSplit) {
    Object.assign(this, { canvas, onSplit, split: 0.5, pointers: new Map(), panes: [], due: false });
    new ResizeObserver(() => this.refit()).observe(canvas);
    canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.closest("dialog").addEventListener("keydown", (event) => this.onKey(event)); // whatever has the focus
    canvas.addEventListener("dblclick", (event) => this.zoom(2, this.at(event)));
  }

  // before and panes: { base, view, label }; one pane is compared by the slider, more side by side.
  show(before, panes) {
    const layer = ({ base, view, label }) =>
      Object.assign(new Layer(base, view, () => this.draw()), { label });
    const known = new Map([this.before, ...this.panes].filter(Boolean).map((l) => [l.base, l]));
    const made = (given) => known.get(given.base) ?? layer(given);
    const first = this.panes[0];
    this.before = made(before);
    this.panes = panes.map(made);
    this.size = { width: panes[0].view.width, height: panes[0].view.height };
    if (!first || this.isFit || this.shape !== this.size.width / this.size.height) this.fit();
    this.shape = this.size.width / this.size.height;
    this.draw();
  }

  clear() { this.panes = []; this.before = null; }

  // Pixels of a pane and what fits into it; as many columns as show the panes largest.
  get grid() {
    const count = Math.max(1, this.panes.length);
    const { width, height } = this.size;
    const grids = Array.from({ length: count }, (_, n) => {
      const wide = this.canvas.width / (n + 1);
      const high = this.canvas.height / Math.ceil(count / (n + 1));
      return { columns: n + 1, wide, high, fitting: Math.min(wide / width, high / height) };
    });
    return grids.reduce((best, grid) => (grid.fitting > best.fitting ? grid : best));
  }

  // The view: screen pixels per pixel of the result, and the point in the middle, from 0 to 1.
  fit() { this.isFit = true; this.scale = this.grid.fitting; this.x = this.y = 0.5; this.draw(); }
  real() { this.zoom(1 / this.scale); }

  refit() {
    const ratio = window.devicePixelRatio;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (this.panes.length && this.isFit) this.fit();
    this.draw();
  }

  zoom(by, at) {
    const { wide, high, fitting } = this.grid;
    const scale = Math.min(MOST, Math.max(Math.min(fitting, 1), this.scale * by));
    const [dx, dy] = at ? [(at[0] % wide) - wide / 2, (at[1] % high) - high / 2] : [0, 0];
    this.x += (dx / this.scale - dx / scale) / this.size.width;
    this.y += (dy / this.scale - dy / scale) / this.size.height;
    this.scale = scale;
    this.isFit = scale === fitting;
    this.move(0, 0);
  }

  move(dx, dy) {
    const clamp = (value) => Math.min(1, Math.max(0, value));
    this.x = clamp(this.x - dx / this.scale / this.size.width);
    this.y = clamp(this.y - dy / this.scale / this.size.height);
    this.draw();
  }

  setSplit(split) { this.split = Math.min(1, Math.max(0, split)); this.draw(); }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  onWheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 400), this.at(event));
  }

  onDown(event) {
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.at(event);
    const grip = (GRIP * this.canvas.width) / this.canvas.clientWidth;
    const onLine = Math.abs(at[0] - this.split * this.canvas.width) < grip;
    this.slides = this.panes.length === 1 && onLine && !this.pointers.size;
    this.pointers.set(event.pointerId, at);
  }

  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const at = this.at(event);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, at);
    if (this.slides) {
      this.setSplit(at[0] / this.canvas.width);
      this.onSplit(this.split);
      return;
    }
    if (!other) return this.move(at[0] - before[0], at[1] - before[1]);
    this.move((at[0] - before[0]) / 2, (at[1] - before[1]) / 2); // as the middle of both fingers
    const middle = [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2];
    this.zoom(distance(at, other) / Math.max(1, distance(before, other)), middle);
  }

  onKey(event) {
    const step = this.canvas.height / 8;
    const actions = {
      ArrowLeft: () => this.move(step, 0), ArrowRight: () => this.move(-step, 0),
      ArrowUp: () => this.move(0, step), ArrowDown: () => this.move(0, -step),
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5),
      0: () => this.fit(), 1: () => this.real(),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey) return;
    if (event.target.type === "range" && event.key.startsWith("Arrow")) return; // moves the slider
    event.preventDefault();
    actions[event.key]();
  }

  draw() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => { this.due = false; if (this.panes.length) this.paint(); });
  }

  // Where the whole result lies when a box shows its part of it.
  rect({ left, top }, { wide, high }) {
    const [width, height] = [this.size.width * this.scale, this.size.height * this.scale];
    return { x: left + wide / 2 - this.x * width, y: top + high / 2 - this.y * height, width, height };
  }

  paint() {
    const { canvas, panes } = this;
    const context = canvas.getContext("2d");
    const ratio = canvas.width / canvas.clientWidth;
    const { grid } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    const spare = panes.length > 1 && panes.length % grid.columns; // a place for the image itself
    (spare ? [...panes, this.before] : panes).forEach((pane, number) => {
      const [left, top] = [(number % grid.columns) * grid.wide, Math.floor(number / grid.columns) * grid.high];
      const box = { left, top, right: left + grid.wide, bottom: top + grid.high };
      context.imageSmoothingEnabled = this.scale < 6; // then pixels are to be seen
      pane.draw(context, this.rect(box, grid), box);
      if (panes.length > 1) label(context, pane.label, box, ratio);
    });
    context.imageSmoothingEnabled = true;
    if (panes.length > 1) return;
    const line = Math.round(this.split * canvas.width);
    const { height } = canvas;
    context.clearRect(0, 0, line, height);
    const shown = { left: 0, top: 0, right: line, bottom: height };
    this.before.draw(context, this.rect(shown, grid), shown);
    for (const [width, colour] of [[6, "#000"], [3, "#fff"]]) {
      context.fillStyle = colour;
      context.fillRect(line - (width * ratio) / 2, 0, width * ratio, height);
      context.beginPath();
      context.arc(line, height / 2, (9 + width) * ratio, 0, 7);
      context.fill();
    }
  }
}

// Name a pane, in as many lines as its width asks for, and draw its edges.
function label(context, words, { left, top, right, bottom }, ratio) {
  context.font = `${15 * ratio}px system-ui, sans-serif`;
  const room = right - left - 28 * ratio;
  const measure = (line) => context.measureText(line).width;
  const lines = words.split(" ").reduce((found, word) => {
    const longer = [...found.slice(-1), word].join(" ");
    return measure(longer) > room ? [...found, word] : [...found.slice(0, -1), longer];
  }, []);
  const width = Math.min(room, Math.max(...lines.map(measure)));
  context.fillStyle = "#000c";
  context.fillRect(left + 6 * ratio, top + 6 * ratio, width + 16 * ratio, (8 + 20 * lines.length) * ratio);
  context.fillStyle = "#fff";
  lines.forEach((line, n) => context.fillText(line, left + 14 * ratio, top + (26 + 20 * n) * ratio, room));
  context.fillRect(left - ratio, top, 2 * ratio, bottom - top);
  context.fillRect(left, top - ratio, right - left, 2 * ratio);
}

function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}
