// The form of a rerun: search, marks at what was changed, reset; only what was changed is sent.

import { fillHints } from "./menus.js";

const form = document.getElementById("rerun");
const search = document.getElementById("search");
const count = document.getElementById("count");
const resetButton = form.querySelector(".bar .reset");
const settings = [...form.querySelectorAll(".setting")];
const groups = [...form.querySelectorAll(".group")];
const opened = new Set(groups.filter((group) => group.open));

const entryOf = (setting) => setting.querySelector(".entry input:not([type=hidden]), .entry select, .entry textarea");
const textOf = (entry) => (entry.type === "checkbox" ? String(entry.checked) : entry.value.trim());
const isChanged = (setting) => textOf(entryOf(setting)) !== setting.dataset.value;

function mark(setting) {
  const changed = isChanged(setting);
  setting.classList.toggle("changed", changed);
  let button = setting.querySelector(".reset");
  if (changed && !button) {
    button = resetButton.cloneNode(true);
    button.setAttribute("aria-label", `Reset ${setting.querySelector("label").title}`);
    setting.querySelector(".entry").append(button);
  }
  if (button) button.hidden = !changed;
}

function tell() {
  const changed = settings.filter((setting) => setting.classList.contains("changed"));
  count.textContent = changed.length === 0 ? "" : `${changed.length} setting${changed.length > 1 ? "s" : ""} changed`;
  for (const group of groups) {
    const own = changed.filter((setting) => group.contains(setting)).length;
    group.querySelector(":scope > summary .marks").textContent = own ? `· ${own} changed` : "";
  }
}

const meanings = new Map();
function meaningOf(setting) {
  if (!meanings.has(setting)) {
    const parts = [setting.querySelector("label").title, setting.querySelector(".doc").textContent, setting.querySelector(".unit")?.textContent];
    meanings.set(setting, parts.join(" ").toLowerCase());
  }
  return meanings.get(setting);
}

function find() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const setting of settings) setting.hidden = !words.every((word) => meaningOf(setting).includes(word));
  for (const group of groups) {
    const hits = [...group.querySelectorAll(".setting")].filter((setting) => !setting.hidden).length;
    group.hidden = hits === 0;
    group.open = words.length ? hits > 0 : opened.has(group);
  }
}

function reset(setting) {
  const entry = entryOf(setting);
  if (entry.type === "checkbox") entry.checked = setting.dataset.value === "true";
  else entry.value = setting.dataset.value;
  mark(setting);
  tell();
  entry.focus();
}

form.classList.add("live");
search.hidden = false;
search.addEventListener("input", find);
search.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
form.addEventListener("input", (event) => {
  const setting = event.target.closest(".setting");
  if (!setting) return;
  mark(setting);
  tell();
});
form.addEventListener("click", (event) => {
  if (event.target.classList.contains("reset")) reset(event.target.closest(".setting"));
});
form.addEventListener("change", () => fillHints(form));
form.addEventListener("submit", () => {
  for (const setting of settings) {
    if (!isChanged(setting)) for (const field of setting.querySelectorAll("[name]")) field.disabled = true;
  }
  setTimeout(() => { for (const field of form.elements) field.disabled = false; }); // for who comes back to it
});
settings.forEach(mark);
tell();
fillHints(form);
form.querySelector("[aria-invalid]")?.focus();
