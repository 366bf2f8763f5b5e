// Navigation between views without a page load: history, internal links, and the lifetime of a view.

import { main } from "./dom.js";

const VIEW_PATH = /^\/($|library$|watch\/)/;

let view = new AbortController();
let render = () => {};
let openedByClick = false;

/** Return the signal that is aborted when the view changes: requests and listeners of a view end with it. */
export const viewSignal = () => view.signal;

/**
 * Return whether the user clicked a link to get here, and reset it: browsers allow playback only after a click.
 * @returns {boolean}
 */
export function takeClick() {
  const clicked = openedByClick;
  openedByClick = false;
  return clicked;
}

/** Change the URL and render its view. `replace` overwrites the current entry of the history. */
export function navigate(address, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"]({}, "", address);
  refresh();
}

/** Render the view of the current URL from scratch. */
export function refresh() {
  view.abort();
  view = new AbortController();
  render(new URL(location.href));
}

/**
 * Render the current URL, and again whenever it changes.
 * @param {(url: URL) => void} renderUrl
 */
export function startRouter(renderUrl) {
  render = renderUrl;
  addEventListener("popstate", () => {
    openedByClick = false;
    refresh();
  });
  document.addEventListener("click", followInternalLink);
  refresh();
}

function followInternalLink(event) {
  const link = event.target.closest("a[href]");
  const isPlainClick = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
  if (!link || !isPlainClick || link.hasAttribute("download") || link.target || link.origin !== location.origin) return;
  if (!VIEW_PATH.test(link.pathname) || link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  openedByClick = true;
  navigate(link.href);
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}
