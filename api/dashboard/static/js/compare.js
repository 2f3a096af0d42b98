// Two images that move as one, or take turns.

const root = document.getElementById("viewers");
const BLINK_MS = 700;

function source(job) {
  const [product, plane] = document.getElementById("product").value.split(":");
  const look = new URLSearchParams({ stretch: document.getElementById("stretch").value, ...(plane ? { plane } : {}) });
  return `/v1/jobs/${job}/images/${product}/tiles.dzi?${look}`;
}

/** OpenSeadragon would put a style element into the page, which the page's policy refuses, unless it sees its own. */
function pretendStyled() {
  const sign = document.createElementNS("", "style"); // of no language: it is no style
  sign.setAttribute("data-openseadragon-mobile-css", "");
  document.head.append(sign);
}

function view(id, job) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  return window.OpenSeadragon({
    element: document.getElementById(id),
    tileSources: source(job),
    drawer: "canvas",
    showNavigationControl: false,
    animationTime: calm ? 0 : 0.3,
    imageSmoothingEnabled: false,
    maxZoomPixelRatio: 12,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  });
}

/** What one does the other does too. */
function link(first, second) {
  let leader = null;
  for (const [one, other] of [[first, second], [second, first]]) {
    const follow = () => {
      if (leader === other) return;
      leader = one;
      other.viewport.zoomTo(one.viewport.getZoom(), null, true);
      other.viewport.panTo(one.viewport.getCenter(), true);
      leader = null;
    };
    for (const event of ["zoom", "pan", "animation"]) one.addHandler(event, () => { if (other.isOpen()) follow(); });
  }
}

/** Lay out anew, and show the same part of the sky afterwards. */
function keepPlace(viewers, change) {
  const bounds = viewers[0].isOpen() ? viewers[0].viewport.getBounds(true) : null;
  change();
  requestAnimationFrame(() => {
    for (const viewer of viewers) {
      viewer.forceResize();
      if (bounds && viewer.isOpen()) viewer.viewport.fitBounds(bounds, true);
    }
  });
}

function blink(button, viewers) {
  const figures = [...root.querySelectorAll("figure")];
  let timer = null;
  const turn = () => { for (const figure of figures) figure.classList.toggle("behind"); };
  button.addEventListener("click", () => {
    const on = timer === null;
    button.setAttribute("aria-pressed", String(on));
    keepPlace(viewers, () => root.classList.toggle("blinking", on));
    for (const figure of figures) figure.classList.remove("behind");
    if (on) {
      figures[1].classList.add("behind");
      timer = setInterval(turn, BLINK_MS);
    } else {
      clearInterval(timer);
      timer = null;
    }
  });
}

if (root) {
  pretendStyled();
  const viewers = [view("viewer-a", root.dataset.a), view("viewer-b", root.dataset.b)];
  link(...viewers);
  blink(document.getElementById("blink"), viewers);
  for (const id of ["product", "stretch"]) {
    document.getElementById(id).addEventListener("change", () => {
      viewers[0].open(source(root.dataset.a));
      viewers[1].open(source(root.dataset.b));
    });
  }
}
