// Copy the new token, and ask before one is ended.

const secret = document.getElementById("secret");

async function copy() {
  const said = document.getElementById("copied");
  secret.select();
  try {
    await navigator.clipboard.writeText(secret.value); // absent without TLS, except on this machine
    said.textContent = "Copied.";
  } catch {
    said.textContent = "It is selected: copy it with Ctrl+C.";
  }
}

document.getElementById("copy")?.addEventListener("click", copy);
for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => { if (!confirm(form.dataset.confirm)) event.preventDefault(); });
}
