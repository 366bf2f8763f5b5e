// The speakers beside the player: who they are, when and for how long they speak. Names can be changed with write access.

import { fetchJson, isAbort, sendJson } from "./api.js";
import { announce, h } from "./dom.js";
import { formatCount, formatTime } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 8;
const LANE_WIDTH = 1000;
const LANE_HEIGHT = 10;

/**
 * The panel of speakers. `onchange` is called after a name has changed.
 * Usage: `await panel.load()`, then `panel.element` and `panel.colour(name)`.
 */
export class SpeakerPanel {
  element = h("section", { class: "speakers", "aria-label": "Speakers", hidden: true });
  colours = new Map(); // class names by name

  constructor(address, media, onchange) {
    Object.assign(this, { address, media, onchange });
  }

  async load() {
    this.show(await fetchJson(this.address));
  }

  /** Return the class of the colour of a speaker, "" if the name is unknown. */
  colour(name) {
    return this.colours.get(name) ?? "";
  }

  show(found) {
    this.found = found;
    this.colours = new Map(found.speakers.map(({ name }, index) => [name, `voice-${index % COLOURS}`]));
    this.element.hidden = !found.speakers.length;
    this.element.replaceChildren(h("h2", { class: "quiet" }, "Speakers"),
      h("ul", {}, ...found.speakers.map((speaker) => this.row(speaker))),
      ...(found.sign_in ? [h("p", { class: "hint" }, h("a", { href: signInAddress() }, "Sign in to change names"))] : []));
  }

  row(speaker) {
    const total = this.found.speakers.reduce((sum, { seconds }) => sum + seconds, 0);
    const share = total ? ` · ${Math.round(100 * speaker.seconds / total)} %` : "";
    const item = h("li", { class: this.colour(speaker.name), "data-label": speaker.label },
      h("div", { class: "speaker-facts" }, this.name(speaker),
        h("span", { class: "talk-time" }, `${formatTime(speaker.seconds)}${share}`), ...this.verdicts(speaker)),
      this.lane(speaker));
    return item;
  }

  /** Return the name: a button that opens a form if this client may change it. */
  name(speaker) {
    const name = h("bdi", {}, speaker.name);
    if (!this.found.may_change) return h("span", { class: "speaker" }, name);
    return h("button", { class: "speaker", title: "Change the name",
      onclick: (event) => this.openForm(speaker, event.target.closest("li")) }, name);
  }

  /** Return buttons that confirm and reject a suggestion. */
  verdicts(speaker) {
    if (speaker.state !== "suggested") return [];
    const guess = h("span", { class: "hint" }, "suggested by the voice");
    if (!this.found.may_change) return [guess];
    const name = speaker.name.replace(/\?$/, "");
    return [guess,
      h("button", { class: "small", "aria-label": `Yes, this is ${name}`,
        onclick: () => this.change(speaker, "PUT", "", { person: speaker.person }) }, "Yes"),
      h("button", { class: "small", "aria-label": `No, this is not ${name}`,
        onclick: () => this.change(speaker, "POST", `/reject?person=${speaker.person}`) }, "No")];
  }

  async openForm(speaker, item) {
    const people = await fetchJson("/api/people").catch(() => []);
    const options = h("datalist", { id: "people" }, ...[...new Set(people.map(({ name }) => name))].map(
      (name) => h("option", { value: name })));
    const field = h("input", { name: "name", maxlength: 100, required: true, list: "people", autocomplete: "off",
      "aria-label": `Name of ${speaker.name}`, value: speaker.state === "confirmed" ? speaker.name : "" });
    const clear = speaker.state !== "confirmed" ? null : h("button", { class: "small", type: "button",
      onclick: () => this.change(speaker, "DELETE", "") }, "Remove name");
    const form = h("form", { class: "name-form", onsubmit: (event) => {
      event.preventDefault();
      this.change(speaker, "PUT", "", { name: field.value });
    }, onkeydown: (event) => {
      event.stopPropagation(); // the shortcuts of the page would act on letters and Escape
      if (event.key === "Escape") this.show(this.found);
    } }, field, options, h("button", { class: "small" }, "Save"), clear,
    h("button", { class: "small", type: "button", onclick: () => this.show(this.found) }, "Cancel"));
    item.querySelector(".speaker-facts").replaceChildren(form);
    field.focus();
  }

  /** Send a change, and show its result; an error is shown beside the speaker. */
  async change(speaker, method, path, body) {
    const item = this.element.querySelector(`[data-label="${CSS.escape(speaker.label)}"]`);
    const url = `${this.address}/${speaker.label}${path}`;
    this.disable(true);
    try {
      const version = `${url.includes("?") ? "&" : "?"}version=${this.found.version}`;
      this.show(await sendJson(method, `${url}${version}`, body));
    } catch (error) {
      this.disable(false);
      item.querySelector(".error")?.remove();
      item.append(h("p", { class: "error", role: "alert", dir: "auto" }, error.message));
      return;
    }
    const { updating } = this.found;
    announce(updating ? `Saved. ${formatCount(updating, "other recording")} will follow.` : "Saved.");
    if (!this.element.isConnected) return;
    await this.onchange().catch((error) => {
      if (!isAbort(error)) throw error;
    });
  }

  disable(disabled) {
    for (const button of this.element.querySelectorAll("button")) button.disabled = disabled;
  }

  /** Return a timeline of when a speaker speaks; a click seeks. */
  lane({ name, spans }) {
    const lane = svg("svg", { class: "lane", viewBox: `0 0 ${LANE_WIDTH} ${LANE_HEIGHT}`, preserveAspectRatio: "none",
      role: "img", "aria-label": `When ${name} speaks` });
    const scale = LANE_WIDTH / (this.found.duration || 1);
    lane.append(...spans.map(([start, end]) => svg("rect", { x: start * scale, y: 0, height: LANE_HEIGHT,
      width: Math.max(1, (end - start) * scale) })));
    lane.addEventListener("click", (event) => {
      const { left, width } = lane.getBoundingClientRect();
      this.media.currentTime = (event.clientX - left) / width * this.found.duration;
    });
    return lane;
  }
}

function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const signInAddress = () => `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
