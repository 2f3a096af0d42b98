// Menus that say what the chosen entry means, and are remembered by this browser.

const KEY = "visitcal.choices";

export function fillHints(form) {
  for (const menu of form.querySelectorAll("select")) {
    const hint = document.getElementById(`${menu.id}-hint`);
    if (hint) hint.textContent = menu.selectedOptions[0]?.dataset.hint ?? "";
  }
}

export function keepChoices(form, names) {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch { /* nothing is kept */ }
  for (const name of names) {
    const field = form.elements[name];
    const known = field.tagName !== "SELECT" || [...field.options].some((option) => option.value === kept[name]);
    if (typeof kept[name] === "string" && known) field.value = kept[name];
  }
  form.addEventListener("change", () => {
    try {
      localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(names.map((name) => [name, form.elements[name].value]))));
    } catch { /* private windows keep nothing */ }
  });
}
