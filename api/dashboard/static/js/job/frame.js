// Pixels, and the sky behind them: positions between the nodes of a grid, in the tangent plane of the image's centre.

const DEG = Math.PI / 180;

export class Frame {
  /** @param about the document of /images/{product}/frame */
  constructor(about) {
    Object.assign(this, { x0: about.x0, y0: about.y0, width: about.width, height: about.height, unit: about.unit });
    this.planes = about.mask_planes;
    this.sky = about.sky;
  }

  /** Picture coordinates (from the upper left corner, y downwards) of parent pixels, whose centres are whole numbers. */
  toPicture(x, y) { return { x: x - this.x0 + 0.5, y: this.height - (y - this.y0) - 0.5 }; }

  toPixel(picture) { return { x: picture.x + this.x0 - 0.5, y: this.height - picture.y + this.y0 - 0.5 }; }

  contains({ x, y }) {
    return x >= this.x0 - 0.5 && y >= this.y0 - 0.5 && x < this.x0 + this.width - 0.5 && y < this.y0 + this.height - 0.5;
  }

  /** Tangent plane coordinates in degrees and their derivatives by x and y. */
  #plane(x, y) {
    const { x: xs, y: ys, xi, eta } = this.sky;
    const cell = (nodes, value) => Math.min(Math.max(Math.floor((value - nodes[0]) / (nodes[1] - nodes[0])), 0), nodes.length - 2);
    const i = cell(xs, x), j = cell(ys, y);
    const dx = xs[i + 1] - xs[i], dy = ys[j + 1] - ys[j];
    const u = (x - xs[i]) / dx, v = (y - ys[j]) / dy;
    const at = (g) => ({
      value: g[j][i] * (1 - u) * (1 - v) + g[j][i + 1] * u * (1 - v) + g[j + 1][i] * (1 - u) * v + g[j + 1][i + 1] * u * v,
      byX: ((g[j][i + 1] - g[j][i]) * (1 - v) + (g[j + 1][i + 1] - g[j + 1][i]) * v) / dx,
      byY: ((g[j + 1][i] - g[j][i]) * (1 - u) + (g[j + 1][i + 1] - g[j][i + 1]) * u) / dy,
    });
    return { xi: at(xi), eta: at(eta) };
  }

  /** Right ascension and declination in degrees; null without an astrometric solution. */
  toSky(x, y) {
    if (!this.sky) return null;
    const plane = this.#plane(x, y);
    const xi = plane.xi.value * DEG, eta = plane.eta.value * DEG, delta = this.sky.dec * DEG;
    const depth = Math.cos(delta) - eta * Math.sin(delta);
    const ra = this.sky.ra + Math.atan2(xi, depth) / DEG;
    const dec = Math.atan2(Math.sin(delta) + eta * Math.cos(delta), Math.hypot(xi, depth)) / DEG;
    return { ra: ((ra % 360) + 360) % 360, dec };
  }

  /** Unit vectors towards north and east in the picture (y downwards), and arcsec per pixel; null without a solution. */
  compass(x, y) {
    if (!this.sky) return null;
    const { xi, eta } = this.#plane(x, y);
    const det = xi.byX * eta.byY - xi.byY * eta.byX;
    const unit = (dx, dy) => { const length = Math.hypot(dx, dy); return { x: dx / length, y: -dy / length }; };
    return {
      north: unit(-xi.byY / det, xi.byX / det),
      east: unit(eta.byY / det, -eta.byX / det),
      scale: Math.sqrt(Math.abs(det)) * 3600,
    };
  }
}

const pad = (number, digits) => String(number).padStart(digits, "0");

function sexagesimal(value, digits) {
  const unit = 10 ** digits, total = Math.round(value * 3600 * unit);
  const rest = total % (60 * unit), whole = Math.floor(total / (60 * unit));
  return [Math.floor(whole / 60), pad(whole % 60, 2), pad((rest / unit).toFixed(digits), digits ? 3 + digits : 2)];
}

/** "10:00:00.123 +02:12:00.45" */
export function skyText({ ra, dec }) {
  const [h, m, s] = sexagesimal(ra / 15, 3);
  const [d, am, as] = sexagesimal(Math.abs(dec), 2);
  return `${pad(h % 24, 2)}:${m}:${s} ${dec < 0 ? "−" : "+"}${pad(d, 2)}:${am}:${as}`;
}
