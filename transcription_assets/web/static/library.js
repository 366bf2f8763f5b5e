// Library view: all recordings with their processing state, updated while some are in progress.

import { fetchJson } from "./api.js";
import { announce, h, showView } from "./dom.js";
import { formatCount } from "./format.js";
import { errorNotice } from "./notices.js";
import { failureReason, NEXT_STEPS, recordingFacts, thumbnail } from "./recordings.js";
import { navigate, refresh, viewSignal } from "./router.js";

const PAGE_SIZE = 50;
const TYPING_PAUSE_MS = 300;
const UPDATE_MS = 10_000;
const STATES = { "": "All", failed: "Failed", working: "In progress", waiting: "Waiting", done: "Done" };
const SILENCES = { no_speech: "no speech", not_understood: "speech not recognised" };

/** @param {URLSearchParams} params */
export async function showLibrary(params) {
  const library = new Library(params);
  showView("Library", h("h1", { class: "visually-hidden" }, "Library"),
    h("div", { class: "toolbar" }, library.states, library.name), library.uploads, library.summary, library.rows,
    library.more);
  await Promise.all([library.load(0), library.offerUploads()]);
}

class Library {
  states = h("div", { class: "filters", role: "group", "aria-label": "State" });
  name = h("input", { type: "search", placeholder: "Name", "aria-label": "Filter by name", maxlength: "300" });
  uploads = h("div");
  summary = h("p", { class: "summary" });
  rows = h("ul", { class: "rows" });
  more = h("button", { class: "small more", hidden: true }, "More recordings");
  view = viewSignal();
  request = new AbortController();
  nextUpdate;

  constructor(params) {
    this.state = params.get("state") ?? "";
    this.name.value = params.get("name") ?? "";
    this.more.addEventListener("click", () => this.load(this.rows.children.length));
    let pendingFilter;
    this.name.addEventListener("input", () => {
      clearTimeout(pendingFilter);
      pendingFilter = setTimeout(() => this.filterByName(), TYPING_PAUSE_MS);
    });
  }

  /** Display what is needed for uploads to those who may upload. */
  async offerUploads() {
    const rules = await fetchJson("/api/uploads").catch(() => ({})); // the list of recordings reports errors
    if (rules.may_upload) {
      const { uploadPanel } = await import("./upload.js");
      if (!this.view.aborted) this.uploads.append(uploadPanel(rules, () => this.follow()));
    } else if (rules.sign_in) {
      this.uploads.append(h("p", { class: "facts" }, h("a", { href: "/sign-in?next=/library" }, "Sign in to upload")));
    }
  }

  /** Load and display a page. A request that is still pending is aborted: its response must not replace this one. */
  async load(offset) {
    this.request.abort();
    this.request = new AbortController();
    clearTimeout(this.nextUpdate);
    const params = this.params(this.state);
    params.set("limit", PAGE_SIZE);
    params.set("offset", offset);
    try {
      this.display(await fetchJson(`/api/media?${params}`, AbortSignal.any([this.view, this.request.signal])), offset);
    } catch (error) {
      const notice = errorNotice(error, refresh);
      if (notice) this.rows.replaceChildren(h("li", {}, notice));
    }
  }

  display(page, offset) {
    const rows = page.recordings.map(recordingRow);
    if (offset) this.rows.append(...rows);
    else if (textOf(this.rows.children) !== textOf(rows)) this.rows.replaceChildren(...rows);
    this.more.hidden = this.rows.children.length >= page.total;
    this.displaySummary(page);
    this.displayCounts(page.counts);
    // An update would remove further pages.
    const isFirstPage = this.rows.children.length <= PAGE_SIZE;
    if (isFirstPage && page.counts.working + page.counts.waiting) this.scheduleUpdate();
  }

  displaySummary({ total, counts }) {
    const hasAny = Object.values(counts).some(Boolean);
    const summary = total ? formatCount(total, "recording")
      : hasAny ? "No recordings match."
        : "No recordings yet. Add recordings to the video/ or audio/ folder of the store.";
    if (this.summary.textContent !== summary) announce(summary);
    this.summary.textContent = summary;
  }

  /** Display the number of recordings on the button of each state; the buttons are reused, to keep the focus. */
  displayCounts(counts) {
    const all = Object.values(counts).reduce((sum, each) => sum + each, 0);
    const hasButtons = this.states.children.length > 0;
    if (!hasButtons) this.states.append(...Object.keys(STATES).map((state) => this.stateButton(state)));
    Object.entries(STATES).forEach(([state, label], index) => {
      this.states.children[index].textContent = `${label} ${(state ? counts[state] : all).toLocaleString()}`;
    });
  }

  stateButton(state) {
    const isCurrent = String(state === this.state);
    return h("button", { class: "small", "aria-pressed": isCurrent, onclick: () => navigate(this.address(state)) });
  }

  /** Display a recording that has just been uploaded; the server may list it only some seconds later. */
  async follow() {
    if (this.view.aborted) return;
    await this.load(0);
    this.scheduleUpdate();
  }

  scheduleUpdate() {
    clearTimeout(this.nextUpdate);
    this.nextUpdate = setTimeout(() => {
      if (this.view.aborted) return;
      if (document.hidden) this.scheduleUpdate();
      else this.load(0);
    }, UPDATE_MS);
  }

  filterByName() {
    if (this.view.aborted) return;
    history.replaceState({}, "", this.address(this.state));
    this.load(0);
  }

  address(state) {
    const params = this.params(state);
    return `/library${params.size ? `?${params}` : ""}`;
  }

  params(state) {
    const params = new URLSearchParams();
    if (state) params.set("state", state);
    if (this.name.value.trim()) params.set("name", this.name.value.trim());
    return params;
  }
}

const textOf = (elements) => [...elements].map((each) => each.textContent).join("");

function recordingRow(item) {
  const isUnfinished = item.state === "working" || item.state === "waiting";
  const label = (isUnfinished && NEXT_STEPS[item.step]) || SILENCES[item.silence];
  const title = h("a", { class: "name", href: item.url, title: item.title }, h("bdi", {}, item.title));
  return h("li", { class: "row", "data-silence": item.silence || null }, thumbnail(item.poster, null),
    h("div", {}, title, h("p", { class: "facts" }, ...recordingFacts(item), ...(label ? [" · ", label] : []))),
    h("span", { class: `state ${item.state}` }, STATES[item.state]), failureReason(item));
}
