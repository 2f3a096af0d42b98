// One file on its way, by the resumable protocol of /v1/uploads: what has arrived is never sent again.

import { ApiProblem, call } from "../api.js";
import { find, forget, markOf, remember } from "./memory.js";

const PIECE = 16 << 20;
const DIGEST_BYTES = 32 << 20; // files up to here are summed first: one that is there already need not travel
const LONGEST_PAUSE_S = 30;
const BUSY_PAUSE_S = 2;
const MAY_PASS = new Set(["upload.incomplete", "upload.elsewhere"]);
const LOST = new Set(["upload.not_found", "upload.ended"]);

/** Stopped by the person; everything that arrived stays. */
export class Paused extends Error {}

export class Transfer {
  /** @param onChange called with {sent, size, words} whenever something is worth showing. */
  constructor(file, onChange) {
    this.file = file;
    this.sent = 0;
    this.uploadId = null;
    this.#tell = (words = "") => onChange({ sent: this.sent, size: file.size, words });
  }

  #tell;
  #request = null;
  #wake = null;
  #paused = false;

  pause() {
    this.#paused = true;
    this.#request?.abort();
    this.#wake?.();
  }

  /** Do not wait for the end of a pause after a failure. */
  hurry() {
    this.#wake?.();
  }

  /** Send what is missing; resolves with the exposure's id. */
  async run() {
    this.#paused = false;
    const mark = await markOf(this.file);
    let failures = 0;
    for (;;) {
      if (this.#paused) throw new Paused();
      try {
        const done = await this.#beginOrGoOn(mark);
        if (done) return this.#finished(done);
        if (this.#paused) throw new Paused();
        const before = this.sent;
        const exposure = await this.#sendPiece();
        if (exposure) return this.#finished(exposure);
        if (this.sent > before) failures = 0;
      } catch (error) {
        if (this.#paused) throw new Paused();
        failures += 1;
        await this.#recover(error, failures);
      }
    }
  }

  async #finished(exposureId) {
    if (this.uploadId) forget(this.uploadId);
    this.sent = this.file.size;
    this.#tell();
    return exposureId;
  }

  /** Know the upload's id and offset; the id of the exposure where nothing has to be sent. */
  async #beginOrGoOn(mark) {
    this.uploadId ??= find(mark)?.id ?? null;
    if (this.uploadId) return this.#offset();
    const digest = await this.#digest();
    if (digest) {
      const known = await call("GET", `/v1/exposures?sha256=${digest.hex}`);
      if (known.items.length) return known.items[0].id;
    }
    const begun = await call("POST", `/v1/uploads?filename=${encodeURIComponent(this.file.name)}`, {
      headers: {
        "Upload-Complete": "?0",
        "Upload-Length": String(this.file.size),
        ...(digest ? { "Repr-Digest": `sha-256=:${digest.base64}:` } : {}),
      },
    });
    this.uploadId = begun.id;
    this.sent = 0;
    remember(begun.id, mark);
    return null;
  }

  async #offset() {
    const upload = await call("GET", `/v1/uploads/${this.uploadId}`);
    if (upload.exposure_id) return upload.exposure_id;
    if (upload.phase === "ERROR") throw new ApiProblem(409, { code: "upload.ended", detail: upload.error?.message });
    this.sent = upload.offset;
    this.#tell();
    return null;
  }

  async #digest() {
    if (!crypto.subtle || this.file.size > DIGEST_BYTES) return null;
    const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await this.file.arrayBuffer()));
    return {
      hex: Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""),
      base64: btoa(String.fromCharCode(...bytes)),
    };
  }

  /** Send the next piece; the exposure's id where it was the last. XMLHttpRequest tells of progress, fetch does not. */
  #sendPiece() {
    const start = this.sent;
    const end = Math.min(start + PIECE, this.file.size);
    const request = (this.#request = new XMLHttpRequest());
    return new Promise((resolve, reject) => {
      request.open("PATCH", `/v1/uploads/${this.uploadId}`);
      request.setRequestHeader("Content-Type", "application/partial-upload");
      request.setRequestHeader("Upload-Offset", String(start));
      request.setRequestHeader("Upload-Complete", end === this.file.size ? "?1" : "?0");
      request.upload.onprogress = (event) => {
        this.sent = start + Math.min(event.loaded, end - start);
        this.#tell();
      };
      request.onerror = request.onabort = () => reject(new TypeError("the connection was lost"));
      request.onload = () => {
        const document = parsed(request.responseText);
        if (request.status >= 300) {
          reject(new ApiProblem(request.status, document, new Headers({ "retry-after": request.getResponseHeader("retry-after") ?? "" })));
          return;
        }
        this.sent = end;
        this.#tell();
        resolve(document.id ?? null);
      };
      request.send(this.file.slice(start, end));
    }).finally(() => { this.#request = null; });
  }

  /** Wait and try again after what may pass; give up with the problem otherwise. */
  async #recover(error, failures) {
    if (!(error instanceof ApiProblem)) return this.#wait(Math.min(2 ** (failures - 1), LONGEST_PAUSE_S), "The connection is lost.");
    if (error.code === "upload.offset_mismatch") return undefined; // the next round asks where to go on
    if (error.code === "upload.busy") return this.#wait(BUSY_PAUSE_S, "The service still waits for the connection before.");
    if (LOST.has(error.code) && failures === 1) {
      forget(this.uploadId);
      this.uploadId = null;
      this.sent = 0;
      return undefined;
    }
    const passes = error.status === 429 || error.status >= 502 || MAY_PASS.has(error.code);
    if (passes && error.status !== 507) return this.#wait(error.retryAfter ?? Math.min(2 ** failures, LONGEST_PAUSE_S), error.message);
    if (error.status !== 507) forget(this.uploadId); // without room now, there may be some later
    throw error;
  }

  async #wait(seconds, reason) {
    const end = Date.now() + 1000 * seconds;
    window.addEventListener("online", this.#online);
    for (let left = seconds; left > 0 && !this.#paused; left = (end - Date.now()) / 1000) {
      this.#tell(`${reason} Trying again in ${Math.ceil(left)} s.`);
      const woken = await new Promise((resolve) => {
        const timer = setTimeout(resolve, 1000 * Math.min(left, 1), false);
        this.#wake = () => { clearTimeout(timer); resolve(true); };
      });
      if (woken) break;
    }
    this.#wake = null;
    window.removeEventListener("online", this.#online);
    this.#tell();
  }

  #online = () => this.#wake?.();
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : {};
  } catch {
    return {};
  }
}
