// The image: tiles by OpenSeadragon, mask planes as tiles over it, marks on a canvas that moves with it.

import { call } from "../api.js";
import { Frame, skyText } from "./frame.js";
import { fetchImage } from "./fits.js";
import { LAYERS, Marks } from "./marks.js";
import { showStar } from "./star.js";

const TILE = 256;
const FIRST_SHOWN = new Set(["stars"]);
const CLICK_REACH = 14; // CSS px
const STEP = 1.6;
const MANY = 4000; // marks that are not drawn in each frame of a movement
const REST_MS = 150;

const byId = (id) => document.getElementById(id);
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** OpenSeadragon would put a style element into the page, which the page's policy refuses, unless it sees its own. */
function pretendStyled() {
  const sign = document.createElementNS("", "style"); // of no language: it is no style
  sign.setAttribute("data-openseadragon-mobile-css", "");
  document.head.append(sign);
}

function tileSource(frame, address) {
  return {
    width: frame.width, height: frame.height, tileSize: TILE, tileOverlap: 0, minLevel: 8,
    getTileUrl: (level, x, y) => address(level, x, y),
  };
}

class Viewer {
  constructor(root, job, frame) {
    Object.assign(this, { root, job, frame, base: `/v1/jobs/${job}/images` });
    pretendStyled();
    OpenSeadragon.console = Object.assign(Object.create(console), { warn() {} }); // it warns of tiles of a look that was left
    this.osd = OpenSeadragon({
      element: byId("osd"),
      drawer: "canvas",
      imageSmoothingEnabled: false,
      showNavigationControl: false,
      animationTime: calm() ? 0 : 0.4,
      springStiffness: 9,
      maxZoomPixelRatio: 24,
      minZoomImageRatio: 0.8,
      visibilityRatio: 0.4,
      zoomPerScroll: 1.3,
      immediateRender: true,
      timeout: 120000,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true, pinchRotate: false },
    });
    this.marks = new Marks(root.querySelector(".marks"), frame, `/parts/jobs/${job}`);
    this.masks = new Map();
    this.drawnAt = -Infinity;
    this.setLook();
    this.#controls();
    this.#layers();
    this.#pointer();
    for (const event of ["update-viewport", "resize", "open"]) this.osd.addHandler(event, () => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(this.marks.canvas);
  }

  /** Load the tiles of the look that the controls say. */
  setLook() {
    const [product, plane] = byId("plane").value.split(":");
    const limits = byId("limits").value === "own" ? `${byId("low").value},${byId("high").value}` : byId("limits").value;
    const query = new URLSearchParams({ stretch: byId("stretch").value, limits, cmap: byId("cmap").value, invert: byId("invert").checked });
    if (plane) query.set("plane", plane);
    const source = tileSource(this.frame, (z, x, y) => `${this.base}/${product}/tiles_files/${z}/${x}_${y}.png?${query}`);
    this.osd.addTiledImage({ tileSource: source, index: 0, replace: this.osd.world.getItemCount() > 0, success: () => this.redraw() });
  }

  get view() {
    const { viewport } = this.osd, image = this.osd.world.getItemAt(0);
    if (!image) return null;
    const origin = image.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    const corner = image.imageToViewerElementCoordinates(new OpenSeadragon.Point(this.frame.width, this.frame.height));
    const zoom = (corner.x - origin.x) / this.frame.width;
    const size = viewport.getContainerSize(), { frame } = this;
    const pixel = (x, y) => frame.toPixel({ x: (x - origin.x) / zoom, y: (y - origin.y) / zoom });
    const low = pixel(0, size.y), high = pixel(size.x, 0);
    return {
      zoom,
      origin,
      box: { left: low.x, right: high.x, low: low.y, high: high.y },
      pixel,
      toScreen: (x, y) => { const at = frame.toPicture(x, y); return { x: origin.x + at.x * zoom, y: origin.y + at.y * zoom }; },
    };
  }

  redraw() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      const { view } = this;
      if (!view) return;
      if (this.marks.drawn > MANY && performance.now() - this.drawnAt < REST_MS) this.#shift(view);
      else this.#draw(view);
    });
  }

  #draw(view) {
    this.marks.canvas.style.transform = "";
    this.marks.draw(view);
    this.drawnView = view;
    this.#sayScale(view);
    this.root.dataset.drawn = this.marks.drawn; // how many marks are on the screen
    this.drawnAt = performance.now();
  }

  /** Move the marks as they were drawn last, and draw them anew when the image has come to rest. */
  #shift(view) {
    const last = this.drawnView, scale = view.zoom / last.zoom;
    const x = view.origin.x - last.origin.x * scale, y = view.origin.y - last.origin.y * scale;
    this.marks.canvas.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.drawnAt = performance.now();
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.redraw(), 1.2 * REST_MS);
  }

  async #show(layer, box, counter) {
    try {
      await this.marks.show(layer, box.checked);
    } catch (error) {
      box.checked = false;
      box.disabled = true;
      counter.textContent = "–";
      counter.title = error.message;
    }
    this.#counts();
    this.redraw();
  }

  #counts() {
    for (const [layer, counter, box] of this.legend) {
      const count = this.marks.count(layer);
      if (count !== null) counter.textContent = count.toLocaleString("en").replaceAll(",", "\u202f");
      if (count === 0) box.disabled = true;
    }
  }

  #layers() {
    const list = byId("layers");
    let group = null;
    this.legend = LAYERS.map((layer) => {
      if (layer.group !== group) {
        const head = list.appendChild(document.createElement("li"));
        head.className = "group";
        head.textContent = group = layer.group;
      }
      const item = list.appendChild(document.createElement("li")), label = item.appendChild(document.createElement("label"));
      const box = label.appendChild(document.createElement("input"));
      box.type = "checkbox";
      box.dataset.layer = layer.id;
      box.setAttribute("aria-label", `${layer.group}: ${layer.name}`);
      box.disabled = !this.root.dataset.layers.split(" ").includes(layer.from);
      box.checked = FIRST_SHOWN.has(layer.id) && !box.disabled;
      label.appendChild(sample(layer));
      label.appendChild(document.createElement("span")).textContent = layer.name;
      const counter = label.appendChild(document.createElement("span"));
      counter.className = "count";
      box.addEventListener("change", () => this.#show(layer, box, counter));
      return [layer, counter, box];
    });
    const begin = () => this.legend.forEach(([layer, counter, box]) => { if (box.checked) this.#show(layer, box, counter); });
    this.osd.addOnceHandler("tile-drawn", begin); // the image comes first
    const masks = byId("masks");
    for (const plane of this.frame.planes) {
      const label = masks.appendChild(document.createElement("li")).appendChild(document.createElement("label"));
      const box = label.appendChild(document.createElement("input"));
      box.type = "checkbox";
      box.dataset.plane = plane.name;
      label.appendChild(sample({ color: plane.color, shape: "tint" }));
      const name = label.appendChild(document.createElement("span"));
      name.className = "name";
      name.textContent = name.title = plane.name;
      box.addEventListener("change", () => this.#mask(plane.name, box.checked));
    }
  }

  #mask(name, isShown) {
    if (!isShown) {
      const item = this.masks.get(name);
      if (item) this.osd.world.removeItem(item);
      this.masks.delete(name);
      return;
    }
    const address = (z, x, y) => `${this.base}/image/mask/${name}_files/${z}/${x}_${y}.png`;
    this.osd.addTiledImage({ tileSource: tileSource(this.frame, address), success: ({ item }) => this.masks.set(name, item) });
  }

  #sayScale(view) {
    const line = byId("vector-scale"), shown = this.legend.some(([layer, , box]) => layer.shape === "vector" && box.checked);
    line.hidden = !shown || !this.marks.vectorScale;
    if (line.hidden) return;
    const factor = this.marks.factor(view), compass = this.frame.compass(...this.frame.sky ? this.#middle(view) : []);
    const mas = (50 / view.zoom / factor) * compass.scale * 1000;
    line.textContent = `Residuals × ${factor.toLocaleString("en").replaceAll(",", "\u202f")}: 50 px on the screen are ${mas.toPrecision(2)} mas`;
  }

  #middle({ box }) { return [(box.left + box.right) / 2, (box.low + box.high) / 2]; }

  #controls() {
    for (const id of ["plane", "stretch", "limits", "cmap", "invert", "low", "high"]) {
      byId(id).addEventListener("change", () => {
        const own = byId("limits").value === "own";
        this.root.querySelector(".own").hidden = !own;
        if (own && !(Number(byId("low").value) < Number(byId("high").value) && byId("low").value !== "")) return;
        this.setLook();
      });
    }
    const { viewport } = this.osd;
    const actions = {
      in: () => viewport.zoomBy(STEP),
      out: () => viewport.zoomBy(1 / STEP),
      fit: () => viewport.goHome(),
      one: () => viewport.zoomTo(this.osd.world.getItemAt(0).imageToViewportZoom(1)),
      full: () => (document.fullscreenElement ? document.exitFullscreen() : this.root.querySelector(".sky").requestFullscreen?.()),
    };
    this.root.querySelector(".buttons").addEventListener("click", (event) => {
      actions[event.target.closest("button")?.dataset.view]?.();
      viewport.applyConstraints();
    });
    const keys = { "+": "in", "=": "in", "-": "out", _: "out", 0: "fit" };
    this.osd.addHandler("canvas-key", (event) => {
      const { key } = event.originalEvent;
      if (/^[rf]$/i.test(key) || keys[key]) event.preventDefaultAction = true; // the sky is neither turned nor mirrored
      actions[keys[key]]?.();
      if (key === "Enter") {
        const view = this.view, [x, y] = this.#middle(view);
        this.choose(this.marks.nearest({ x, y }, Infinity), false);
      }
    });
  }

  #pointer() {
    const readout = byId("readout"), canvas = byId("osd");
    const say = (pixel, value = "") => {
      const sky = this.frame.toSky(pixel.x, pixel.y);
      readout.textContent = [`x ${pixel.x.toFixed(1)}  y ${pixel.y.toFixed(1)}`, sky ? skyText(sky) : "", value].filter(Boolean).join("\n");
    };
    const under = (position) => this.view?.pixel(position.x, position.y);
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect(), pixel = under({ x: event.clientX - box.x, y: event.clientY - box.y });
      if (pixel && this.frame.contains(pixel)) say(pixel);
      else readout.textContent = "";
    });
    this.osd.addHandler("canvas-click", async (event) => {
      if (!event.quick) return;
      const pixel = under(event.position);
      if (!pixel || !this.frame.contains(pixel)) return;
      const star = this.marks.nearest(pixel, CLICK_REACH / this.view.zoom);
      if (star) this.choose(star, false);
      say(pixel, await this.#value(pixel));
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("[data-star]");
      if (!link) return;
      this.choose({ id: link.dataset.star, x: Number(link.dataset.x), y: Number(link.dataset.y) }, true);
      byId("image").scrollIntoView({ behavior: calm() ? "auto" : "smooth" });
    });
  }

  async #value(pixel) {
    const [product, plane = "image"] = byId("plane").value.split(":");
    const query = new URLSearchParams({ x: Math.round(pixel.x), y: Math.round(pixel.y), size: 1 });
    if (product === "image") query.set("plane", plane);
    try {
      const { values } = await fetchImage(`${this.base}/${product}/cutout?${query}`);
      return `${values[0].toPrecision(6)} ${this.frame.unit}${plane === "variance" ? "²" : ""}`;
    } catch {
      return "value not to be had";
    }
  }

  /** Mark a star and tell its numbers; `go` also brings it to the middle. */
  choose(star, go) {
    if (!star) return;
    this.marks.selected = star;
    if (go) {
      const image = this.osd.world.getItemAt(0), at = this.frame.toPicture(star.x, star.y);
      const { viewport } = this.osd, near = image.imageToViewportZoom(4);
      viewport.panTo(image.imageToViewportCoordinates(at.x, at.y));
      if (viewport.getZoom() < near) viewport.zoomTo(near);
    }
    this.redraw();
    showStar(byId("star"), this.job, star);
  }
}

/** A small drawing of what a layer draws. */
function sample({ color, shape }) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  const paths = {
    ellipse: "M3 9a6 5 0 1 0 12 0a6 5 0 1 0 -12 0",
    diamond: "M9 2L16 9L9 16L2 9Z",
    square: "M3 3H15V15H3Z",
    plus: "M9 2V7M9 11V16M2 9H7M11 9H16",
    "cross-out": "M4 4L14 14M4 14L14 4",
    vector: "M3 14L15 4M15 4L10 5M15 4L14 9",
    tint: "M1 1H17V17H1Z",
  };
  svg.setAttribute("viewBox", "0 0 18 18");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", paths[shape]);
  path.setAttribute("fill", shape === "tint" ? color : "none");
  path.setAttribute("fill-opacity", "0.6");
  path.setAttribute("stroke", color === "#ffffff" ? "currentColor" : color);
  path.setAttribute("stroke-width", "1.8");
  return svg;
}

export async function openViewer(root, job) {
  root.hidden = false;
  try {
    window.visitcalViewer = new Viewer(root, job, new Frame(await call("GET", root.dataset.frame)));
  } catch (error) {
    const said = document.createElement("p");
    said.className = "notice bad";
    said.textContent = `The image cannot be shown: ${error.message}`;
    root.replaceChildren(said);
  }
}
