// Jobs as they go: one stream of events a page, and a question every few seconds where it does not stand.

import { call } from "./api.js";

const POLL_MS = 5000;
const CALM_MS = 1000; // a job is asked for at most so often
const ENDED = new Set(["COMPLETED", "ERROR", "ABORTED", "ARCHIVED"]);

export const hasEnded = (job) => ENDED.has(job.phase);

export class Follower {
  /** @param onState called with "live", "reconnecting" or "" (nothing to follow). */
  constructor(onState = () => {}) {
    this.jobs = new Map(); // id -> {onJob, timer, asked, isAsking, isOld}
    this.onState = onState;
    document.addEventListener("visibilitychange", () => this.#connect());
  }

  follow(id, onJob) {
    this.jobs.set(id, { onJob, timer: null, asked: 0, isAsking: false, isOld: false });
    this.#connect();
    this.#ask(id);
  }

  #connect() {
    const wanted = this.jobs.size > 0 && !document.hidden;
    if (!wanted) {
      this.stream?.close();
      this.stream = null;
      clearInterval(this.poll);
      this.poll = null;
      if (this.jobs.size === 0) this.onState("");
      return;
    }
    this.poll ??= setInterval(() => { if (this.stream?.readyState !== EventSource.OPEN) this.#askAll(); }, POLL_MS);
    if (this.stream) return;
    this.stream = new EventSource("/v1/events?kind=phase&kind=stage&kind=progress");
    this.stream.onopen = () => { this.onState("live"); this.#askAll(); };
    this.stream.onerror = () => {
      this.onState("reconnecting");
      if (this.stream?.readyState === EventSource.CLOSED) this.stream = null; // refused: the next poll tries again
    };
    for (const kind of ["phase", "stage", "progress"]) {
      this.stream.addEventListener(kind, (event) => this.#soon(JSON.parse(event.data).job_id));
    }
  }

  #askAll() {
    for (const id of this.jobs.keys()) this.#soon(id);
    if (!this.stream) this.#connect();
  }

  #soon(id) {
    const entry = this.jobs.get(id);
    if (!entry || entry.timer !== null) return;
    if (entry.isAsking) {
      entry.isOld = true; // the answer that is on its way may be of before
      return;
    }
    entry.timer = setTimeout(() => this.#ask(id), Math.max(entry.asked + CALM_MS - Date.now(), 0));
  }

  async #ask(id) {
    const entry = this.jobs.get(id);
    if (!entry) return;
    Object.assign(entry, { asked: Date.now(), timer: null, isAsking: true, isOld: false });
    try {
      const job = await call("GET", `/v1/jobs/${id}`);
      entry.onJob(job);
      if (hasEnded(job)) {
        this.jobs.delete(id);
        this.#connect();
      }
    } catch { /* the next event or poll asks again */ }
    entry.isAsking = false;
    if (entry.isOld) this.#soon(id);
  }
}
