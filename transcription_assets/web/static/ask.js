// An answer with citations, in a section of the search results. Loaded when a user asks for the first answer.

import { sendJson } from "./api.js";
import { announce, h, inlineList } from "./dom.js";
import { formatCount, formatTime, formatTimeWithUnits } from "./format.js";
import { errorNotice } from "./notices.js";

const LISTS = ["language", "speaker", "source", "kind"];
const TEXTS = ["q", "recording", "prefix", "since", "until", "shortest", "longest"];

/**
 * Ask the question of a search, and display the answer in place of the button.
 * @param {HTMLElement} section
 * @param {URLSearchParams} params
 */
export async function answer(section, params) {
  const button = section.firstChild;
  button.disabled = true;
  section.replaceChildren(button, h("p", { class: "summary", role: "status" }, "Reading the passages that match…"));
  try {
    const reply = await sendJson("POST", "/api/ask", question(params));
    section.replaceChildren(...(reply.sentences.length ? answered(reply) : [h("p", {}, reply.reason)]));
    announce(reply.reason || `Answer: ${reply.sentences.map((sentence) => sentence.text).join(" ")}`);
  } catch (error) {
    button.disabled = false;
    section.replaceChildren(button, errorNotice(error, () => answer(section, params)) ?? "");
  }
}

function question(params) {
  const texts = TEXTS.filter((name) => params.get(name)).map((name) => [name, params.get(name)]);
  return Object.fromEntries([...texts, ...LISTS.map((name) => [name, params.getAll(name)])]);
}

function answered({ sentences, citations, dropped, model, note }) {
  const places = new Map(citations.map((place) => [place.number, place]));
  const reference = (number) => {
    const { title, start, url, text } = places.get(number);
    return h("a", { href: url, title: text, "aria-label": `${title}, at ${formatTimeWithUnits(start)}` }, `${number}`);
  };
  const removed = dropped ? `${formatCount(dropped, "sentence")} without a source left out` : null;
  return [
    h("p", { class: "answer", dir: "auto" }, ...sentences.flatMap(({ text, cites }) =>
      [text, h("sup", {}, ...cites.flatMap((number) => [" ", reference(number)])), " "])),
    h("ol", { class: "citations" }, ...citations.map(({ title, start, url, text, speaker }) =>
      h("li", {}, h("a", { href: url }, ...inlineList(title, formatTime(start), speaker)), " ",
        h("q", { dir: "auto" }, text)))),
    h("p", { class: "summary" }, ...inlineList(`Written by ${model} from these passages: check them.`, removed, note || null)),
  ];
}
