// What all pages need: a word where a change that was asked for by htmx was refused.

const notices = document.getElementById("notices");

function tell(text) {
  const notice = document.createElement("p");
  notice.className = "notice bad";
  notice.textContent = text;
  notices.replaceChildren(notice);
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.requestConfig.verb !== "get") notices.replaceChildren();
});
document.addEventListener("htmx:responseError", (event) => {
  const { xhr, requestConfig } = event.detail;
  if (requestConfig.verb === "get") return; // a page that goes on by itself says so beside its title
  const answer = new DOMParser().parseFromString(xhr.responseText, "text/html").querySelector("[role=alert]");
  tell(answer?.textContent.trim().replace(/\s+/g, " ") || `The service answered ${xhr.status}.`);
});
document.addEventListener("htmx:sendError", (event) => {
  if (event.detail.requestConfig.verb !== "get") tell("The service does not answer. Try again.");
});
