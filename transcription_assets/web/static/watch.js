// Watch view: one recording with its player and transcript.

import { fetchJson, isAbort } from "./api.js";
import { downloadLinks, playerControls, shortcutHelp, startPlayerShortcuts } from "./controls.js";
import { h, main, showView } from "./dom.js";
import { errorNotice } from "./notices.js";
import { createPlayer } from "./player.js";
import { failureReason, originLine, recordingFacts } from "./recordings.js";
import { refresh, takeClick } from "./router.js";
import { showSlides } from "./slides.js";
import { SpeakerPanel } from "./speakers.js";
import { showTranscript } from "./transcript.js";

/**
 * @param {string} path the media key, percent-encoded
 * @param {URLSearchParams} params `t` is the start in seconds
 */
export async function showRecording(path, params) {
  const autoplay = takeClick();
  const start = startTime(params);
  showView(document.title);
  try {
    const item = await fetchJson(`/api/media/${path}`);
    if (item.state === "failed" && item.step === "video") showView(item.title, unplayableNotice(item));
    else await play(item, start, autoplay);
  } catch (error) {
    const notice = errorNotice(error, refresh);
    if (notice) showView("Recording", notice);
  }
}

function startTime(params) {
  const seconds = Number(params.get("t"));
  return Number.isFinite(seconds) ? Math.max(0, seconds) : 0;
}

async function play(item, start, autoplay) {
  const player = createPlayer(item, start, autoplay);
  const slides = h("section", { class: "slides", "aria-label": "Slides", hidden: true });
  const transcript = h("section", { class: "transcript", "aria-label": "Transcript", tabindex: "0" });
  showView(item.title, h("div", { class: "stage" },
    h("div", { class: "player" }, player.cover, player.media, player.mutedVideo),
    h("div", {}, h("h1", {}, h("bdi", {}, item.title)), h("p", { class: "facts" }, ...recordingFacts(item)),
      h("p", { class: "facts" }, h("a", { href: `/?${new URLSearchParams({ recording: item.key })}` },
        "Search in this recording")),
      originLine(item), failureReason(item), playerControls(player), downloadLinks(item), slides, shortcutHelp())),
  transcript);
  main.className = "watch";
  startPlayerShortcuts(player.media);
  const speakers = new SpeakerPanel(item.links.speakers, player.media,
    () => showTranscript(item, transcript, player.media, 0, speakers));
  main.querySelector(".stage > :last-child").append(speakers.element);
  await speakers.load().catch((error) => {
    if (isAbort(error)) throw error;
    // Other errors are ignored: without speakers the transcript is complete.
  });
  await Promise.all([
    showTranscript(item, transcript, player.media, start, speakers),
    showSlides(item, slides, player.media),
  ]);
}

function unplayableNotice(item) {
  return h("section", { class: "notice" }, h("h1", {}, h("bdi", {}, item.title)),
    h("p", { class: "facts" }, ...recordingFacts(item)), originLine(item), failureReason(item),
    h("p", {}, h("a", { href: "/library?state=failed" }, "Show all failed recordings")));
}
