// Messages about failed requests.

import { ApiError, isAbort } from "./api.js";
import { announce, h } from "./dom.js";

const HEADINGS = {
  404: "There is no such recording", 422: "That cannot be searched for", 429: "That was a little fast",
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
    h("h2", {}, HEADINGS[error.status] ?? "The archive cannot be read right now"),
    h("p", { dir: "auto" }, error.message),
    error.status === 404 ? h("p", {}, h("a", { href: "/library" }, "See what there is")) : null,
    NOT_RETRYABLE.includes(error.status) ? null : h("button", { class: "main", onclick: retry }, "Try again"));
}
