// The transcript beside the player: paragraphs of words that can be clicked.

import { fetchJson } from "./api.js";
import { h } from "./dom.js";
import { followPlayback } from "./follow.js";
import { formatTime, formatTimeWithUnits } from "./format.js";
import { NEXT_STEPS } from "./recordings.js";
import { viewSignal } from "./router.js";

const SILENCES = {
  no_speech: "No speech was detected in this recording.",
  not_understood: "Speech was detected, but no words were recognised.",
};

let shown = new AbortController(); // aborted when another transcript, or this one with other names, replaces it

/**
 * Load the transcript into an element, in place of its content, and connect it to the player.
 * @param {Object} item a recording of the API
 * @param {HTMLElement} element
 * @param {HTMLMediaElement} media
 * @param {number} start seconds at which the recording was opened
 * @param {import("./speakers.js").SpeakerPanel} speakers
 */
export async function showTranscript(item, element, media, start, speakers) {
  const view = viewSignal();
  const transcript = await fetchJson(item.links.words).catch((error) => {
    if (error.status !== 404) throw error;
    return null;
  });
  view.throwIfAborted();
  shown.abort();
  shown = new AbortController();
  element.replaceChildren();
  if (transcript?.paragraphs.length) {
    const words = renderParagraphs(transcript, element, speakers);
    followPlayback(words, element, media, start, AbortSignal.any([shown.signal, view]));
    return;
  }
  const { silence } = transcript ?? {};
  element.append(h("p", { class: "empty", "data-silence": silence },
    transcript ? SILENCES[silence] : missingTranscript(item)));
  if (!transcript) document.querySelector(".downloads")?.remove();
}

function missingTranscript({ state, step }) {
  if (state === "failed") return "There is no transcript, because processing failed.";
  return `The transcript is not available yet${NEXT_STEPS[step] ? ` (${NEXT_STEPS[step]})` : ""}.`;
}

/**
 * @typedef {{start: number, end: number, span: HTMLElement}} TimedWord times in seconds
 * @returns {TimedWord[]} the words of all paragraphs
 */
function renderParagraphs({ paragraphs, language }, element, speakers) {
  const words = [];
  const text = { dir: "auto", lang: language || null };
  element.append(...paragraphs.map((paragraph) => h("section", { class: speakers.colour(paragraph.speaker) },
    timeButton(paragraph.start),
    h("p", text, paragraph.speaker ? h("span", { class: "speaker" }, paragraph.speaker) : null,
      ...paragraph.words.flatMap((word) => renderWord(word, words))))));
  return words;
}

const timeButton = (start) => h("button", {
  class: "timestamp", "data-start": start, "aria-label": `Play from ${formatTimeWithUnits(start)}`,
}, formatTime(start));

function renderWord([start, end, text], words) {
  const span = h("span", { "data-word": words.length }, text.trimStart());
  words.push({ start, end, span });
  return text.startsWith(" ") ? [" ", span] : [span];
}
