// The text of a search result: the matching sentence with context, cut between words.

import { h } from "./dom.js";

const CONTEXT = 150; // characters shown before and after the sentence
const WORDS = new Intl.Segmenter(undefined, { granularity: "word" }); // Thai and Japanese have no spaces

/**
 * Return the nodes of an excerpt, with the sentence and its matching words highlighted.
 * @param {{text: string, sentence: boolean, match: boolean}[]} parts consecutive parts of the passage
 */
export function excerpt(parts) {
  const first = parts.findIndex((part) => part.sentence);
  const last = parts.findLastIndex((part) => part.sentence);
  if (first < 0) return highlight(parts);
  return [
    ...highlight(keepEnd(parts.slice(0, first))),
    h("span", { class: "sentence" }, ...highlight(parts.slice(first, last + 1))),
    ...highlight(keepStart(parts.slice(last + 1))),
  ];
}

/** Return the beginning of a text, in whole words. */
export const keepWords = (text) => (text.length > CONTEXT ? `${wordsBefore(text, CONTEXT)} …` : text);

const highlight = (parts) => parts.map((part) => (part.match ? h("mark", {}, part.text) : part.text));

/** Return the first CONTEXT characters of some parts, in whole words. */
const keepStart = (parts) => keep(parts, (text, length) => `${wordsBefore(text, length)} …`);

/** Return the last CONTEXT characters of some parts, in whole words. */
const keepEnd = (parts) => keep(parts.toReversed(), (text, length) => `… ${wordsFrom(text, text.length - length)}`)
  .reverse();

/** Return parts until CONTEXT characters are reached; `cut` shortens a text to at most a number of characters. */
function keep(parts, cut) {
  const kept = [];
  let length = CONTEXT;
  for (const part of parts) {
    const fits = part.text.length <= length;
    kept.push(fits ? part : { ...part, text: cut(part.text, length) });
    if (!fits) break;
    length -= part.text.length;
  }
  return kept;
}

/** Return the whole words before an offset within the text. */
function wordsBefore(text, end) {
  return text.slice(0, WORDS.segment(text).containing(end).index).trimEnd();
}

/** Return the whole words from an offset within the text. */
function wordsFrom(text, start) {
  const { index, segment } = WORDS.segment(text).containing(start - 1);
  // The full stop of the previous word is a segment of its own.
  return text.slice(index + segment.length).replace(/^[\s\p{Po}\p{Pe}\p{Pf}]+/u, "");
}
