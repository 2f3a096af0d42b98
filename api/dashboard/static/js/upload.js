// The upload page: files are looked at when they are chosen, sent and calibrated when the person says go.

import { ApiProblem, call, fileSize, randomKey } from "./api.js";
import { Follower, hasEnded } from "./follow.js";
import { fillHints, keepChoices } from "./menus.js";
import { Card } from "./upload/card.js";
import { fileStart } from "./upload/file_start.js";
import { find, forget, markOf, remembered } from "./upload/memory.js";
import { Paused, Transfer } from "./upload/transfer.js";

const AT_ONCE = 2;
const form = document.getElementById("upload");
const keys = JSON.parse(form.dataset.keys);
const maxBytes = Number(form.dataset.maxBytes);
const picker = document.getElementById("file");
const drop = document.getElementById("drop");
const items = [];
const live = document.getElementById("live");
const follower = new Follower((state) => { live.textContent = state === "live" ? "● live" : state ? "○ reconnecting" : ""; });

/** A file from being chosen to its job. */
class Item {
  constructor(file) {
    this.file = file;
    this.stage = "chosen"; // chosen, refused, sending, paused, failed, sent, submitted
    this.card = new Card(file, keys, {
      remove: () => this.remove(),
      pause: () => (this.stage === "paused" ? start([this]) : this.transfer.pause()),
      retry: () => (this.stage === "failed" ? start([this]) : this.transfer.hurry()),
      change: () => this.inspect(),
    });
    this.transfer = new Transfer(file, (state) => this.#moved(state));
    document.getElementById("files").append(this.card.element);
  }

  async inspect() {
    if (!["chosen", "refused"].includes(this.stage)) return;
    if (this.file.size > maxBytes) return this.refuse(`The file has ${fileSize(this.file.size)}; ${fileSize(maxBytes)} are taken at most.`);
    if (this.stage === "chosen" && !this.looked) this.card.state("reading headers");
    try {
      this.start ??= await fileStart(this.file);
      const question = { headers_only: this.start.headersOnly, size: this.start.size, metadata: JSON.stringify(metadataOf(this)) };
      for (const name of ["preset", "instrument", "astrometry", "photometry"]) if (form.elements[name].value) question[name] = form.elements[name].value;
      const found = await call("POST", `/v1/inspect?${new URLSearchParams(question)}`, { body: this.start.body, headers: { "Content-Type": "application/fits" } });
      if (!["chosen", "refused"].includes(this.stage)) return undefined;
      this.looked = found;
      this.card.found(found, { astrometry: form.elements.astrometry.value, photometry: form.elements.photometry.value });
      if (found.problem) return this.refuse(found.problem.message);
      this.stage = "chosen";
      changed();
      this.card.state("ready", "good");
      this.card.say(await this.#outlook(found));
      tellCoverage();
    } catch (error) {
      if (error instanceof ApiProblem) return this.refuse(error.message);
      this.card.state("not looked at", "warn");
      this.card.say("The service does not answer: the headers could not be looked at. It may still be sent.");
    }
    return undefined;
  }

  async #outlook(found) {
    const parts = [];
    const known = find(await markOf(this.file));
    if (known) parts.push("A part of it is there already: it goes on from there.");
    if (found.expected.seconds) parts.push(`The calibration takes about ${Math.max(Math.round(found.expected.seconds), 1)} s.`);
    return parts.join(" ");
  }

  refuse(reason) {
    this.stage = "refused";
    changed();
    this.card.state("cannot be used", "bad");
    this.card.say(reason, "bad");
  }

  async send() {
    this.stage = "sending";
    this.began = { at: performance.now(), sent: null };
    this.card.freeze();
    this.card.state("sending", "run");
    this.card.buttons({ pause: "Pause", remove: false });
    document.querySelector(`#unfinished [data-name="${CSS.escape(this.file.name)}"]`)?.remove();
    try {
      this.exposure ??= await this.transfer.run();
      this.stage = "sent";
      this.card.state("arrived", "good");
      this.card.say("");
      this.card.buttons({ remove: false });
    } catch (error) {
      this.stage = error instanceof Paused ? "paused" : "failed";
      this.card.state(this.stage, this.stage === "paused" ? "warn" : "bad");
      this.card.say(this.stage === "paused" ? `${fileSize(this.transfer.sent)} of ${fileSize(this.file.size)} are there and stay.` : error.message, this.stage === "paused" ? "" : "bad");
      this.card.buttons(this.stage === "paused" ? { pause: "Go on" } : { retry: true });
    }
  }

  #moved({ sent, size, words }) {
    if (this.stage !== "sending") return;
    this.began.sent ??= sent;
    this.card.progress(sent / size);
    this.card.buttons({ pause: "Pause", retry: words !== "", remove: false });
    this.card.state(words ? "waiting" : "sending", words ? "warn" : "run");
    if (words) return this.card.say(words);
    const rate = (sent - this.began.sent) / Math.max((performance.now() - this.began.at) / 1000, 0.5);
    const left = rate > 0 ? `, ${fileSize(rate)}/s, ${Math.ceil((size - sent) / rate)} s left` : "";
    this.card.say(`${fileSize(sent)} of ${fileSize(size)}${left}`);
  }

  follow(job) {
    this.stage = "submitted";
    this.card.progress(null);
    this.card.buttons({ remove: true });
    follower.follow(job.id, (now) => this.#shown(now));
    this.#shown(job);
  }

  #shown(job) {
    const address = `/jobs/${job.id}`;
    this.card.progress(hasEnded(job) ? null : job.progress);
    if (job.phase === "COMPLETED") {
      this.card.state("calibrated", "good");
      this.card.link(outcome(job), address, "See the result");
    } else if (job.phase === "ERROR") {
      this.card.state("failed", "bad");
      this.card.link(`${job.error.message}.`, address, "See why, and what to try");
    } else {
      const waits = job.phase === "QUEUED" ? `waits, ${job.queue.position ?? 0} before it` : job.stage ?? "begins";
      this.card.state(job.phase === "EXECUTING" ? "calibrating" : job.phase.toLowerCase(), "run");
      this.card.link(`${waits}${job.queue.eta_s ? `, about ${Math.ceil(job.queue.eta_s)} s` : ""}.`, address, "The job");
    }
  }

  remove() {
    this.transfer.pause();
    if (this.transfer.uploadId && this.stage !== "submitted") {
      forget(this.transfer.uploadId);
      call("DELETE", `/v1/uploads/${this.transfer.uploadId}`).catch(() => {});
    }
    items.splice(items.indexOf(this), 1);
    this.card.element.remove();
    changed();
    picker.focus();
  }
}

/** A finished job in a line. */
function outcome({ summary, warnings }) {
  const parts = [];
  if (summary?.zeroPoint) parts.push(`Zero point ${summary.zeroPoint.toFixed(2)} mag.`);
  if (summary?.psfSigma && summary.pixelScale) parts.push(`Seeing ${(2.3548 * summary.psfSigma * summary.pixelScale).toFixed(2)}″.`);
  if (warnings.length) parts.push(`With warnings: ${warnings.join("; ")}.`);
  return parts.join(" ");
}

function metadataOf(item) {
  const forAll = Object.fromEntries([...form.elements].filter((field) => field.name.startsWith("metadata.") && field.value.trim()).map((field) => [field.name.slice(9), field.value.trim()]));
  return { ...forAll, ...item.card.metadata };
}

async function add(files) {
  for (const file of files) {
    if (items.some((item) => item.file.name === file.name && item.file.size === file.size && item.file.lastModified === file.lastModified)) continue;
    items.push(new Item(file));
  }
  changed();
  for (const item of items) if (!item.looked && item.stage === "chosen") await item.inspect();
}

function changed() {
  const waiting = items.filter((item) => ["chosen", "paused", "failed"].includes(item.stage));
  document.getElementById("nothing-yet").hidden = items.length > 0;
  const snaps = document.getElementById("snaps");
  snaps.disabled = waiting.length !== 2;
  if (snaps.disabled) snaps.checked = false;
  const go = document.getElementById("go").firstElementChild;
  go.textContent = waiting.length > 1 && !snaps.checked ? `Calibrate ${waiting.length} files` : "Calibrate";
}

/** Send items, two at a time, and submit each, or both together where they are snaps. */
async function start(chosen) {
  const together = document.getElementById("snaps").checked && chosen.length === 2;
  const queue = [...chosen];
  for (const item of chosen) item.stage = "sending";
  changed();
  const worker = async () => {
    for (let item = queue.shift(); item; item = queue.shift()) {
      await item.send();
      if (!together && item.stage === "sent") await submit([item]);
      changed();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (together && chosen.every((item) => item.stage === "sent")) await submit(chosen);
}

async function submit(group) {
  const values = Object.fromEntries(["preset", "instrument", "run_id"].map((name) => [name, form.elements[name].value.trim()]).filter(([, value]) => value));
  const body = {
    exposures: group.map((item) => item.exposure),
    references: { astrometry: form.elements.astrometry.value, photometry: form.elements.photometry.value },
    metadata: metadataOf(group[0]),
    ...values,
  };
  const key = randomKey();
  for (let attempt = 0; ; attempt += 1) {
    try {
      const job = await call("POST", "/v1/jobs", { json: body, headers: { "Idempotency-Key": key } });
      group.forEach((item) => item.follow(job));
      return;
    } catch (error) {
      const passes = !(error instanceof ApiProblem) || error.status === 429 || error.status >= 502;
      for (const item of group) {
        item.stage = passes ? "sent" : "failed";
        item.card.state(passes ? "waiting" : "refused", passes ? "warn" : "bad");
        item.card.say(passes ? `The service does not take the job yet, and is asked again. ${error.status ? error.message : ""}` : error.message, passes ? "" : "bad");
        item.card.buttons({ retry: !passes });
      }
      if (!passes) return;
      await new Promise((resolve) => { setTimeout(resolve, 1000 * Math.max(error.retryAfter ?? 0, Math.min(2 ** attempt, 30))); });
    }
  }
}

/** Which of the catalogues have stars where the first file with a position looks. */
async function tellCoverage() {
  const place = items.map((item) => item.looked?.metadata).find((values) => values?.ra && values?.dec);
  if (!place) return;
  const covered = await call("GET", `/parts/upload/coverage?${new URLSearchParams({ ra: place.ra.value, dec: place.dec.value })}`).catch(() => ({}));
  for (const use of ["astrometry", "photometry"]) {
    const menu = form.elements[use];
    for (const option of menu.options) {
      if (covered[option.value] === undefined || covered[option.value] === null) continue;
      option.dataset.hint = covered[option.value] ? "Has stars in this part of the sky." : "Has no stars in this part of the sky.";
    }
    const fitting = [...menu.options].filter((option) => covered[option.value]);
    // without references there is neither a position nor a zero point: who has not chosen is given the only ones
    if (fitting.length === 1 && menu.value === "none" && !menu.dataset.chosen) menu.value = fitting[0].value;
  }
  fillHints(form);
}

/** Uploads of before, whose files have to be shown again: a page may not open files by itself. */
async function showUnfinished() {
  for (const mark of remembered()) {
    try {
      const upload = await call("GET", `/v1/uploads/${mark.id}`);
      if (upload.phase !== "PENDING") { forget(mark.id); continue; }
      const card = document.getElementById("unfinished-card").content.firstElementChild.cloneNode(true);
      card.dataset.name = mark.name;
      card.querySelector(".name").textContent = mark.name;
      card.querySelector(".size").textContent = fileSize(mark.size);
      card.querySelector("progress").value = upload.offset / mark.size;
      card.querySelector("progress").setAttribute("aria-label", `Progress of ${mark.name}`);
      card.querySelector(".words").textContent = `${fileSize(upload.offset)} are there. Choose the same file again, and it goes on from there.`;
      card.querySelector(".forget").addEventListener("click", () => {
        forget(mark.id);
        call("DELETE", `/v1/uploads/${mark.id}`).catch(() => {});
        card.remove();
        picker.focus();
      });
      document.getElementById("unfinished").append(card);
    } catch (error) {
      if (error instanceof ApiProblem && error.status === 404) forget(mark.id);
    }
  }
}

function listen() {
  picker.addEventListener("change", () => { add([...picker.files]); picker.value = ""; });
  for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (event.relatedTarget === null) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); add([...event.dataTransfer.files]); });
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) add([...event.clipboardData.files]); });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = items.filter((item) => ["chosen", "paused", "failed"].includes(item.stage));
    if (chosen.length === 0) picker.focus();
    else start(chosen);
  });
  form.addEventListener("change", (event) => {
    event.target.dataset.chosen = "yes";
    fillHints(form);
    changed();
    if (event.target.name && event.target !== picker && event.target.name !== "run_id") items.forEach((item) => item.inspect());
  });
}

picker.required = false;
form.classList.add("live");
keepChoices(form, ["astrometry", "photometry", "preset", "instrument", "run_id"]);
fillHints(form);
listen();
changed();
showUnfinished();
