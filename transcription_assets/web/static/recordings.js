// How a recording of the API is displayed in every view.

import { h, inlineList } from "./dom.js";
import { formatDate, formatTime, languageName } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

/** What the next step of an unfinished recording does. */
export const NEXT_STEPS = {
  video: "next: read metadata", audio: "next: extract audio", transcript: "next: transcribe",
  embeddings: "next: index for search",
};

/** Return folder, duration, language and date as nodes. */
export const recordingFacts = (item) => inlineList(item.folder, item.duration && formatTime(item.duration),
  languageName(item.language), formatDate(item.modified));

/** Return where a source found a recording, with a link to its page; null if it was put into the inbox by hand. */
export function originLine({ origin }) {
  if (!origin) return null;
  const name = origin.source_title || origin.source;
  const page = origin.link ? h("a", { href: origin.link, rel: "noopener noreferrer external" }, h("bdi", {}, name)) : name;
  const day = origin.recorded && formatDate(origin.recorded);
  return h("p", { class: "facts origin" }, "From ", page, day ? ` · ${day}` : null,
    origin.licence ? " · " : null, origin.licence ? h("bdi", {}, origin.licence) : null);
}

/** Return why a recording failed, null if it did not. */
export function failureReason(item) {
  if (!item.reason) return null;
  const reason = item.reason.replace(`${item.key}: `, ""); // the title is displayed beside it
  return h("p", { class: "failure", dir: "auto" }, h("strong", {}, `${item.step}: `), reason,
    item.transient ? " It will be retried automatically." : "");
}

/**
 * Return the picture of a recording, a waveform if it has none.
 * @param {string} poster URL, "" without a picture
 * @param {number|null} seconds a time to display in the corner
 */
export function thumbnail(poster, seconds) {
  const frame = h("div", { class: "thumbnail", "aria-hidden": "true" }, poster ? picture(poster) : waveform());
  if (seconds !== null) frame.append(h("time", {}, formatTime(seconds)));
  return frame;
}

function picture(poster) {
  const image = h("img", { src: poster, alt: "", loading: "lazy", width: "320", height: "180" });
  image.addEventListener("error", () => image.replaceWith(waveform()));
  return image;
}

function waveform() {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 32 32");
  path.setAttribute("d", "M4 13v6M9 9v14M14 12v8M19 6v20M24 11v10M29 14v4");
  for (const [name, value] of [["stroke", "currentColor"], ["stroke-width", "2"], ["stroke-linecap", "round"]]) {
    path.setAttribute(name, value);
  }
  svg.append(path);
  return svg;
}
