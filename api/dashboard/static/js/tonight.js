// A night as it comes: rows appear and advance without a reload, figures and charts with them.

import { Charts } from "./tonight/charts.js";
import { adopt } from "./tonight/adopt.js";

const CALM_MS = 1000; // the night is asked for at most so often
const POLL_MS = 5000; // where no stream of events stands
const CHARTS_MS = 3000; // the charts at most so often
const NEWS_MS = 5000; // a screen reader is told at most so often

const root = document.getElementById("tonight");
const form = document.getElementById("choose");
const news = document.getElementById("news");
const live = document.getElementById("live");
const charts = new Charts(root);
const query = () => location.search;

let asked = 0;
let timer = null;
let isAsking = false;
let isOld = false; // the answer that is on its way may be of before
let told = 0;
let stream = null;
let drawing = null;
let drawn = 0;

function soon() {
  if (timer !== null || document.hidden) return;
  if (isAsking) {
    isOld = true;
    return;
  }
  timer = setTimeout(refresh, Math.max(asked + CALM_MS - Date.now(), 0));
}

async function refresh() {
  asked = Date.now();
  [timer, isAsking, isOld] = [null, true, false];
  try {
    const answer = await fetch(root.dataset.part + query(), { headers: { "HX-Request": "true" } });
    if (answer.status === 401) return location.reload();
    if (answer.ok) take(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch { /* the next event or poll asks again */ } finally {
    isAsking = false;
    if (isOld) soon();
  }
}

function take(page) {
  if (!document.getElementById("summary")) { // the first exposure of all has come
    if (page.getElementById("summary")) location.reload();
    return;
  }
  const before = { ...document.getElementById("summary").dataset };
  if (!adopt(page)) return;
  const after = document.getElementById("summary").dataset;
  if (before.done !== after.done || before.failed !== after.failed) tell(after);
  redraw();
}

/** Charts of a long night are much to fetch: they may lag behind the table a little. */
function redraw() {
  drawing ??= setTimeout(() => {
    drawing = null;
    drawn = Date.now();
    charts.load(trends());
  }, Math.max(drawn + CHARTS_MS - Date.now(), 0));
}

function tell({ done, failed }) {
  if (!news || Date.now() - told < NEWS_MS) return;
  told = Date.now();
  news.textContent = `${done} exposures done${failed === "0" ? "" : `, ${failed} failed`}.`;
}

function trends() {
  const wanted = new URLSearchParams(query());
  for (const name of ["night", "state", "outside", "after"]) wanted.delete(name);
  for (const name of [...wanted.keys()]) if (!wanted.get(name)) wanted.delete(name);
  return `${root.dataset.trends}?${wanted}`;
}

/** Progress comes with its event: no need to ask. */
function advance({ job_id: id, data }) {
  const row = document.getElementById(id);
  const bar = row?.querySelector("progress");
  if (!bar) return soon();
  bar.value = data.progress;
  row.querySelector(".stage").textContent = (data.stage ?? "begin").replaceAll(".", ": ").replaceAll("_", " ");
  row.querySelector(".percent").textContent = `${Math.round(100 * data.progress)} %`;
}

function say(state) {
  if (!live) return;
  live.hidden = false;
  live.className = `live ${state}`;
  document.getElementById("live-word").textContent = state;
}

function connect() {
  if (document.hidden || stream) return;
  stream = new EventSource("/v1/events?kind=phase&kind=progress");
  stream.onopen = () => { say("live"); soon(); };
  stream.onerror = () => {
    say("reconnecting");
    if (stream.readyState === EventSource.CLOSED) stream = null; // refused: the poll tries again
  };
  stream.addEventListener("phase", soon);
  stream.addEventListener("progress", (event) => advance(JSON.parse(event.data)));
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) { stream?.close(); stream = null; } else { connect(); soon(); }
});
setInterval(() => {
  if (stream?.readyState === EventSource.OPEN || document.hidden) return;
  soon();
  connect();
}, POLL_MS);

// A choice takes effect at once; its address stays one that can be shared.
form?.addEventListener("change", () => form.requestSubmit());
form?.addEventListener("submit", () => {
  for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
});
addEventListener("pageshow", () => { for (const field of form?.elements ?? []) field.disabled = false; });
if (form) document.getElementById("apply").classList.add("visually-hidden");

// A picture that could not be made now is asked for again, then gives up.
document.addEventListener("error", ({ target }) => {
  if (!(target instanceof HTMLImageElement) || !target.classList.contains("thumb")) return;
  const tries = Number(target.dataset.tries ?? 0);
  if (tries >= 3) return target.replaceWith(Object.assign(document.createElement("span"), { className: "thumb none" }));
  target.dataset.tries = tries + 1;
  setTimeout(() => { target.src = target.getAttribute("src"); }, 2000 * (tries + 1));
}, true);

connect();
if (root.dataset.trends) charts.load(trends());
