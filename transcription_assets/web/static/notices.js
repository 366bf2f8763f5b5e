// Messages about failed requests.

import { ApiError, isAbort } from "./api.js";
import { announce, h } from "./dom.js";

const HEADINGS = {
  404: "Recording not found", 422: "Invalid search", 429: "Too many requests",
};
const NOT_RETRYABLE = [404, 422];

/**
 * Return a message about an error of `fetchJson`, null if the request was aborted.
 * @param {Error} error rethrown if it is of another kind
 * @param {() => void} retry
 */
export function errorNotice(error, retry) {
  if (isAbort(error)) return null;
  if (!(error instanceof ApiError)) throw error;
  announce(error.message);
  return h("section", { class: "notice" },
    h("h2", {}, HEADINGS[error.status] ?? "The archive is not available"),
    h("p", { dir: "auto" }, error.message),
    error.status === 404 ? h("p", {}, h("a", { href: "/library" }, "Open the library")) : null,
    NOT_RETRYABLE.includes(error.status) ? null : h("button", { class: "main", onclick: retry }, "Try again"));
}
