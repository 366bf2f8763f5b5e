// Requests to the JSON API.

import { viewSignal } from "./router.js";

/** A failed request. `status` is the HTTP status, 0 without a response; `message` is a sentence for users. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * Return the JSON document at a path. Without authentication the sign-in page opens instead.
 * @param {string} path
 * @param {AbortSignal|null} signal by default the request ends with the view
 * @throws {ApiError}
 * @throws {DOMException} an AbortError if the signal was aborted or the sign-in page opens
 */
export const fetchJson = (path, signal = viewSignal()) => request(path, { signal });

/**
 * Send a change, and return the JSON document that answers it; it is completed even if the view changes.
 * @param {string} method
 * @param {string} path
 * @param {Object} [body]
 * @throws {ApiError}
 */
export const sendJson = (method, path, body) => request(path, { method,
  ...(body ? { body: JSON.stringify(body), headers: { "content-type": "application/json" } } : {}) });

async function request(path, options) {
  const response = await send(path, options);
  if (response.status === 401) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    throw new DOMException("signing in", "AbortError");
  }
  const body = await response.json().catch((error) => {
    if (isAbort(error)) throw error;
    const message = response.ok ? "The response is incomplete."
      : `The server responded with status ${response.status}.`;
    throw new ApiError(response.status, message);
  });
  if (!response.ok) throw new ApiError(response.status, body.detail);
  return body;
}

/** Return whether an error only says that its result is no longer needed. */
export const isAbort = (error) => error.name === "AbortError";

async function send(path, options) {
  try {
    return await fetch(path, { ...options, headers: { accept: "application/json", ...options.headers } });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(0, "The server does not respond. Check that it is running.");
  }
}
