// A catalogue on its way in: sent by PUT, with its progress.

import { words } from "./api.js";

const form = document.getElementById("add");
const field = (id) => document.getElementById(id);

function say(text, look = "") {
  field("said").textContent = text;
  field("said").className = look && `notice ${look}`;
}

function suggestName() {
  const file = field("file").files[0];
  if (file && !field("name").value) {
    field("name").value = file.name.replace(/\.(fits\.gz|[^.]+)$/, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 100);
  }
}

function address() {
  const query = new URLSearchParams();
  for (const name of ["columns", "epoch"]) if (field(name).value.trim()) query.set(name, field(name).value.trim());
  return `/v1/refcats/${encodeURIComponent(field("name").value.trim())}?${query}`;
}

function sending(request) {
  field("send").disabled = request !== null;
  field("stop").hidden = field("sending").hidden = request === null;
  field("stop").onclick = () => request?.abort();
}

function send(file) {
  const request = new XMLHttpRequest(); // fetch tells nothing of what was sent
  const end = (text, look) => { sending(null); say(text, look); };
  request.open("PUT", address());
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.onprogress = (event) => {
    if (event.lengthComputable) field("progress").value = event.loaded / event.total;
    if (event.loaded === event.total) { field("progress").removeAttribute("value"); say("Sent; the service reads it."); }
  };
  request.onload = () => {
    if (request.status === 401) { location.assign("/login?next=/refcats"); return; }
    let document_ = {};
    try { document_ = JSON.parse(request.responseText); } catch { /* a proxy's page: the status has to do */ }
    if (request.status >= 400) { end(words(document_, request.status), "bad"); return; }
    const isNew = request.status === 201;
    end(isNew ? `${document_.name} is there, with ${document_.rows} stars.` : `${document_.name} was there already, with the same content.`, "good");
    form.reset();
    htmx.ajax("GET", "/parts/refcats", "#refcats");
  };
  request.onerror = () => end("The connection broke. Try again.", "bad");
  request.onabort = () => end("Stopped; nothing was kept.");
  field("progress").value = 0;
  sending(request);
  say("");
  request.send(file);
}

if (form) {
  field("file").addEventListener("change", suggestName);
  form.addEventListener("submit", (event) => { event.preventDefault(); send(field("file").files[0]); });
}
