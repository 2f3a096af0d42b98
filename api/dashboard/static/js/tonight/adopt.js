// What has changed of a part that came anew takes the place of what is shown; all else stays, and with it the focus.

/** Whether anything is another. */
export function adopt(page) {
  const summary = replaceUnlessEqual(document.getElementById("summary"), page.getElementById("summary"));
  const rows = adoptRows(document.getElementById("rows"), page.getElementById("rows"));
  return summary || rows;
}

function replaceUnlessEqual(old, fresh) {
  if (old.isEqualNode(fresh)) return false;
  const place = focusIn(old);
  old.replaceWith(document.adoptNode(fresh));
  focusOn(fresh, place);
  return true;
}

function adoptRows(old, fresh) {
  const known = new Map([...old.children].map((row) => [row.id, row]));
  let changed = false;
  let before = old.firstElementChild;
  for (const row of [...fresh.children]) {
    const mine = known.get(row.id);
    known.delete(row.id);
    if (mine && isSame(mine, row)) {
      if (mine === before) before = before.nextElementSibling;
      else old.insertBefore(mine, before);
      continue;
    }
    changed = true;
    const place = mine ? focusIn(mine) : null;
    document.adoptNode(row);
    row.classList.add("fresh");
    old.insertBefore(row, before);
    if (mine) {
      if (mine === before) before = before.nextElementSibling;
      mine.remove();
      focusOn(row, place);
    }
  }
  for (const row of known.values()) { row.remove(); changed = true; }
  return changed;
}

/** Rows that run are kept up by their own events; an opened list of warnings and a fresh row's glow do not count. */
function isSame(mine, row) {
  return mine.dataset.version === row.dataset.version && mine.dataset.look === row.dataset.look;
}

function focusIn(node) {
  const within = [...node.querySelectorAll("a, button, summary, [tabindex]")];
  return node.contains(document.activeElement) ? within.indexOf(document.activeElement) : null;
}

function focusOn(node, place) {
  if (place !== null) node.querySelectorAll("a, button, summary, [tabindex]")[Math.max(place, 0)]?.focus();
}
