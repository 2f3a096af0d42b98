// The description of the interface as a page that can be tried.

const root = document.getElementById("interface");
window.SwaggerUIBundle({
  domNode: root,
  url: root.dataset.url,
  deepLinking: true,
  validatorUrl: null, // nothing is told to other hosts
});
