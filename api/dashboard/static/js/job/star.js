// A chosen star: its numbers, its pixels, and what the model of the PSF leaves of them.

import { call } from "../api.js";
import { fetchImage } from "./fits.js";
import { skyText } from "./frame.js";

const SIDE = 41;
const FWHM = 2 * Math.sqrt(2 * Math.log(2));
const USES = {
  calib_psf_used: "made the PSF model", calib_psf_reserved: "held back from the PSF model", calib_psf_candidate: "PSF candidate",
  calib_astrometry_used: "in the astrometric fit", calib_photometry_used: "matched to a photometric reference", sky_source: "sky source",
};

let wanted = null;

/** Fill the panel with a star of the star catalogue. */
export async function showStar(panel, job, star) {
  wanted = star.id;
  panel.hidden = false;
  panel.querySelector("h3").textContent = `Star ${star.id}`;
  const body = panel.querySelector("#star-body");
  try {
    const address = `/v1/jobs/${job}/catalogs/stars?where=sourceId=${star.id}&limit=1`;
    const [page, words] = await Promise.all([call("GET", address), meanings()]);
    if (wanted !== star.id) return;
    const row = page.items[0];
    if (!row) throw new Error("The catalogue does not have it.");
    body.replaceChildren(numbers(row), uses(row, words), stamps(job, row), links(row, address));
  } catch (error) {
    body.textContent = error.message;
  }
}

let fetched;
function meanings() {
  fetched ??= call("GET", "/v1/schema/catalogs/stars").then(({ items }) => new Map(items.map((item) => [item.name, item.description])));
  return fetched;
}

const shown = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));
const withError = (value, error, digits, unit) => (value === null || value === undefined ? "–" : `${shown(value, digits)} ± ${shown(error, digits)} ${unit}`);

function numbers(row) {
  const x = row.base_SdssCentroid_x, y = row.base_SdssCentroid_y;
  const flux = row.base_PsfFlux_instFlux, error = row.base_PsfFlux_instFluxErr;
  const moments = ["xx", "yy", "xy"].map((axes) => row[`ext_shapeHSM_HsmSourceMoments_${axes}`]);
  const sigma = moments.some((moment) => moment === null) ? null : (moments[0] * moments[1] - moments[2] ** 2) ** 0.25;
  const round = (a, b) => (sigma === null ? null : a / b);
  const facts = [
    ["Position", `${shown(x, 2)}, ${shown(y, 2)} px`],
    ["Sky", row.coord_ra === null ? "–" : skyText({ ra: (row.coord_ra * 180) / Math.PI, dec: (row.coord_dec * 180) / Math.PI })],
    ["PSF magnitude", withError(row.base_PsfFlux_mag, row.base_PsfFlux_magErr, 3, "mag")],
    ["PSF flux", withError(row.base_PsfFlux_flux, row.base_PsfFlux_fluxErr, 0, "nJy")],
    ["12 px aperture", withError(row.base_CircularApertureFlux_12_0_flux, row.base_CircularApertureFlux_12_0_fluxErr, 0, "nJy")],
    ["S/N", flux === null || !error ? "–" : shown(flux / error, 1)],
    ["FWHM", sigma === null ? "–" : `${shown(sigma * FWHM, 2)} px`],
    ["e1, e2", sigma === null ? "–" : `${shown(round(moments[0] - moments[1], moments[0] + moments[1]), 3)}, ${shown(round(2 * moments[2], moments[0] + moments[1]), 3)}`],
    ["Extendedness", shown(row.base_ClassificationSizeExtendedness_value, 3)],
  ];
  const list = document.createElement("dl");
  for (const [name, value] of facts) {
    list.appendChild(document.createElement("dt")).textContent = name;
    list.appendChild(document.createElement("dd")).textContent = value;
  }
  return list;
}

/** What the star was used for, and its flags by their meanings. */
function uses(row, words) {
  const box = document.createElement("p");
  const say = (text, kind, title) => {
    const badge = box.appendChild(document.createElement("span"));
    badge.className = `badge ${kind}`;
    badge.textContent = text;
    if (title) badge.title = title;
    box.append(" ");
  };
  for (const [name, text] of Object.entries(USES)) {
    if (row[name] && !(name === "calib_psf_candidate" && (row.calib_psf_used || row.calib_psf_reserved))) say(text, "good", name);
  }
  for (const [name, value] of Object.entries(row)) {
    if (value === true && name.includes("_flag")) say(words.get(name) ?? name, "warn", name);
  }
  if (!box.childElementCount) box.textContent = "No flags.";
  return box;
}

/** Data, model and what is left, drawn alike. */
function stamps(job, row) {
  const box = document.createElement("div");
  box.className = "stamps";
  const x = row.base_SdssCentroid_x, y = row.base_SdssCentroid_y;
  if (x === null || y === null) return box;
  const canvases = ["Data", "PSF model", "Difference"].map((name) => {
    const figure = box.appendChild(document.createElement("figure"));
    const canvas = figure.appendChild(document.createElement("canvas"));
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name} around the star`);
    figure.appendChild(document.createElement("figcaption")).textContent = name;
    return canvas;
  });
  draw(job, row, x, y, canvases).catch((error) => { box.textContent = `No stamps: ${error.message}`; });
  return box;
}

async function draw(job, row, x, y, [first, second, third]) {
  const base = `/v1/jobs/${job}`;
  const data = await fetchImage(`${base}/images/image/cutout?x=${Math.round(x)}&y=${Math.round(y)}&size=${SIDE}&plane=image`);
  const sorted = Array.from(data.values).filter(Number.isFinite).sort((a, b) => a - b);
  const low = sorted[Math.floor(0.2 * sorted.length)], high = sorted[sorted.length - 1];
  paint(first, data, data.values, low, high);
  const psf = await fetchImage(`${base}/psf?x=${x}&y=${y}&centered=false&format=fits`);
  const total = (row.base_PsfFlux_flux ?? row.base_PsfFlux_instFlux) / (row.base_PsfFlux_apCorr ?? 1);
  const middle = sorted[Math.floor(0.3 * sorted.length)];
  const model = data.values.map((_, i) => {
    const column = (i % data.width) + data.x0 - psf.x0, line = Math.floor(i / data.width) + data.y0 - psf.y0;
    const inside = column >= 0 && line >= 0 && column < psf.width && line < psf.height;
    return inside ? total * psf.values[line * psf.width + column] : 0;
  });
  paint(second, data, model.map((value) => value + Math.max(middle, low)), low, high);
  paint(third, data, data.values.map((value, i) => value - model[i]), low, high);
}

function paint(canvas, { width, height }, values, low, high) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  const top = Math.asinh(10), range = high - low || 1;
  for (let i = 0; i < values.length; i++) {
    const scaled = Math.min(Math.max((values[i] - low) / range, 0), 1);
    const shade = Number.isFinite(values[i]) ? (255 * Math.asinh(10 * scaled)) / top : 0;
    const place = 4 * ((height - 1 - Math.floor(i / width)) * width + (i % width));
    picture.data.fill(shade, place, place + 3);
    picture.data[place + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

function links(row, address) {
  const box = document.createElement("p");
  const add = (text, href) => {
    const link = box.appendChild(document.createElement("a"));
    link.textContent = text;
    link.href = href;
    box.append(" ");
  };
  if (row.coord_ra !== null) {
    const ra = (row.coord_ra * 180) / Math.PI, dec = (row.coord_dec * 180) / Math.PI;
    add("Light curve", `/v1/lightcurves?ra=${ra}&dec=${dec}&radius=0.0005`);
  }
  add("All columns", address);
  return box;
}
