// Parts of a page that follow the service: <div data-live="/parts/x" data-kinds="phase stage" data-every="5">. A change is
// fetched at most once a second, others' doings by the clock; a hidden tab sleeps. #live says whether the page is live.

const CALM_MS = 1000;
const sign = document.getElementById("live");

function say(state) {
  if (!sign || sign.dataset.state === state) return;
  sign.dataset.state = state;
  sign.textContent = state;
}

class LivePart {
  constructor(element) {
    this.element = element;
    this.kinds = element.dataset.kinds.split(" ");
    this.asked = Date.now();
    this.timer = null;
    this.isFetching = false;
    this.isOld = false;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.sleep() : this.wake()));
    if (!document.hidden) this.wake(false);
  }

  wake(isLate = true) {
    if (isLate) this.soon();
    this.clock = setInterval(() => { this.soon(); this.listen(); }, 1000 * Number(this.element.dataset.every));
    this.listen();
  }

  sleep() {
    clearInterval(this.clock);
    this.stream?.close();
    this.stream = null;
  }

  listen() {
    if (this.stream && this.stream.readyState !== EventSource.CLOSED) return;
    this.stream = new EventSource(`/v1/events?${this.kinds.map((kind) => `kind=${kind}`).join("&")}`);
    this.stream.onopen = () => say("live");
    this.stream.onerror = () => say("reconnecting");
    for (const kind of this.kinds) this.stream.addEventListener(kind, () => this.soon());
  }

  soon() {
    if (this.timer !== null) return;
    if (this.isFetching) {
      this.isOld = true; // the answer that is on its way may be of before
      return;
    }
    this.timer = setTimeout(() => this.fetch(), Math.max(this.asked + CALM_MS - Date.now(), 0));
  }

  async fetch() {
    Object.assign(this, { asked: Date.now(), timer: null, isFetching: true, isOld: false });
    const isBusy = this.element.querySelector(".htmx-request") !== null; // a button of it was just pressed
    if (!isBusy && !document.hidden) {
      await htmx.ajax("GET", this.element.dataset.live, { source: this.element, target: this.element }).catch(() => {});
    }
    this.isFetching = false;
    if (this.isOld) this.soon();
  }
}

for (const element of document.querySelectorAll("[data-live]")) new LivePart(element);
