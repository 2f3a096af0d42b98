// Five small charts over one axis of time: values by band with the limits of trouble, or medians of the nights before.

const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];
const BANDS = ["g", "r", "i", "z", "y"];
const HEIGHT = 128;
const DIGITS = { seeing: 2, zero_point: 3, sky: 2, depth: 2, astrometry: 1 };
const UNITS = { arcsec: "″", "mag/arcsec2": "mag/″²" };
const WORSE = { high: "worse ↑", low: "worse ↓", both: "" };

export class Charts {
  constructor(root) {
    this.root = root;
    this.span = "night";
    this.plots = [];
    document.addEventListener("themechange", () => this.draw());
    matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => this.draw());
    this.sizes = new ResizeObserver(() => this.resize());
    root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-span]");
      if (!button) return;
      this.span = button.dataset.span;
      for (const other of root.querySelectorAll("[data-span]")) other.setAttribute("aria-pressed", other === button);
      this.draw();
    });
  }

  async load(address) {
    try {
      const answer = await fetch(address);
      if (answer.ok) this.document = await answer.json();
    } catch { return; } // what is shown stays
    this.draw();
  }

  draw() {
    const panel = document.getElementById("trends");
    if (!panel || !this.document) return;
    const groups = groupsOf(this.document);
    panel.hidden = groups.length === 0;
    legend(document.getElementById("legend"), groups);
    const place = document.getElementById("charts");
    this.sizes.disconnect();
    this.sizes.observe(place);
    for (const plot of this.plots) plot.destroy();
    place.replaceChildren();
    this.plots = this.document.quantities.flatMap((quantity) => this.chart(place, quantity, groups) ?? []);
  }

  resize() {
    for (const plot of this.plots) {
      const { clientWidth } = plot.root.parentElement;
      if (clientWidth && clientWidth !== plot.width) plot.setSize({ width: clientWidth, height: HEIGHT });
    }
  }

  /** None where nothing was measured. */
  chart(place, quantity, groups) {
    const lines = this.span === "night" ? ofNight(quantity, groups) : ofNights(quantity, groups, this.document);
    const times = [...new Set(lines.flatMap((line) => line.points.map((point) => point.time)))].sort((a, b) => a - b);
    if (!times.length) return null;
    const unit = UNITS[quantity.unit] ?? quantity.unit;
    const difference = quantity.name === "zero_point" ? "Δ " : "";
    const figure = document.createElement("figure");
    const caption = figure.appendChild(document.createElement("figcaption"));
    caption.append(`${quantity.title} `);
    const at = caption.appendChild(document.createElement("span"));
    at.className = "at";
    const usual = `${difference}${unit}${WORSE[quantity.worse] ? ` · ${WORSE[quantity.worse]}` : ""}`;
    at.textContent = usual;
    const box = figure.appendChild(document.createElement("div"));
    box.className = "plot";
    box.setAttribute("role", "img");
    place.append(figure);
    box.setAttribute("aria-label", spoken(quantity, unit, lines));
    const column = new Map(times.map((time, index) => [time, index]));
    const data = [times, ...lines.map((line) => {
      const values = new Array(times.length).fill(null);
      for (const point of line.points) values[column.get(point.time)] = point.value;
      return values;
    })];
    let near = null;
    const style = styleOf();
    const plot = new uPlot({
      width: box.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { time: true, range: () => padded(times[0], times.at(-1), this.span === "night" ? 600 : 43200) },
        y: { range: () => reach(lines, quantity.worse) },
      },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      axes: [
        axis(style, { size: 22, space: 60, values: (self, marks) => marks.map((mark) => label(mark, this.span)) }),
        axis(style, { size: 46, space: 26 }),
      ],
      series: [{}, ...lines.map((line) => ({ stroke: style.colors[line.index % 5], points: { show: false }, paths: () => null }))],
      hooks: {
        draw: [(self) => paint(self, lines, style, quantity.worse)],
        setCursor: [(self) => {
          near = pick(self, lines);
          at.textContent = near ? told(near, DIGITS[quantity.name], this.span) : usual;
          point(near?.job);
        }],
      },
    }, data, box);
    plot.over.addEventListener("click", () => {
      if (near?.job) location.assign(`/jobs/${near.job}`);
      else if (near?.night) location.assign(`/?night=${near.night}`);
    });
    plot.over.addEventListener("mouseleave", () => { at.textContent = usual; point(null); });
    return plot;
  }
}

/** Bands of one camera look the same every night. */
function groupsOf({ series }) {
  const cameras = new Set(series.map(({ instrument }) => instrument));
  const isUsual = cameras.size === 1 && series.every(({ band }) => BANDS.includes(band));
  return series.map((one, number) => ({
    ...one,
    index: isUsual ? BANDS.indexOf(one.band) : number,
    name: [cameras.size > 1 ? one.instrument ?? "unknown" : "", one.band ?? "no band"].filter(Boolean).join(" "),
  }));
}

function ofNight(quantity, groups) {
  return groups.map(({ index, name, job_id: jobs, time, trends }) => {
    const { value, outside, limits } = trends[quantity.name];
    const marked = new Set(outside);
    const points = value.flatMap((one, place) => one === null ? [] : [{
      time: Date.parse(time[place]) / 1000, value: one, outside: marked.has(place), job: jobs[place], name,
    }]);
    return { index, name, limits, points };
  });
}

function ofNights(quantity, groups, { baseline, night }) {
  return groups.map(({ index, name, trends }) => {
    const { value, limits, before } = trends[quantity.name];
    const measured = value.filter((one) => one !== null);
    const nights = [...before.map((one, place) => [baseline[place], one]), [night, measured.length ? median(measured) : null]];
    const points = nights.filter(([, one]) => one !== null).map(([date, one]) => ({
      time: Date.parse(`${date}T12:00:00Z`) / 1000, value: one, outside: isOutside(one, limits, quantity.worse), night: date, name,
    }));
    return { index, name, limits, points };
  });
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

function isOutside(value, limits, worse) {
  if (!limits) return false;
  return (worse !== "low" && value > limits.high) || (worse !== "high" && value < limits.low);
}

/** Limits on the side of trouble. */
const troubles = (limits, worse) => limits
  ? [...(worse === "low" ? [] : [limits.high]), ...(worse === "high" ? [] : [limits.low])] : [];

function reach(lines, worse) {
  const all = lines.flatMap(({ limits, points }) => [...troubles(limits, worse), ...points.map(({ value }) => value)]);
  const bottom = Math.min(...all);
  const top = Math.max(...all);
  const space = (top - bottom || Math.abs(top) || 1) * 0.14;
  return [bottom - space, top + space];
}

const padded = (low, high, least) => {
  const space = Math.max((high - low) * 0.05, least);
  return [low - space, high + space];
};

function styleOf() {
  const css = getComputedStyle(document.documentElement);
  const color = (name) => css.getPropertyValue(name).trim();
  return {
    colors: [1, 2, 3, 4, 5].map((number) => color(`--chart-${number}`)),
    dim: color("--dim"), grid: color("--grid"), bad: color("--bad"), surface: color("--surface"),
    font: `11px ${getComputedStyle(document.body).fontFamily}`,
  };
}

const axis = (style, more) => ({
  stroke: style.dim, font: style.font, gap: 3,
  grid: { stroke: style.grid, width: 1 }, ticks: { stroke: style.grid, width: 1, size: 4 }, ...more,
});

function label(seconds, span) {
  const moment = new Date(seconds * 1000).toISOString();
  return span === "night" ? moment.slice(11, 16) : moment.slice(5, 10);
}

function paint(plot, lines, style, worse) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.lineWidth = ratio;
  for (const line of lines) {
    ctx.strokeStyle = style.colors[line.index % 5];
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    ctx.globalAlpha = 0.7;
    for (const limit of troubles(line.limits, worse)) {
      const y = Math.round(plot.valToPos(limit, "y", true)) + 0.5;
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
  }
  ctx.setLineDash([]);
  ctx.globalAlpha = 1;
  for (const line of lines) {
    ctx.fillStyle = style.colors[line.index % 5];
    for (const { time, value, outside } of line.points) {
      const x = plot.valToPos(time, "x", true);
      const y = plot.valToPos(value, "y", true);
      ctx.fill(shape(SHAPES[line.index % 5], x, y, 3.4 * ratio));
      if (!outside) continue;
      ctx.strokeStyle = style.bad;
      ctx.lineWidth = 2 * ratio;
      ctx.beginPath();
      ctx.arc(x, y, 6.5 * ratio, 0, 2 * Math.PI);
      ctx.stroke();
    }
  }
  ctx.restore();
}

function shape(name, x, y, r) {
  const path = new Path2D();
  if (name === "circle") path.arc(x, y, r, 0, 2 * Math.PI);
  else if (name === "square") path.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  else {
    const corners = { triangle: [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]], diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
      cross: [[-1.2, -0.4], [-0.4, -0.4], [-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4]] }[name];
    corners.forEach(([dx, dy], index) => path[index ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
    path.closePath();
  }
  return path;
}

/** The point nearest to the pointer, no farther than 25 pixels. */
function pick(plot, lines) {
  const { left, top } = plot.cursor;
  if (left == null || left < 0) return null;
  let best = null;
  let least = 25;
  for (const line of lines) {
    for (const point of line.points) {
      const distance = Math.hypot(plot.valToPos(point.time, "x") - left, plot.valToPos(point.value, "y") - top);
      if (distance < least) [least, best] = [distance, point];
    }
  }
  return best;
}

const signless = (text) => text.replace("-", "−");

function told({ time, value, night, name, outside }, digits, span) {
  const when = span === "night" ? label(time, span) : night;
  return `${when} ${name} ${signless(value.toFixed(digits))}${outside ? " outside" : ""}`;
}

function point(job) {
  for (const row of document.querySelectorAll("tr.pointed")) if (row.id !== job) row.classList.remove("pointed");
  if (job) document.getElementById(job)?.classList.add("pointed");
}

function spoken(quantity, unit, lines) {
  const said = lines.filter((line) => line.points.length).map((line) => {
    const outside = line.points.filter((point) => point.outside).length;
    const middle = signless(median(line.points.map((point) => point.value)).toFixed(DIGITS[quantity.name]));
    return `${line.name}: ${line.points.length} points, median ${middle} ${unit}, ${outside} outside`;
  });
  return `${quantity.title}. ${said.join("; ")}`;
}

function legend(list, groups) {
  const style = styleOf();
  list.replaceChildren(...groups.map(({ name, index }) => {
    const item = document.createElement("li");
    const mark = document.createElement("canvas");
    mark.width = mark.height = 24;
    mark.className = "key";
    const ctx = mark.getContext("2d");
    ctx.fillStyle = style.colors[index % 5];
    ctx.fill(shape(SHAPES[index % 5], 12, 12, 8));
    mark.setAttribute("aria-hidden", "true");
    item.append(mark, name);
    return item;
  }));
}
