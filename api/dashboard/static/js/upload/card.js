// A file on the page: what would be read from it, what it lacks, how far it is.

import { fileSize } from "../api.js";

const USES = { image: "image and stars", astrometry: "astrometry", photometry: "photometry" };
/** What a lack is cured by, where it is a value that can be typed. */
const CURES = { wcs: ["ra", "dec", "pixel_scale"] };

export class Card {
  /**
   * @param keys metadata that a job may give, with type, unit and doc
   * @param on {remove, pause, retry, change} called by the card's buttons and fields
   */
  constructor(file, keys, on) {
    this.keys = keys;
    this.metadata = {};
    this.on = on;
    this.element = document.getElementById("file-card").content.firstElementChild.cloneNode(true);
    this.$ = (selector) => this.element.querySelector(selector);
    this.$(".name").textContent = file.name;
    this.$(".size").textContent = fileSize(file.size);
    this.element.setAttribute("aria-label", file.name);
    this.$("progress").setAttribute("aria-label", `Progress of ${file.name}`);
    for (const name of ["remove", "pause", "retry"]) {
      this.$(`.${name}`).addEventListener("click", on[name]);
      this.$(`.${name}`).setAttribute("aria-label", `${this.$(`.${name}`).textContent} ${file.name}`);
    }
  }

  state(text, kind = "") {
    const badge = this.$(".state");
    badge.textContent = text;
    badge.className = `badge state ${kind}`;
  }

  say(text, kind = "") {
    const words = this.$(".words");
    words.className = `words ${kind}`;
    if (words.textContent !== text) words.textContent = text;
  }

  /** A sentence with a link to the job. */
  link(text, address, label) {
    const link = document.createElement("a");
    link.href = address;
    link.textContent = label;
    this.$(".words").className = "words";
    this.$(".words").replaceChildren(`${text} `, link);
  }

  progress(share) {
    this.$("progress").hidden = share === null;
    if (share !== null) this.$("progress").value = share;
  }

  buttons({ pause = null, retry = false, remove = true }) {
    this.$(".pause").hidden = pause === null;
    if (pause !== null) this.$(".pause").textContent = pause;
    this.$(".retry").hidden = !retry;
    this.$(".remove").hidden = !remove;
  }

  /** Show an InspectionDocument; `chosen` has the catalogue of each use. */
  found(document, chosen) {
    this.#verdicts(document, chosen);
    if (!this.$(".lacks").contains(window.document.activeElement)) this.#lacks(document.missing);
    if (!this.$(".read").contains(window.document.activeElement)) this.#values(document);
  }

  /** Once it is sent nothing can be changed any more. */
  freeze() {
    this.$(".lacks").replaceChildren();
    this.$(".verdicts").replaceChildren();
    this.$(".read").open = false;
    for (const field of this.$(".read").querySelectorAll("input, button")) field.disabled = true;
  }

  #verdicts(found, chosen) {
    const told = found.problem ? [] : Object.entries(found.can); // a file that cannot be used says so once
    const rows = told.map(([what, prospect]) => {
      const row = make("li", prospect.possible ? "yes" : "no");
      row.append(make("span", "mark", prospect.possible ? "✓" : "✗"), ` ${USES[what]}`);
      if (chosen[what] === "none") row.append(": no references are chosen");
      else if (!prospect.possible) row.append(`: ${[prospect.reason, prospect.remedy].filter(Boolean).join("; ")}`);
      return row;
    });
    this.$(".verdicts").replaceChildren(...rows);
  }

  #lacks(missing) {
    const fields = missing.flatMap((lack) =>
      (CURES[lack.name] ?? [lack.name]).filter((name) => name in this.keys).map((name) => {
        const box = make("div", "lack");
        const label = make("label", "", `${name.replaceAll("_", " ")} is not known `);
        if (this.keys[name].unit) label.append(make("span", "unit", this.keys[name].unit));
        const input = this.#input(name);
        label.htmlFor = input.id;
        const hint = make("p", "", `Without it ${lack.consequence}.`);
        hint.id = `${input.id}-hint`;
        input.setAttribute("aria-describedby", hint.id);
        box.append(label, input, hint);
        return box;
      }));
    this.$(".lacks").replaceChildren(...fields);
  }

  #values(found) {
    const given = Object.entries(found.metadata);
    this.$(".read").hidden = given.length === 0;
    const instrument = found.instrument.name === "generic" ? "" : ` by the preset ${found.instrument.name}`;
    const shape = found.shape ? `${found.shape[1]} × ${found.shape[0]} pixels, ` : "";
    this.$(".read summary").textContent = `${shape}${given.length} values read${instrument}`;
    this.$(".read tbody").replaceChildren(...given.map(([name, { value, origin }]) => this.#row(name, value, origin)));
  }

  #row(name, value, origin) {
    const row = document.createElement("tr");
    const unit = this.keys[name]?.unit;
    const shown = make("td", "", typeof value === "number" ? String(Number(value.toPrecision(10))) : String(value));
    if (unit) shown.append(" ", make("span", "unit", unit));
    const change = document.createElement("td");
    if (name in this.keys) {
      const button = make("button", "quiet", "change");
      button.type = "button";
      button.setAttribute("aria-label", `Change ${name.replaceAll("_", " ")}`);
      button.addEventListener("click", () => {
        const input = this.#input(name);
        input.setAttribute("aria-label", name.replaceAll("_", " "));
        input.value ||= String(value);
        shown.replaceChildren(input);
        button.hidden = true;
        input.focus();
      });
      change.append(button);
    }
    row.append(make("td", "", name.replaceAll("_", " ")), shown, make("td", origin === "job parameter" ? "own" : "dim", origin ?? ""), change);
    return row;
  }

  #input(name) {
    const input = document.createElement("input");
    input.id = `${name}-${Math.random().toString(36).slice(2)}`;
    input.maxLength = 200;
    input.autocomplete = "off";
    input.title = this.keys[name].doc;
    if (this.keys[name].type !== "text") input.inputMode = "decimal";
    input.value = this.metadata[name] ?? "";
    input.addEventListener("change", () => {
      if (input.value.trim()) this.metadata[name] = input.value.trim();
      else delete this.metadata[name];
      this.on.change();
    });
    return input;
  }
}

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
