// The player: sources, subtitles, start time, and playback of recordings that browsers play at other seconds.

import { announce, h } from "./dom.js";
import { viewSignal } from "./router.js";

const LINK_LIFETIME_MS = 50 * 60_000; // signed URLs of a bucket are valid for an hour
const RETRY_MS = 60_000;
const POSITION_TOLERANCE_S = 0.05;
const DRIFT_TOLERANCE_S = 0.25; // a smaller difference between sound and picture is not noticed
const MISSED_SEEK_S = 2;
const LATEST_ZERO_START_S = 0.1;

/**
 * Return the player of a recording, not yet playing unless `autoplay` is set and the browser allows it.
 * @param {Object} item a recording of the API
 * @param {number} start in seconds
 * @param {boolean} autoplay
 * @returns {{media: HTMLMediaElement, cover: ?HTMLElement, mutedVideo: ?HTMLVideoElement}} `cover` is the picture of an
 *   audio recording; `mutedVideo` is shown in front of `media` if that plays the sound alone
 */
export function createPlayer(item, start, autoplay) {
  const kind = item.has_picture ? "video" : "audio";
  const media = h(kind, { controls: true, preload: "metadata", playsinline: true, "aria-label": item.title });
  const cover = item.has_picture || !item.poster ? null : h("img", { class: "cover", src: item.poster, alt: "" });
  const isExact = item.plays === "recording";
  if (kind === "video" && item.poster && !start && isExact) media.poster = item.poster;
  media.append(...sources(item, isExact), h("track", {
    kind: "subtitles", src: item.links.transcripts.vtt, srclang: item.language || "en", label: "Subtitles",
  }));
  keepPosition(media, start);
  renewLinks(media);
  if (autoplay) media.play().catch(() => announce("Press play to start."));
  stopWithView(media);
  const mutedVideo = kind === "video" && !isExact ? createMutedVideo(item, media) : null;
  // The browser's own button would enlarge the sound without its picture.
  if (mutedVideo) media.setAttribute("controlslist", "nofullscreen");
  return { media, cover, mutedVideo };
}

/** Return recording and extracted sound in the order of preference; the browser plays the first one it can. */
function sources({ links }, isExact) {
  const recording = h("source", { src: links.media });
  const sound = h("source", { src: links.sound, type: "audio/flac" });
  return isExact ? [recording, sound] : [sound, recording];
}

/** Start at a time, and return to the last position whenever the media is loaded again. */
function keepPosition(media, start) {
  let position = start;
  media.addEventListener("loadedmetadata", () => {
    if (Math.abs(media.currentTime - position) > POSITION_TOLERANCE_S) media.currentTime = position;
  });
  media.addEventListener("timeupdate", () => {
    if (media.readyState > HTMLMediaElement.HAVE_METADATA) position = media.currentTime;
  });
  media.addEventListener("seeking", () => { position = media.currentTime; });
}

/** Load the media again before its signed URL expires: browsers retry an expired one for half a minute. */
function renewLinks(media) {
  let loadedAt = Date.now();
  const renew = (minimumAge) => {
    if (Date.now() - loadedAt < minimumAge) return;
    loadedAt = Date.now();
    const wasPlaying = !media.paused;
    media.load();
    if (wasPlaying) media.play().catch(() => {});
  };
  for (const event of ["seeking", "waiting"]) media.addEventListener(event, () => renew(LINK_LIFETIME_MS));
  media.addEventListener("error", () => {
    if (media.error?.code === MediaError.MEDIA_ERR_NETWORK) renew(RETRY_MS);
  });
}

function stopWithView(media) {
  viewSignal().addEventListener("abort", () => {
    media.pause();
    media.removeAttribute("src");
  });
}

/** Return the muted recording, which follows the extracted sound; the poster replaces it if it cannot. */
function createMutedVideo(item, sound) {
  const video = h("video", { class: "muted", preload: "auto", playsinline: true, src: item.links.media,
    tabindex: "-1", "aria-hidden": "true" });
  video.muted = true;
  let clockStart = null; // time of the first frame: some browsers show the timestamps of the file
  const follow = () => {
    if (clockStart === null || video.seeking) return;
    const position = sound.currentTime + clockStart;
    if (Math.abs(video.currentTime - position) > DRIFT_TOLERANCE_S) video.currentTime = position;
  };
  const giveUp = () => {
    video.remove();
    if (item.poster) sound.poster = item.poster;
  };
  video.addEventListener("loadeddata", () => {
    clockStart = video.currentTime < LATEST_ZERO_START_S ? 0 : video.currentTime;
    follow();
    if (!sound.paused) video.play().catch(() => {});
  }, { once: true });
  video.addEventListener("seeked", () => {
    // Some files cannot be played beyond their length counted from 0, even if their clock starts later.
    const end = Math.max(0, sound.duration - 1);
    const missed = Math.min(sound.currentTime, end) + clockStart - video.currentTime;
    if (Math.abs(missed) > MISSED_SEEK_S) giveUp();
  });
  video.addEventListener("error", giveUp);
  for (const event of ["seeking", "timeupdate"]) sound.addEventListener(event, follow);
  sound.addEventListener("play", () => video.play().catch(() => {}));
  sound.addEventListener("pause", () => video.pause());
  sound.addEventListener("ratechange", () => { video.playbackRate = sound.playbackRate; });
  stopWithView(video);
  return video;
}
