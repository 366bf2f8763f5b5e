// The uploads of the library view: files are chosen or dropped, and go on while other views are shown.

import { announce, h } from "./dom.js";
import { formatBytes, formatCount } from "./format.js";
import { viewSignal } from "./router.js";
import { Transfer } from "./transfer.js";

const AT_ONCE = 2;
const STATES = {
  waiting: "Waiting", sending: "Uploading", paused: "Paused", interrupted: "Interrupted, will continue",
  checking: "Checking", done: "Uploaded", failed: "Failed",
};

let rules = null; // the response of /api/uploads
let onlanded = () => {};
const transfers = new Map(); // rows by transfer
const list = h("ul", { class: "uploads-list", "aria-label": "Uploads" });
const picker = h("input", { type: "file", multiple: true, hidden: true, onchange: () => {
  add(picker.files);
  picker.value = ""; // so that the same file can be chosen again
} });
const panel = h("section", { class: "uploads", "aria-label": "Upload" },
  h("p", {}, h("button", { class: "small", onclick: () => picker.click() }, "Upload recordings"),
    h("span", { class: "hint" }, "or drop files here")), picker, list);

/**
 * Return the panel, and take files that are dropped onto the page until the view changes.
 * @param {{max_bytes: number, suffixes: string[]}} found
 * @param {() => void} onchange called after a recording has landed in the inbox
 */
export function uploadPanel(found, onchange) {
  rules = found;
  onlanded = onchange;
  picker.accept = ["audio/*", "video/*", ...rules.suffixes].join(",");
  const signal = viewSignal();
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    panel.classList.add("dropping");
  }, { signal });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) panel.classList.remove("dropping");
  }, { signal });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    panel.classList.remove("dropping");
    add(event.dataTransfer.files, folderNames(event.dataTransfer.items));
  }, { signal });
  return panel;
}

addEventListener("beforeunload", (event) => {
  if ([...transfers.keys()].some((one) => one.isActive)) event.preventDefault();
});
addEventListener("online", () => {
  for (const transfer of transfers.keys()) if (transfer.state === "interrupted") transfer.start();
});

const folderNames = (items) => new Set([...items].map((item) => item.webkitGetAsEntry?.())
  .filter((entry) => entry?.isDirectory).map(({ name }) => name));

function add(files, folders = new Set()) {
  for (const file of files) {
    const transfer = new Transfer(file, show);
    if ([...transfers.keys()].some((one) => one.memory === transfer.memory && one.isUnfinished)) continue;
    const row = h("li", {});
    transfers.set(transfer, row);
    list.append(row);
    const reason = refusal(file, folders);
    if (reason) transfer.refuse(reason);
    else show(transfer);
  }
  const waiting = [...transfers.keys()].filter(({ state }) => state === "waiting").length;
  if (waiting) announce(`${formatCount(waiting, "file")} will be uploaded`);
  startNext();
}

/** Return why the server would refuse a file, "" if it may accept it. */
function refusal(file, folders) {
  const suffix = file.name.slice(file.name.lastIndexOf(".")).toLowerCase();
  if (folders.has(file.name)) return "This is a folder. Drop its files.";
  if (!rules.suffixes.includes(suffix) && !/^(audio|video)\//.test(file.type)) {
    return "This is neither an audio nor a video file.";
  }
  if (!file.size) return "The file is empty.";
  return file.size > rules.max_bytes ? `The file is larger than ${formatBytes(rules.max_bytes)}.` : "";
}

function startNext() {
  const all = [...transfers.keys()];
  const free = AT_ONCE - all.filter((one) => one.isActive).length;
  for (const transfer of all.filter(({ state }) => state === "waiting").slice(0, Math.max(0, free))) transfer.start();
}

/** Display a transfer. Its row is built anew only if its state has changed, to keep the focus. */
function show(transfer) {
  const row = transfers.get(transfer);
  if (!row) return;
  const { state, file, message } = transfer;
  const percent = Math.floor(100 * transfer.sent / (file.size || 1));
  const label = `${state}: ${message}`;
  if (row.dataset.label !== label) {
    row.dataset.label = label;
    row.dataset.state = state;
    const hadFocus = row.contains(document.activeElement);
    row.replaceChildren(...parts(transfer));
    if (hadFocus) row.querySelector("button, a")?.focus();
    if (state === "done" || state === "failed" || (state === "interrupted" && transfer.attempts === 1)) {
      announce(`${file.name}: ${STATES[state]}. ${message}`);
    }
    if (state === "done") onlanded();
    if (["done", "failed", "paused", "checking"].includes(state)) startNext();
  }
  const bar = row.querySelector("progress");
  if (bar) bar.value = percent;
  const amount = row.querySelector(".amount");
  if (amount) amount.textContent = `${formatBytes(transfer.sent)} of ${formatBytes(file.size)} · ${percent} %`;
}

function parts(transfer) {
  const { state, file, message } = transfer;
  const isUnfinished = !["done", "failed"].includes(state);
  const name = state === "done" ? h("a", { href: transfer.page }, h("bdi", {}, file.name)) : h("bdi", {}, file.name);
  const button = (label, onclick) => h("button", { class: "small", "aria-label": `${label} ${file.name}`, onclick }, label);
  return [
    h("span", { class: "upload-name" }, name),
    isUnfinished ? h("progress", { max: 100, "aria-label": `Upload of ${file.name}` }) : null,
    h("span", { class: "hint" }, STATES[state], " ", isUnfinished ? h("span", { class: "amount" }) : null),
    state === "sending" || state === "interrupted" ? button("Pause", () => transfer.pause()) : null,
    state === "paused" ? button("Resume", () => transfer.start()) : null,
    state === "interrupted" ? button("Retry", () => transfer.start()) : null,
    state === "failed" && file.size && !transfer.isRefused ? button("Retry", () => transfer.start()) : null,
    isUnfinished && state !== "checking" ? button("Cancel", () => remove(transfer, true))
      : button("Remove", () => remove(transfer, false)),
    message ? h("p", { class: state === "failed" ? "error" : "hint", dir: "auto" }, message) : null,
  ].filter(Boolean);
}

function remove(transfer, isUnfinished) {
  const row = transfers.get(transfer);
  transfers.delete(transfer);
  row.remove();
  panel.querySelector("button").focus();
  if (isUnfinished) transfer.cancel();
  startNext();
}
