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
export async function fetchJson(path, signal = viewSignal()) {
  const response = await send(path, signal);
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

async function send(path, signal) {
  try {
    return await fetch(path, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(0, "The server does not respond. Check that it is running.");
  }
}
