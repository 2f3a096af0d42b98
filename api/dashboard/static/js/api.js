// Requests to the JSON interface, and what a problem document says in words.

export class ApiProblem extends Error {
  constructor(status, problem, headers) {
    super(words(problem, status));
    this.status = status;
    this.code = problem.code ?? "";
    this.errors = problem.errors ?? [];
    this.problem = problem;
    this.retryAfter = Number(headers?.get("retry-after")) || null;
  }
}

/** A sentence or two for a person; places of faults are named where there are any. */
export function words(problem, status) {
  const parts = [problem.detail ?? problem.title ?? `The service answered ${status}.`];
  for (const error of (problem.errors ?? []).slice(0, 4)) {
    const place = (error.pointer ?? error.parameter ?? "").replace(/^\//, "").replaceAll("/", ".");
    const said = place ? `${place}: ${error.detail}` : error.detail;
    if (!parts[0].includes(error.detail)) parts.push(`${said}.`);
  }
  if (problem.hint) parts.push(problem.hint);
  return parts.join(" ");
}

/** The JSON of an answer; rejects with ApiProblem for a refusal, and with TypeError where nothing answers. */
export async function call(method, address, { json, body, headers = {}, signal } = {}) {
  const answer = await fetch(address, {
    method,
    signal,
    headers: { Accept: "application/json", ...(json === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
    body: json === undefined ? body : JSON.stringify(json),
  });
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  const text = await answer.text();
  let document = {};
  try {
    document = text ? JSON.parse(text) : {};
  } catch { /* a proxy's page: the status has to do */ }
  if (!answer.ok) throw new ApiProblem(answer.status, document, answer.headers);
  return document;
}

/** Chance that two draws are the same: none. crypto.randomUUID is there on https only. */
export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Bytes in decimal multiples, as disks are sold. */
export function fileSize(bytes) {
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000) return `${unit === "B" || value >= 10 ? Math.round(value) : value.toFixed(1)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} TB`;
}
