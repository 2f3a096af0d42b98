// Layers of marks over the image: fetched when they are first shown, drawn on a canvas that moves with the image.

/** What the legend offers: rows of a source that are of one kind, and how they are drawn. */
export const LAYERS = [
  { id: "stars", group: "Star catalogue", from: "stars", only: "star", name: "stars", color: "#5fd39a", shape: "ellipse" },
  { id: "flagged", group: "Star catalogue", from: "stars", only: "flagged", name: "flagged", color: "#f3e05b", shape: "ellipse" },
  { id: "sky", group: "Star catalogue", from: "stars", only: "sky", name: "places of empty sky", color: "#5be0f3", shape: "ellipse" },
  { id: "psf-used", group: "PSF candidates", from: "psf_stars", only: "used", name: "used", color: "#ff6b6b", shape: "diamond" },
  { id: "psf-reserved", group: "PSF candidates", from: "psf_stars", only: "reserved", name: "reserved", color: "#ffb36b", shape: "diamond" },
  { id: "psf-rejected", group: "PSF candidates", from: "psf_stars", only: "rejected", name: "rejected", color: "#c9c9d9", shape: "cross-out" },
  { id: "references", group: "Astrometry", from: "astrometry", name: "references", color: "#ffa53d", shape: "plus", at: "reference" },
  { id: "residuals", group: "Astrometry", from: "astrometry", name: "residuals", color: "#ffffff", shape: "vector" },
  { id: "photometry", group: "Photometry", from: "photometry", name: "references", color: "#ff7af0", shape: "square", at: "reference" },
];

const LEAST_RADIUS = 5; // CSS px, of ellipses
const LEAST_SIGN = 8; // CSS px, of other marks
/** Marks shrink where the image does, so that they leave it to be seen: part of their least size, in tenths. */
const shrunk = (zoom) => Math.round(10 * Math.min(Math.max(1.4 * Math.sqrt(zoom), 0.6), 1)) / 10;
const LINE = 1.3; // CSS px
const IN_PATH = 100; // a path of tens of thousands of marks takes seconds
const LONG_VECTOR = 45; // CSS px of the longest tenth when all is seen

export class Marks {
  #columns = new Map(); // name of the source -> promise of its columns
  #ready = new Map();
  #shown = new Set();

  constructor(canvas, frame, base) {
    Object.assign(this, { canvas, frame, base, selected: null });
    this.context = canvas.getContext("2d");
  }

  load(name) {
    if (!this.#columns.has(name)) {
      const fetched = fetch(`${this.base}/layers/${name}`).then(async (answer) => {
        if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? "It is not there.");
        const columns = await answer.json();
        this.#ready.set(name, columns);
        return columns;
      });
      this.#columns.set(name, fetched);
    }
    return this.#columns.get(name);
  }

  count(layer) {
    const columns = this.#ready.get(layer.from);
    if (!columns) return null;
    return layer.only ? columns.kind.filter((kind) => kind === layer.only).length : columns.id.length;
  }

  async show(layer, isShown) {
    if (isShown) {
      await this.load(layer.from);
      this.#shown.add(layer);
    } else this.#shown.delete(layer);
  }

  get vectorScale() {
    const columns = this.#ready.get("astrometry");
    if (!columns?.dx) return null;
    this.lengths ??= columns.dx.map((dx, i) => Math.hypot(dx, columns.dy[i])).filter(Number.isFinite).sort((a, b) => a - b);
    return this.lengths[Math.floor(0.9 * (this.lengths.length - 1))] || null;
  }

  /** The star nearest to a pixel within some pixels. */
  nearest({ x, y }, within) {
    const columns = this.#ready.get("stars");
    if (!columns) return null;
    let best = null, least = within * within;
    for (let i = 0; i < columns.id.length; i++) {
      if (columns.kind[i] === "sky" || columns.x[i] === null) continue;
      const distance = (columns.x[i] - x) ** 2 + (columns.y[i] - y) ** 2;
      if (distance <= least) [best, least] = [i, distance];
    }
    return best === null ? null : { id: columns.id[best], x: columns.x[best], y: columns.y[best] };
  }

  /** @param view {toScreen(x, y) of parent pixels -> CSS px, zoom: CSS px a pixel, box: pixels that are seen} */
  draw(view) {
    const { canvas, context } = this, ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.drawn = 0;
    for (const layer of this.#shown) this.#drawLayer(layer, view);
    if (this.selected) this.#ring(view);
    this.#furniture(view, width, height);
  }

  #drawLayer(layer, view) {
    const columns = this.#ready.get(layer.from), { context } = this;
    const xs = layer.at === "reference" ? columns.rx : columns.x, ys = layer.at === "reference" ? columns.ry : columns.y;
    const { box } = view, margin = 30 / view.zoom;
    const factor = layer.shape === "vector" ? this.factor(view) : 0;
    const stamp = layer.shape === "vector" ? null : this.#stamp(layer, shrunk(view.zoom));
    const pencil = () => { context.lineWidth = layer.shape === "vector" ? 1.6 : LINE; context.strokeStyle = layer.color; };
    pencil();
    let inPath = 0;
    for (let i = 0; i < xs.length; i++) {
      const x = xs[i], y = ys[i];
      if (x === null || y === null || (layer.only && columns.kind[i] !== layer.only)) continue;
      if (x < box.left - margin || x > box.right + margin || y < box.low - margin || y > box.high + margin) continue;
      this.drawn++;
      const at = view.toScreen(x, y);
      if (stamp && this.#isSmall(layer.shape, view, columns, i)) {
        context.drawImage(stamp, at.x - stamp.half, at.y - stamp.half, 2 * stamp.half, 2 * stamp.half);
        continue;
      }
      if (inPath === 0) context.beginPath();
      this.#path(layer.shape, view.zoom, columns, i, at, factor);
      if (++inPath === IN_PATH) {
        context.stroke();
        inPath = 0;
      }
    }
    if (inPath) context.stroke();
  }

  #isSmall(shape, { zoom }, columns, i) {
    const part = shrunk(zoom);
    return shape === "ellipse" ? (columns.a[i] ?? 0) * zoom <= LEAST_RADIUS * part : 6 * zoom <= LEAST_SIGN * part;
  }

  /** The mark of a layer at its least size as a picture: tens of thousands of them are drawn in a moment. */
  #stamp(layer, part) {
    const ratio = devicePixelRatio || 1;
    if (layer.stamp?.ratio === ratio && layer.stamp.part === part) return layer.stamp;
    const stamp = document.createElement("canvas"), half = 1.3 * LEAST_SIGN + 2;
    stamp.width = stamp.height = Math.ceil(2 * half * ratio);
    const { context } = this;
    this.context = stamp.getContext("2d");
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.lineWidth = LINE;
    this.context.strokeStyle = layer.color;
    this.context.beginPath();
    this.#path(layer.shape, 0, { a: [0], b: [0], angle: [0] }, 0, { x: half, y: half }, 0, part);
    this.context.stroke();
    this.context = context;
    return (layer.stamp = Object.assign(stamp, { half, ratio, part }));
  }

  #path(shape, zoom, columns, i, { x, y }, factor, part = shrunk(zoom)) {
    const { context } = this;
    if (shape === "ellipse") {
      const least = LEAST_RADIUS * part, [a, b] = [columns.a[i], columns.b[i]].map((axis) => Math.max((axis ?? 0) * zoom, least));
      const angle = -(columns.angle[i] ?? 0);
      context.moveTo(x + a * Math.cos(angle), y + a * Math.sin(angle));
      context.ellipse(x, y, a, b, angle, 0, 2 * Math.PI);
      return;
    }
    const r = Math.max(LEAST_SIGN * part, 6 * zoom);
    if (shape === "vector") {
      const dx = columns.dx?.[i], dy = columns.dy?.[i];
      if (dx === null || dx === undefined) return;
      context.moveTo(x, y);
      context.lineTo(x + factor * dx * zoom, y - factor * dy * zoom);
      context.rect(x - 1, y - 1, 2, 2);
    } else if (shape === "square") context.rect(x - r, y - r, 2 * r, 2 * r);
    else if (shape === "diamond") {
      context.moveTo(x, y - 1.3 * r);
      for (const [u, v] of [[1.3, 0], [0, 1.3], [-1.3, 0]]) context.lineTo(x + u * r, y + v * r);
      context.closePath();
    } else if (shape === "plus") {
      context.moveTo(x - r, y); context.lineTo(x - 0.3 * r, y); context.moveTo(x + 0.3 * r, y); context.lineTo(x + r, y);
      context.moveTo(x, y - r); context.lineTo(x, y - 0.3 * r); context.moveTo(x, y + 0.3 * r); context.lineTo(x, y + r);
    } else {
      context.moveTo(x - 0.7 * r, y - 0.7 * r); context.lineTo(x + 0.7 * r, y + 0.7 * r);
      context.moveTo(x - 0.7 * r, y + 0.7 * r); context.lineTo(x + 0.7 * r, y - 0.7 * r);
    }
  }

  /** How many times their length residuals are drawn: two digits that make long ones of a fixed length on the screen. */
  factor(view) {
    const long = this.vectorScale;
    return long ? Number((LONG_VECTOR / (long * view.zoom)).toPrecision(2)) : 1;
  }

  #ring(view) {
    const { context } = this, { x, y } = view.toScreen(this.selected.x, this.selected.y), r = Math.max(14, 12 * view.zoom);
    context.strokeStyle = "#ffffff";
    context.lineWidth = 2;
    context.beginPath();
    for (const [u, v] of [[1, 0], [0, 1], [-1, 0], [0, -1]]) {
      context.moveTo(x + u * r, y + v * r);
      context.lineTo(x + u * (r + 12), y + v * (r + 12));
    }
    context.moveTo(x + r, y);
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.stroke();
  }

  #furniture(view, width, height) {
    const { context } = this, { box } = view;
    const middle = { x: (box.left + box.right) / 2, y: (box.low + box.high) / 2 };
    const compass = this.frame.compass(middle.x, middle.y);
    context.font = "12px system-ui, sans-serif";
    context.lineWidth = 1.6;
    const write = (text, x, y, align) => {
      context.textAlign = align;
      context.lineWidth = 3;
      context.strokeStyle = "#000c";
      context.strokeText(text, x, y);
      context.fillStyle = "#fff";
      context.fillText(text, x, y);
    };
    const line = (points) => {
      for (const [color, thick] of [["#000c", 4], ["#fff", 1.6]]) {
        context.beginPath();
        points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
        context.strokeStyle = color;
        context.lineWidth = thick;
        context.stroke();
      }
    };
    this.#scaleBar(view, compass, { width, height }, write, line);
    if (!compass) return;
    const origin = { x: width - 62, y: width < 500 ? 104 : 62 }; // beside the buttons, or below them
    for (const [name, { x, y }] of [["N", compass.north], ["E", compass.east]]) {
      const tip = [origin.x + 32 * x, origin.y + 32 * y];
      line([[origin.x, origin.y], tip]);
      write(name, origin.x + 44 * x, origin.y + 44 * y + 4, "center");
    }
  }

  #scaleBar(view, compass, { width, height }, write, line) {
    const perScreen = (compass ? compass.scale : 1) / view.zoom; // arcsec or px of a CSS px
    const steps = compass ? [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200] : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000];
    const length = steps.findLast((step) => step / perScreen <= Math.min(160, width / 4)) ?? steps[0];
    const long = length / perScreen, y = height - 16;
    const name = !compass ? `${length} px` : length >= 3600 ? `${length / 3600}°` : length >= 60 ? `${length / 60}′` : `${length}″`;
    line([[14, y - 4], [14, y], [14 + long, y], [14 + long, y - 4]]);
    write(name, 14 + long / 2, y - 7, "center");
  }
}
