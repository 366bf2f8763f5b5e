// Highlights the spoken word in the transcript, scrolls to it, and seeks to words that are clicked.

import { h, main } from "./dom.js";

const SENTENCE_END = /[.?!…。？！؟]["'”’)]*$/;
const START_TOLERANCE_S = 0.02;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Connect the words of a transcript to the player.
 * @param {import("./transcript.js").TimedWord[]} words
 * @param {HTMLElement} transcript its children are the paragraphs
 * @param {HTMLMediaElement} media
 * @param {number} start seconds at which the recording was opened; the sentence there is highlighted, unless it is 0
 * @param {AbortSignal} signal ends it
 */
export function followPlayback(words, transcript, media, start, signal) {
  const follower = new Follower(words, transcript, media, signal);
  const first = follower.wordAt(start + 0.05);
  if (start && first) highlightSentence(words, words.indexOf(first));
  follower.update();
  if (start) first?.span.scrollIntoView({ block: "center" });
  if (!media.paused) follower.updateEachFrame();
}

/** Highlight from a word to the end of its sentence, in one element, so that the spaces are highlighted too. */
function highlightSentence(words, first) {
  const { span } = words[first];
  let last = first;
  while (!SENTENCE_END.test(words[last].span.textContent)
    && words[last + 1]?.span.parentNode === span.parentNode) last += 1;
  const range = document.createRange();
  range.setStartBefore(span);
  range.setEndAfter(words[last].span);
  range.surroundContents(h("span", { class: "highlight" }));
}

class Follower {
  current = null; // the highlighted word
  scrolls = true; // false once the user has scrolled away
  resume = h("button", { class: "main follow", hidden: true, onclick: () => {
    this.setScrolls(true);
    this.reveal();
  } }, "Follow playback");

  constructor(words, transcript, media, signal) {
    Object.assign(this, { words, transcript, media, paragraphs: [...transcript.children], signal });
    main.append(this.resume);
    signal.addEventListener("abort", () => this.resume.remove());
    media.addEventListener("play", () => this.updateEachFrame(), { signal });
    for (const event of ["seeked", "seeking", "timeupdate", "loadedmetadata"]) {
      media.addEventListener(event, () => this.update(), { signal });
    }
    transcript.addEventListener("click", (event) => this.seekToClicked(event.target), { signal });
    for (const event of ["wheel", "touchmove"]) {
      addEventListener(event, () => this.stopScrolling(), { passive: true, signal });
    }
  }

  /** Return the last word that has begun, null before the first one: it stays highlighted in the pause after it. */
  wordAt(seconds) {
    let [low, high] = [0, this.words.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.words[middle].start <= seconds + START_TOLERANCE_S) low = middle + 1;
      else high = middle;
    }
    return this.words[low - 1] ?? null;
  }

  update() {
    const word = this.wordAt(this.media.currentTime);
    if (word === this.current) return;
    const previous = this.current?.span;
    const line = previous?.offsetTop;
    this.current = word;
    previous?.classList.remove("current");
    word?.span.classList.add("current");
    const paragraph = word?.span.closest("section");
    if (paragraph !== previous?.closest("section")) this.dimParagraphsBefore(paragraph);
    if (this.scrolls && word && word.span.offsetTop !== line) this.reveal();
  }

  updateEachFrame() {
    if (this.signal.aborted || !this.transcript.isConnected) return;
    this.update();
    if (!this.media.paused) requestAnimationFrame(() => this.updateEachFrame());
  }

  dimParagraphsBefore(paragraph) {
    const current = this.paragraphs.indexOf(paragraph);
    this.paragraphs.forEach((each, index) => each.classList.toggle("past", index < current));
  }

  reveal() {
    this.current?.span.scrollIntoView({ block: "center", behavior: reducedMotion.matches ? "auto" : "smooth" });
  }

  seekToClicked(element) {
    const target = element.closest("[data-word], [data-start]");
    if (!target || String(getSelection())) return;
    this.setScrolls(true);
    const { start, word } = target.dataset;
    this.media.currentTime = start ? Number(start) : this.words[word].start;
    this.media.play().catch(() => {});
  }

  stopScrolling() {
    if (!this.media.paused) this.setScrolls(false);
  }

  setScrolls(scrolls) {
    this.scrolls = scrolls;
    this.resume.hidden = scrolls;
  }
}
