// Filters of the search view, stored in the URL.

import { fetchJson } from "./api.js";
import { h, main } from "./dom.js";
import { languageName } from "./format.js";
import { navigate } from "./router.js";

const NAMES = ["recording", "prefix", "language", "speaker", "kind", "since", "until"];
const KINDS = { speech: "Speech", slide: "Slides" };
let facets = null; // the last response of /api/facets

/** Return whether a search is restricted by a filter. */
export const isFiltered = (params) => NAMES.some((name) => params.get(name));

/** Display the filters of these parameters. The fields are kept, since the user may be typing into one. */
export function syncFilters(params) {
  const row = main.querySelector(".filters");
  const button = row.querySelector("button");
  if (button && button === document.activeElement) main.focus({ preventScroll: true });
  button?.remove();
  row.prepend(recordingFilter(params) ?? "");
  for (const field of row.querySelectorAll("[name]")) field.value = params.get(field.name) ?? "";
}

/** Return a row of fields, filled as soon as the facets are known. */
export function createFilters() {
  const row = h("div", { class: "filters", role: "group", "aria-label": "Filters" });
  const fill = () => row.replaceChildren(...[
    recordingFilter(new URL(location.href).searchParams),
    select("prefix", "Collection", facets.collections),
    select("language", "Language", facets.languages, languageName),
    select("speaker", "Speaker", facets.speakers),
    select("kind", "Found in", facets.kinds, (kind) => KINDS[kind] ?? kind),
    dateInput("since", "From"), dateInput("until", "To")].filter(Boolean));
  if (facets) fill();
  // Errors are ignored, since the search itself reports them.
  fetchJson("/api/facets", null).then((found) => {
    facets = found;
    fill();
  }).catch(() => {});
  return row;
}

/** Return the button that ends the search in one recording, null if all are searched. */
export function recordingFilter(params) {
  const key = params.get("recording");
  if (!key) return null;
  const name = key.slice(key.lastIndexOf("/") + 1);
  return h("button", { class: "small", "aria-label": `Only in ${name}: search all recordings instead`,
    onclick: () => apply("recording", "") }, "Only in ", h("bdi", {}, name), " ✕");
}

/** Return a field for one facet, null if there is nothing to choose. */
function select(name, label, counts, format = (value) => value) {
  const values = Object.keys(counts).filter(Boolean);
  if (values.length < 2 && !current(name)) return null;
  const field = h("select", { name, onchange: () => apply(name, field.value) }, h("option", { value: "" }, "All"),
    ...values.map((value) => h("option", { value }, `${format(value)} (${counts[value]})`)));
  field.value = current(name) ?? "";
  return h("label", {}, label, field);
}

/** Return a field for a date, null if no recording has one. */
function dateInput(name, label) {
  if (!facets.since && !current(name)) return null;
  const field = h("input", { name, type: "date", value: current(name), onchange: () => apply(name, field.value) });
  return h("label", {}, label, field);
}

const current = (name) => new URL(location.href).searchParams.get(name);

function apply(name, value) {
  const address = new URL(location.href);
  if (value) address.searchParams.set(name, value);
  else address.searchParams.delete(name);
  navigate(`/${address.search}`);
}
