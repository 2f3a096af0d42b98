// The page of a job: what is live on it; the image has modules of its own.

import { call } from "../api.js";
import { Follower, hasEnded } from "../follow.js";

const job = document.getElementById("job").dataset.job;

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.abort) abort(button);
  if (button?.dataset.copy) copy(button);
});

async function abort(button) {
  if (!confirm("Abort this job? What it has reached is kept.")) return;
  button.disabled = true;
  try {
    await call("DELETE", `/v1/jobs/${job}`);
  } catch (error) {
    const said = document.getElementById("abort-problem");
    said.textContent = error.message;
    said.hidden = false;
    button.disabled = false;
  }
}

async function copy(button) {
  const text = document.getElementById(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch { // without https the clipboard is closed: mark the text instead
    getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
  }
}

if (document.getElementById("status").dataset.active === "yes") {
  const follower = new Follower((state) => {
    const sign = document.getElementById("live");
    if (sign) sign.textContent = state;
  });
  follower.follow(job, (document_) => {
    if (hasEnded(document_)) location.reload();
    else window.htmx?.ajax("GET", `/parts/jobs/${job}/status`, { target: "#status", swap: "outerHTML" });
  });
}

const viewer = document.getElementById("viewer");
if (viewer) import("./viewer.js").then(({ openViewer }) => openViewer(viewer, job));
