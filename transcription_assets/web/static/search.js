// Search view: results in pages, less relevant ones collapsed.

import { fetchJson } from "./api.js";
import { announce, h, inlineList, main, showView } from "./dom.js";
import { excerpt, keepWords } from "./excerpt.js";
import { createFilters, isFiltered, syncFilters } from "./filters.js";
import { formatCount, formatDate, formatTimeWithUnits, joinText, languageName } from "./format.js";
import { errorNotice } from "./notices.js";
import { thumbnail } from "./recordings.js";
import { refresh } from "./router.js";
import { slidePicture } from "./slides.js";

const PAGE_SIZE = 10;
const SLOW_MS = 300; // a faster search shows no progress

/** @param {URLSearchParams} params */
export async function showResults(params) {
  const container = openView(params);
  const slow = setTimeout(() => { container.firstChild.textContent = "Searching…"; }, SLOW_MS);
  try {
    await new Results(container, params).load();
  } catch (error) {
    const notice = errorNotice(error, refresh);
    if (notice) container.replaceChildren(notice);
  } finally {
    clearTimeout(slow);
  }
}

/** Return the element for the results: while the user types, the previous ones stay until there are new ones. */
function openView(params) {
  const query = params.get("q") ?? "Similar moments";
  let container = main.querySelector(".results");
  if (container) syncFilters(params);
  else {
    container = h("div", { class: "results" }, h("p", { class: "summary" }));
    showView(query, h("h1", { class: "visually-hidden" }, "Search results"), createFilters(), container);
  }
  document.title = `${query} – search`;
  return container;
}

/** The results of one search. Those marked as weak by the API are in a collapsed section of their own. */
class Results {
  relevant = h("ol", { class: "hits" });
  weak = h("ol", { class: "hits" });
  weakLabel = h("summary", {});
  weakSection = h("details", { class: "weak" }, this.weakLabel, this.weak);
  summary = h("p", { class: "summary" });
  more = h("button", { class: "small more", hidden: true, onclick: () => this.loadMore() }, "More results");
  ask = h("section", { class: "ask", "aria-label": "Answer" });
  received = 0;
  urls = new Set();

  constructor(container, params) {
    this.container = container;
    this.query = params.get("q") ?? "";
    this.request = new URLSearchParams(params);
    this.path = params.get("like") ? "/api/similar" : "/api/search";
    if (params.get("like")) {
      this.request.set("key", params.get("like"));
      this.request.delete("like");
    }
    this.request.set("limit", PAGE_SIZE);
    if ("ask" in document.body.dataset && this.query) {
      this.ask.append(h("button", { class: "small", onclick: () => this.answer() }, "Answer with citations"));
    }
  }

  /** Have a language model answer the question. */
  async answer() {
    const { answer } = await import("./ask.js");
    await answer(this.ask, this.request);
  }

  /** Load and display the next page; return its first item. */
  async load() {
    this.request.set("offset", this.received);
    const page = await fetchJson(`${this.path}?${this.request}`);
    this.received += page.moments.length;
    const items = this.append(page.moments);
    this.summarise(page);
    this.more.hidden = !page.more;
    const isEmpty = !this.urls.size;
    // Most results after a weak one are weak too.
    const hasWeak = this.weak.children.length > 0;
    (hasWeak ? this.weakSection : this.container).append(this.more);
    this.container.replaceChildren(this.summary, this.ask, isEmpty ? noResults(page.passages, this.request) : this.relevant,
      hasWeak ? this.weakSection : this.more);
    return items[0];
  }

  /** Load another page when the button is pressed, and move the focus to it. */
  async loadMore() {
    this.more.disabled = true; // a second click would load the same page again
    try {
      (await this.load())?.firstChild.focus();
    } catch (error) {
      const notice = errorNotice(error, () => {
        notice.remove();
        this.more.click();
      });
      if (notice) this.more.before(notice);
    } finally {
      this.more.disabled = false;
    }
  }

  /** Append new moments only: one is repeated on a later page if recordings were added or changed meanwhile. */
  append(moments) {
    return moments.filter((moment) => !this.urls.has(moment.url)).map((moment) => {
      this.urls.add(moment.url);
      const item = h("li", {}, result(moment, this.query), similarLink(moment));
      (moment.weak ? this.weak : this.relevant).append(item);
      return item;
    });
  }

  summarise({ more, note }) {
    const [relevant, weak] = [this.relevant.children.length, this.weak.children.length];
    const total = `${formatCount(relevant, "result")}${more && !weak ? ", more available" : ""}`;
    this.summary.textContent = joinText(relevant ? total : weak ? "No relevant results. Closest matches:" : "", note);
    const weakCount = formatCount(weak, "less relevant result");
    this.weakLabel.textContent = `${weakCount}${more ? ", more available" : ""}`;
    if (!relevant) this.weakSection.open = true;
    announce(this.urls.size ? joinText(this.summary.textContent, relevant && weak && weakCount) : "No results");
  }
}

function result(moment, query) {
  const address = query ? `${moment.url}&q=${encodeURIComponent(query)}` : moment.url;
  const facts = inlineList(moment.folder, languageName(moment.language), moment.speaker,
    moment.recorded && formatDate(moment.recorded), moment.kind === "slide" ? "slide" : null);
  const label = `${moment.title}${moment.kind === "slide" ? ", slide" : ""}, at ${formatTimeWithUnits(moment.start)}`;
  return h("a", { class: "hit", href: address, "aria-label": label },
    moment.slide ? slideThumbnail(moment) : thumbnail(moment.poster, moment.start),
    h("div", { class: "about" },
      h("div", {}, h("bdi", { class: "name" }, moment.title), h("span", { class: "source" }, ...facts)),
      h("p", { class: "excerpt", dir: "auto" }, ...excerpt(moment.parts)),
      moment.said ? h("p", { class: "said", dir: "auto" }, keepWords(moment.said)) : null));
}

/** Return the picture of the slide of a moment. The text of the result has its text already, if it is that of a slide. */
function slideThumbnail(moment) {
  const frame = thumbnail("", moment.start);
  const image = slidePicture(moment.slide);
  image.title = moment.slide.text;
  frame.querySelector("svg").replaceWith(image);
  return frame;
}

function similarLink(moment) {
  const address = `/?${new URLSearchParams({ like: moment.key, at: moment.start, moment_kind: moment.kind })}`;
  const label = `More like ${moment.title}, at ${formatTimeWithUnits(moment.start)}`;
  return h("a", { class: "similar", href: address, "aria-label": label }, "More like this");
}

/** @param {number} passages the number of searchable passages */
function noResults(passages, params) {
  const unfiltered = `/?q=${encodeURIComponent(params.get("q") ?? "")}`;
  return h("section", { class: "notice" },
    h("h2", {}, passages ? "No results" : "No recordings are searchable yet"),
    h("p", {}, passages ? "Try fewer or different words, or describe what was said in a sentence."
      : "No recordings have been transcribed yet."),
    passages && params.get("q") && isFiltered(params)
      ? h("p", {}, h("a", { href: unfiltered }, "Search without filters")) : null,
    h("p", {}, h("a", { href: "/library" }, "Open the library")));
}
