// Controls below the player: link to a time, speed, full screen, downloads and keyboard shortcuts.

import { announce, h } from "./dom.js";
import { formatTime } from "./format.js";
import { viewSignal } from "./router.js";

const SKIP_S = 5;
const SPEEDS = [0.75, 1, 1.25, 1.5, 1.75, 2];

export function playerControls({ media, mutedVideo }) {
  const hasOwnFullScreen = mutedVideo && document.fullscreenEnabled;
  return h("div", { class: "controls" }, copyLinkButton(media), speedSelect(media),
    hasOwnFullScreen ? fullScreenButton(media) : null);
}

export function downloadLinks(item) {
  const name = item.key.split("/").pop();
  return h("p", { class: "downloads" }, "Download", ...Object.entries(item.links.transcripts).map(([format, address]) =>
    h("a", { href: address, download: `${name}.${format}` }, format.toUpperCase())));
}

export const shortcutHelp = () => h("p", { class: "hint" },
  h("kbd", {}, "space"), " play or pause  ", h("kbd", {}, "←"), " ", h("kbd", {}, "→"), ` ${SKIP_S} seconds  `,
  h("kbd", {}, "/"), " search  ", h("kbd", {}, "esc"), " back");

export function startPlayerShortcuts(media) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target === media || event.target.matches("input, select, button, a")) return;
    if (event.key === " ") media.paused ? media.play() : media.pause();
    else if (event.key === "ArrowLeft") media.currentTime -= SKIP_S;
    else if (event.key === "ArrowRight") media.currentTime += SKIP_S;
    else return;
    event.preventDefault();
  }, { signal: viewSignal() });
}

function copyLinkButton(media) {
  const button = h("button", { class: "small", onclick: () => copyLink(media, button) });
  const showTime = () => { button.textContent = `Copy link at ${formatTime(media.currentTime)}`; };
  for (const event of ["timeupdate", "seeked"]) media.addEventListener(event, showTime);
  showTime();
  return button;
}

/** Copy a link to the current time; if the browser does not allow that, write it into the address bar. */
async function copyLink(media, button) {
  const link = new URL(location.href);
  link.search = `?t=${media.currentTime.toFixed(2)}`;
  try {
    await navigator.clipboard.writeText(link.href);
    button.textContent = "Link copied";
    announce("Link copied");
  } catch {
    history.replaceState({}, "", link);
    button.textContent = "Link is in the address bar";
  }
}

function speedSelect(media) {
  const field = h("select", { "aria-label": "Playback speed", onchange: () => {
    media.defaultPlaybackRate = media.playbackRate = Number(field.value); // the default remains when a link is renewed
  } }, ...SPEEDS.map((speed) => h("option", { value: speed, selected: speed === 1 }, `${speed}×`)));
  return field;
}

/** Return a button that enlarges sound and muted video together. */
const fullScreenButton = (media) => h("button", { class: "small", onclick: () => {
  media.parentElement.requestFullscreen().catch(() => {});
} }, "Full screen");
