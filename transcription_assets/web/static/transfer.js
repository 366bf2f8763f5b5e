// One upload by the tus protocol: in chunks, with progress, and continued after a pause, a lost connection or a reload.

import { ApiError, fetchJson, isAbort } from "./api.js";

const CHUNK = 16 << 20;
const LONGEST_PAUSE_MS = 30_000;
const POLL_MS = 1000;
const TUS = { "tus-resumable": "1.0.0" };
const LOST = [404, 410];
const REFUSED = [413, 415, 422, ...LOST]; // the same upload cannot continue

/**
 * The transfer of a file. `state` is `waiting`, `sending`, `paused`, `interrupted` (it continues by itself), `checking`,
 * `done` or `failed`; `message` says why it is interrupted or failed. `onchange` is called after each change.
 */
export class Transfer {
  state = "waiting";
  message = "";
  sent = 0;
  page = ""; // URL path of the recording, once it is done
  attempts = 0;
  isRefused = false;

  constructor(file, onchange) {
    Object.assign(this, { file, onchange });
    this.memory = `upload ${file.name} ${file.size} ${file.lastModified}`;
    this.address = remembered(this.memory);
  }

  get isActive() {
    return ["sending", "interrupted"].includes(this.state);
  }

  get isUnfinished() {
    return this.isActive || ["waiting", "paused", "checking"].includes(this.state);
  }

  /** Send what the server does not have yet. */
  async start() {
    clearTimeout(this.timer);
    this.change("sending");
    try {
      await this.open();
      while (this.sent < this.file.size) await this.sendChunk();
      this.change("checking");
      await this.follow();
    } catch (error) {
      this.stop(error);
    }
  }

  pause() {
    this.change("paused");
    this.interrupt();
  }

  /** End the transfer, and delete what the server has received. */
  async cancel() {
    this.change("cancelled");
    this.interrupt();
    forget(this.memory);
    if (this.address) await this.ask("DELETE", this.address).catch(() => {}); // it expires
  }

  /** Refuse the file without sending it. */
  refuse(message) {
    this.isRefused = true;
    this.change("failed", message);
  }

  interrupt() {
    clearTimeout(this.timer);
    this.request?.abort();
  }

  /** Find out how much the server has; begin a new upload if it has none. */
  async open() {
    if (this.address) {
      try {
        const answer = await this.ask("HEAD", this.address);
        this.sent = Number(answer.getResponseHeader("upload-offset"));
        return;
      } catch (error) {
        if (!LOST.includes(error.status)) throw error;
        forget(this.memory);
      }
    }
    this.sent = 0;
    const metadata = `filename ${base64(this.file.name)},filetype ${base64(this.file.type)}`;
    const answer = await this.ask("POST", "/api/uploads",
      { "upload-length": this.file.size, "upload-metadata": metadata });
    this.address = answer.getResponseHeader("location");
    remember(this.memory, this.address);
  }

  async sendChunk() {
    const start = this.sent;
    const answer = await this.ask("PATCH", this.address,
      { "upload-offset": start, "content-type": "application/offset+octet-stream" },
      this.file.slice(start, start + CHUNK), (loaded) => {
        this.sent = start + loaded;
        this.onchange(this);
      });
    this.sent = Number(answer.getResponseHeader("upload-offset"));
    this.attempts = 0;
    this.onchange(this);
  }

  /** Wait until the server has checked the file and put it into the inbox. */
  async follow() {
    for (;;) {
      const found = await fetchJson(this.address, null);
      if (this.state !== "checking") return;
      if (found.state === "failed") throw new ApiError(422, found.reason);
      if (found.state === "landed") {
        forget(this.memory);
        this.page = found.page;
        this.change("done");
        return;
      }
      if (found.reason !== this.message) this.change("checking", found.reason);
      await new Promise((resolve) => { setTimeout(resolve, POLL_MS); });
    }
  }

  stop(error) {
    if (isAbort(error)) return;
    if (!(error instanceof ApiError)) throw error;
    if ([401, 403].includes(error.status)) {
      this.change("failed", "Sign in again, then retry. What the server has received is kept.");
      return;
    }
    if (REFUSED.includes(error.status)) {
      forget(this.memory);
      this.address = null;
      this.change("failed", error.message);
      return;
    }
    const pause = Math.min(LONGEST_PAUSE_MS, 1000 * 2 ** this.attempts);
    this.attempts += 1;
    this.timer = setTimeout(() => this.start(), pause);
    this.change("interrupted", error.status ? error.message : "The connection is lost.");
  }

  change(state, message = "") {
    Object.assign(this, { state, message });
    this.onchange(this);
  }

  /** Send a request of the protocol; unlike `fetch`, XMLHttpRequest tells how much of a body is sent. */
  ask(method, address, headers = {}, body = null, onprogress = null) {
    const request = this.request = new XMLHttpRequest();
    request.open(method, address);
    for (const [name, value] of Object.entries({ ...TUS, ...headers })) request.setRequestHeader(name, value);
    if (onprogress) request.upload.onprogress = ({ loaded }) => onprogress(loaded);
    return new Promise((resolve, reject) => {
      request.onload = () => (request.status < 300 ? resolve(request) : reject(refusal(request)));
      request.onerror = () => reject(new ApiError(0, "The server does not respond."));
      request.onabort = () => reject(new DOMException("interrupted", "AbortError"));
      request.send(body);
    });
  }
}

function refusal(request) {
  let message = `The server responded with status ${request.status}.`;
  try {
    message = JSON.parse(request.responseText).detail;
  } catch {
    // A proxy answered, or the response has no body.
  }
  return new ApiError(request.status, message);
}

const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

// Without storage (private windows) an upload is not continued after a reload.
function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function remember(name, address) {
  try {
    localStorage.setItem(name, address);
  } catch {
    // See above.
  }
}

function forget(name) {
  try {
    localStorage.removeItem(name);
  } catch {
    // See above.
  }
}
