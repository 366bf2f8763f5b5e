// Start view: the newest recordings below the search box.

import { fetchJson } from "./api.js";
import { h, showView } from "./dom.js";
import { recordingFilter } from "./filters.js";
import { formatCount } from "./format.js";
import { errorNotice } from "./notices.js";
import { thumbnail } from "./recordings.js";
import { refresh } from "./router.js";
import { searchBox } from "./search-box.js";

const NEWEST = 4;

/** @param {URLSearchParams} params `recording` is the only recording to search in */
export async function showStart(params) {
  const content = h("div", {}, recordingFilter(params));
  showView("Search", content);
  // On touch screens the focus would open the keyboard.
  if (!matchMedia("(pointer: coarse)").matches) searchBox.focus();
  try {
    const { recordings, counts } = await fetchJson(`/api/media?state=done&limit=${NEWEST}`);
    if (recordings.length) content.append(h("h2", { class: "quiet" }, "Newest recordings"), shelf(recordings));
    else content.append(emptyNotice(counts));
  } catch (error) {
    const notice = errorNotice(error, refresh);
    if (notice) content.replaceChildren(notice);
  }
}

const shelf = (recordings) => h("ul", { class: "shelf" }, ...recordings.map((item) =>
  h("li", {}, h("a", { href: item.url }, thumbnail(item.poster, item.duration),
    h("span", { class: "name" }, h("bdi", {}, item.title)),
    h("span", { class: "facts" }, h("bdi", {}, item.folder))))));

function emptyNotice(counts) {
  const unfinished = counts.working + counts.waiting;
  return h("section", { class: "notice" },
    h("h2", {}, unfinished ? "No recordings are searchable yet" : "No recordings yet"),
    h("p", {}, unfinished
      ? `${formatCount(unfinished, "recording is", "recordings are")} being processed. The library shows the progress.`
      : "Add recordings to the video/ or audio/ folder of the store. They appear here once they are transcribed."),
    counts.failed ? h("p", {}, `${formatCount(counts.failed, "recording")} failed.`) : null,
    h("p", {}, h("a", { href: "/library" }, "Open the library")));
}
