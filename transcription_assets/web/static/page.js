// The page: search, library and player over the JSON API. Text of others enters by textContent only, never as markup.

const main = document.getElementById("main");
const box = document.getElementById("q");
const status = document.getElementById("status");
const SVG = "http://www.w3.org/2000/svg";
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const PAGE = 10;
const SHELF = 50;
const NUDGE_S = 5;
const LANGUAGES = new Intl.DisplayNames(["en"], { type: "language" });

let leave = new AbortController(); // aborted when the view changes: its requests and listeners end with it
let mayPlay = false; // whether the person clicked their way here

/* Small tools */

function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function spoken(seconds) {
  const whole = Math.floor(seconds);
  return `${whole >= 60 ? `${Math.floor(whole / 60)} min ` : ""}${whole % 60} s`;
}

function language(code) {
  try {
    return code ? LANGUAGES.of(code) : "";
  } catch {
    return code;
  }
}

const joined = (...facts) => facts.filter(Boolean).join(" · ");
// Each fact is read in its own direction, and moves no other.
const facts = (...some) => some.filter(Boolean).flatMap((fact, index) => [index ? " · " : "", h("bdi", {}, fact)]);
const day = (text) => new Date(text).toLocaleDateString(undefined, { dateStyle: "medium" });
const counted = (number, one, many = `${one}s`) => `${number.toLocaleString()} ${number === 1 ? one : many}`;
const tell = (text) => { status.textContent = text; };

async function api(path, signal = leave.signal) {
  let answer;
  try {
    answer = await fetch(path, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw { status: 0, detail: "The server does not answer. Is it still running?" };
  }
  if (answer.status === 401) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    throw { name: "AbortError" };
  }
  const body = await answer.json().catch((error) => {
    if (error.name === "AbortError") throw error; // nobody waits for it any more
    throw { status: answer.status, detail: answer.ok ? "The answer broke off." : `The server answered ${answer.status}.` };
  });
  if (!answer.ok) throw { status: answer.status, detail: body.detail };
  return body;
}

function problem(error, again) {
  if (error.name === "AbortError") return null;
  if (!("status" in error)) throw error;
  const heading = { 404: "There is no such recording", 429: "That was a little fast", 422: "That cannot be searched for" };
  tell(error.detail);
  return h("section", { class: "notice" },
    h("h2", {}, heading[error.status] ?? "The archive cannot be read right now"),
    h("p", { dir: "auto" }, error.detail),
    error.status === 404 ? h("p", {}, h("a", { href: "/library" }, "See what there is")) : null,
    [404, 422].includes(error.status) ? null : h("button", { class: "main", onclick: again }, "Try again"));
}

function wave() {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 32 32");
  path.setAttribute("d", "M4 13v6M9 9v14M14 12v8M19 6v20M24 11v10M29 14v4");
  for (const [name, value] of [["stroke", "currentColor"], ["stroke-width", "2"], ["stroke-linecap", "round"]]) {
    path.setAttribute(name, value);
  }
  svg.append(path);
  return svg;
}

function still(poster, at) {
  const frame = h("div", { class: "still", "aria-hidden": "true" });
  const badge = at === null ? null : h("time", {}, clock(at));
  if (poster) {
    const picture = h("img", { src: poster, alt: "", loading: "lazy", width: "320", height: "180" });
    picture.addEventListener("error", () => picture.replaceWith(wave()));
    frame.append(picture);
  } else frame.append(wave());
  if (badge) frame.append(badge);
  return frame;
}

function show(title, ...nodes) {
  document.title = title;
  main.className = "";
  main.replaceChildren(...nodes.filter(Boolean));
}

/* Going from view to view */

function go(address, replace = false) {
  history[replace ? "replaceState" : "pushState"]({}, "", address);
  route();
}

function route() {
  leave.abort();
  leave = new AbortController();
  const { pathname, searchParams } = new URL(location.href);
  const query = searchParams.get("q") ?? "";
  if (document.activeElement !== box) box.value = query;
  for (const link of document.querySelectorAll(".top nav a")) {
    link.toggleAttribute("aria-current", link.getAttribute("href") === pathname);
  }
  document.body.classList.toggle("start", pathname === "/" && !query.trim());
  document.body.classList.toggle("watching", pathname.startsWith("/watch/"));
  if (pathname.startsWith("/watch/")) watch(pathname.slice("/watch/".length), searchParams);
  else if (pathname === "/library") library(searchParams);
  else if (query.trim()) results(searchParams);
  else start();
}

addEventListener("popstate", () => { mayPlay = false; route(); });

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
  if (!link || !plain || link.hasAttribute("download") || link.target || link.origin !== location.origin) return;
  if (!/^\/($|library$|watch\/)/.test(link.pathname) || link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  mayPlay = true;
  go(link.href);
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});

/* The search box */

const searchAddress = () => {
  const params = location.pathname === "/" ? new URLSearchParams(location.search) : new URLSearchParams();
  params.set("q", box.value);
  return box.value.trim() ? `/?${params}` : "/";
};

let typing;
box.addEventListener("input", () => {
  clearTimeout(typing);
  if (location.pathname !== "/") return; // elsewhere only Enter leaves the page
  typing = setTimeout(() => go(searchAddress(), true), 250);
});

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  if (searchAddress() !== location.pathname + location.search) go(searchAddress());
});

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  const writing = target.matches("input, textarea, select");
  if (key === "/" && !writing) {
    event.preventDefault();
    box.focus();
    box.select();
  } else if (key === "Escape") escape(target);
  else if (key === "ArrowDown" || key === "ArrowUp") step(event, key === "ArrowDown" ? 1 : -1);
});

function escape(target) {
  if (target === box && box.value && location.pathname === "/") {
    clearTimeout(typing);
    box.value = "";
    go("/", true);
  } else if (location.pathname.startsWith("/watch/")) back();
  else if (target === box) box.blur();
  else box.focus();
}

function back() {
  const query = new URL(location.href).searchParams.get("q");
  go(query ? `/?q=${encodeURIComponent(query)}` : "/library");
}

function step(event, direction) {
  const hits = [...main.querySelectorAll("a.hit, .less summary")].filter((each) => each.checkVisibility());
  const at = hits.indexOf(document.activeElement);
  if (!hits.length || (at < 0 && document.activeElement !== box && document.activeElement !== document.body
    && document.activeElement !== main)) return;
  if (at < 0 && direction < 0) return;
  event.preventDefault();
  if (at + direction < 0) box.focus();
  else hits[Math.min(at + direction, hits.length - 1)].focus();
}

/* First view */

async function start() {
  const shelf = h("div");
  show("Search in what was said", shelf);
  if (!matchMedia("(pointer: coarse)").matches) box.focus();
  try {
    const { recordings, counts } = await api("/api/media?state=done&limit=4");
    if (!recordings.length) shelf.append(nothingYet(counts));
    else shelf.append(h("h2", { class: "quiet" }, "Newest recordings"), h("ul", { class: "shelf" },
      ...recordings.map((item) => h("li", {}, h("a", { href: item.url },
        still(item.poster, item.duration), h("span", { class: "name" }, h("bdi", {}, item.title)),
        h("span", { class: "facts" }, h("bdi", {}, item.folder)))))));
  } catch (error) {
    const said = problem(error, route);
    if (said) shelf.replaceChildren(said);
  }
}

function nothingYet(counts) {
  const begun = counts.working + counts.waiting;
  return h("section", { class: "notice" },
    h("h2", {}, begun ? "Nothing can be found yet" : "Nothing here yet"),
    h("p", {}, begun ? `${counted(begun, "recording is", "recordings are")} on the way; the library shows how far.`
      : "Put recordings into the folder video/ or audio/ of the store; they appear here when they are transcribed."),
    counts.failed ? h("p", {}, `${counted(counts.failed, "recording")} failed.`) : null,
    h("p", {}, h("a", { href: "/library" }, "Open the library")));
}

/* Results */

async function results(params) {
  const query = params.get("q");
  const list = h("ol", { class: "hits" });
  const fold = new Fold();
  const told = h("p", { class: "told" });
  const more = h("button", { class: "small more", hidden: true }, "More moments");
  // While somebody types, the last answer stays until there is a new one.
  let view = main.querySelector(".results");
  if (!view) {
    view = h("div", { class: "results" }, h("p", { class: "told" }));
    show(query, h("h1", { class: "unseen" }, "Moments"), filters(), view);
  } else for (const field of main.querySelectorAll(".filters [name]")) field.value = params.get(field.name) ?? "";
  document.title = `${query} – search`;
  const slow = setTimeout(() => { view.firstChild.textContent = "Searching …"; }, 300);
  const asked = new URLSearchParams(params);
  asked.set("limit", PAGE);

  let answered = 0;
  const shown = new Set(); // further answers look at more passages: a moment may move up, and another come twice
  async function next() {
    asked.set("offset", answered);
    const found = await api(`/api/search?${asked}`);
    answered += found.moments.length;
    const fresh = found.moments.filter((moment) => !shown.has(moment.url)).map((moment) => {
      shown.add(moment.url);
      const item = h("li", {}, hit(moment, query));
      (moment.weak ? fold.list : list).append(item);
      return item;
    });
    const [good, weak] = [list.children.length, fold.list.children.length];
    const total = `${counted(good, "moment")}${found.more && !weak ? ", and more" : ""}`;
    told.textContent = joined(good ? total : weak ? "Nothing fits well. Nearest:" : "", found.note);
    fold.count(weak, found.more);
    if (!good) fold.element.open = true;
    tell(good || weak ? joined(told.textContent, good && weak && `${weak} less likely`) : "Nothing found");
    more.hidden = !found.more;
    (weak ? fold.element : view).append(more); // what follows a weak moment is weak
    const nodes = [told, good || weak ? list : noHits(found.passages, asked), weak ? fold.element : more];
    view.replaceChildren(...nodes);
    return fresh[0];
  }

  more.addEventListener("click", async () => {
    more.disabled = true; // a second click would bring the same moments again
    try {
      (await next())?.firstChild.focus();
    } catch (error) {
      const said = problem(error, () => { said.remove(); more.click(); });
      if (said) more.before(said);
    } finally {
      more.disabled = false;
    }
  });
  try {
    await next();
  } catch (error) {
    const said = problem(error, route);
    if (said) view.replaceChildren(said);
  } finally {
    clearTimeout(slow);
  }
}

// The moments that fit less well: one click or Enter unfolds them.
class Fold {
  list = h("ol", { class: "hits" });
  label = h("summary", {});
  element = h("details", { class: "less" }, this.label, this.list);

  count(number, more) {
    this.label.textContent = `${number.toLocaleString()}${more ? " or more" : ""} less likely`;
  }
}

const FILTERS = ["prefix", "language", "speaker", "since", "until"];
let known = null; // what can be filtered by

function filters() {
  const row = h("div", { class: "filters", role: "group", "aria-label": "Filters" });
  const chosen = (name) => new URL(location.href).searchParams.get(name);
  const set = (name, value) => {
    const address = new URL(location.href);
    if (value) address.searchParams.set(name, value);
    else address.searchParams.delete(name);
    go(`/${address.search}`);
  };
  const choice = (name, label, counts, shown = (value) => value) => {
    const values = Object.keys(counts).filter(Boolean);
    if (values.length < 2 && !chosen(name)) return null;
    const select = h("select", { name, onchange: () => set(name, select.value) }, h("option", { value: "" }, "all"),
      ...values.map((value) => h("option", { value }, `${shown(value)} (${counts[value]})`)));
    select.value = chosen(name) ?? "";
    return h("label", {}, label, select);
  };
  const date = (name, label) => {
    if (!known.since && !chosen(name)) return null;
    const input = h("input", { name, type: "date", value: chosen(name), onchange: () => set(name, input.value) });
    return h("label", {}, label, input);
  };
  const fill = () => row.replaceChildren(...[
    choice("prefix", "Collection", known.collections),
    choice("language", "Language", known.languages, language),
    choice("speaker", "Speaker", known.speakers),
    date("since", "From"), date("until", "to")].filter(Boolean));
  if (known) fill();
  api("/api/facets", null).then((found) => { known = found; fill(); }).catch(() => {}); // the search itself says why
  return row;
}

function noHits(passages, asked) {
  const filtered = passages && FILTERS.some((name) => asked.get(name));
  return h("section", { class: "notice" },
    h("h2", {}, passages ? "Nothing found" : "Nothing can be found yet"),
    h("p", {}, passages ? "Try fewer or other words, or say what was meant in a sentence."
      : "No recording has been transcribed so far."),
    filtered ? h("p", {}, h("a", { href: `/?q=${encodeURIComponent(asked.get("q"))}` }, "Search without filters")) : null,
    h("p", {}, h("a", { href: "/library" }, "See what is in the library")));
}

function hit(moment, query) {
  const address = `${moment.url}&q=${encodeURIComponent(query)}`;
  const about = facts(moment.folder, language(moment.language), moment.speaker, moment.recorded && day(moment.recorded));
  return h("a", { class: "hit", href: address, "aria-label": `${moment.title}, at ${spoken(moment.start)}` },
    still(moment.poster, moment.start),
    h("div", { class: "about" },
      h("div", {}, h("bdi", { class: "name" }, moment.title), h("span", { class: "where" }, ...about)),
      h("p", { class: "said", dir: "auto" }, ...excerpt(moment.parts))));
}

const AROUND = 150; // characters shown before and after the sentence

function excerpt(parts) {
  const first = parts.findIndex((part) => part.sentence);
  const last = parts.findLastIndex((part) => part.sentence);
  const marked = (some) => some.map((part) => (part.match ? h("mark", {}, part.text) : part.text));
  if (first < 0) return marked(parts);
  return [
    ...marked(lastOf(parts.slice(0, first))),
    h("span", { class: "sentence" }, ...marked(parts.slice(first, last + 1))),
    ...marked(firstOf(parts.slice(last + 1))),
  ];
}

// A word of Thai or Japanese ends at no space.
const WORDS = new Intl.Segmenter(undefined, { granularity: "word" });

// The first AROUND characters of some parts, in whole words.
function firstOf(parts) {
  const kept = [];
  let room = AROUND;
  for (const part of parts) {
    const fits = part.text.length <= room;
    kept.push(fits ? part : { ...part, text: `${wordsBefore(part.text, room)} …` });
    if (!fits) break;
    room -= part.text.length;
  }
  return kept;
}

function lastOf(parts) {
  const kept = [];
  let room = AROUND;
  for (const part of parts.toReversed()) {
    const fits = part.text.length <= room;
    kept.unshift(fits ? part : { ...part, text: `… ${wordsFrom(part.text, part.text.length - room)}` });
    if (!fits) break;
    room -= part.text.length;
  }
  return kept;
}

// Of a text that is longer.
function wordsBefore(text, end) {
  return text.slice(0, WORDS.segment(text).containing(end).index).trimEnd();
}

function wordsFrom(text, start) {
  const { index, segment } = WORDS.segment(text).containing(start - 1);
  // The full stop of the word before is a segment of its own.
  return text.slice(index + segment.length).replace(/^[\s\p{Po}\p{Pe}\p{Pf}]+/u, "");
}

/* Library */

const STATES = { "": "All", failed: "Failed", working: "In progress", waiting: "Waiting", done: "Done" };
const STEPS = {
  video: "to be looked at", audio: "sound next", transcript: "transcript next", embeddings: "search next",
};
const SILENCES = { no_speech: "nobody speaks", not_understood: "no words were understood" };

const LOOK_AGAIN_MS = 10_000; // while something is in progress

async function library(params) {
  const state = params.get("state") ?? "";
  const chips = h("div", { class: "filters", role: "group", "aria-label": "State" });
  const name = h("input", { type: "search", placeholder: "Name", "aria-label": "Filter by name", maxlength: "300" });
  const rows = h("ul", { class: "rows" });
  const told = h("p", { class: "told" });
  const more = h("button", { class: "small more", hidden: true }, "More recordings");
  const view = leave.signal;
  name.value = params.get("name") ?? "";
  show("Library", h("h1", { class: "unseen" }, "Library"), h("div", { class: "bar" }, chips, name), told, rows, more);

  const address = (value) => {
    const asked = new URLSearchParams();
    if (value) asked.set("state", value);
    if (name.value.trim()) asked.set("name", name.value.trim());
    return `/library${asked.size ? `?${asked}` : ""}`;
  };

  let asking = new AbortController(); // an answer that comes late must not be added to another one
  let again;
  async function load(first) {
    asking.abort();
    asking = new AbortController();
    clearTimeout(again);
    const asked = new URLSearchParams(address(state).split("?")[1]);
    asked.set("limit", SHELF);
    asked.set("offset", first);
    try {
      const page = await api(`/api/media?${asked}`, AbortSignal.any([view, asking.signal]));
      const found = page.recordings.map(row);
      if (first) rows.append(...found);
      else if (rows.textContent !== found.map((each) => each.textContent).join("")) rows.replaceChildren(...found);
      more.hidden = rows.children.length >= page.total;
      const said = page.total ? counted(page.total, "recording") : Object.values(page.counts).some(Boolean)
        ? "No recordings here." : "Nothing here yet: put recordings into the folder video/ or audio/ of the store.";
      if (told.textContent !== said) tell(said);
      told.textContent = said;
      count(page.counts);
      // Who has gone on to further pages reads them in peace.
      if (rows.children.length <= SHELF && page.counts.working + page.counts.waiting) again = setTimeout(look, LOOK_AGAIN_MS);
    } catch (error) {
      const said = problem(error, route);
      if (said) rows.replaceChildren(h("li", {}, said));
    }
  }

  function look() {
    if (view.aborted) return;
    if (document.hidden) again = setTimeout(look, LOOK_AGAIN_MS);
    else load(0);
  }

  function count(counts) {
    const all = Object.values(counts).reduce((sum, each) => sum + each, 0);
    const labels = Object.entries(STATES).map(([value, label]) => `${label} ${(value ? counts[value] : all).toLocaleString()}`);
    if (chips.children.length) labels.forEach((label, index) => { chips.children[index].textContent = label; });
    else chips.append(...Object.keys(STATES).map((value, index) => h("button", {
      class: "small", "aria-pressed": String(value === state), onclick: () => go(address(value)),
    }, labels[index])));
  }

  let waiting;
  name.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (view.aborted) return;
      history.replaceState({}, "", address(state));
      load(0);
    }, 300);
  });
  more.addEventListener("click", () => load(rows.children.length));
  await load(0);
}

function row(item) {
  const label = item.state === "working" || item.state === "waiting" ? STEPS[item.step] : "";
  const silent = SILENCES[item.silence];
  const title = h("a", { class: "name", href: item.url, title: item.title }, h("bdi", {}, item.title));
  return h("li", { class: "row" }, still(item.poster, null),
    h("div", {}, title, h("p", { class: "facts" }, ...about(item), ...(label || silent ? [" · ", label || silent] : []))),
    h("span", { class: `state ${item.state}` }, STATES[item.state]), why(item));
}

const about = (item) => facts(item.folder, item.duration && clock(item.duration), language(item.language),
  day(item.modified));

function why(item) {
  if (!item.reason) return null;
  return h("p", { class: "why", dir: "auto" }, h("strong", {}, `${item.step}: `), item.reason.replace(`${item.key}: `, ""),
    item.transient ? " It is tried again by itself." : "");
}

/* Player and transcript */

async function watch(path, params) {
  const asked = Number(params.get("t"));
  const from = Number.isFinite(asked) ? Math.max(0, asked) : 0;
  const play = mayPlay;
  mayPlay = false;
  show(document.title);
  try {
    const item = await api(`/api/media/${path}`);
    if (item.state === "failed" && item.step === "video") return void show(item.title, unplayable(item));
    const player = medium(item, from, play);
    const script = h("section", { class: "script", "aria-label": "Transcript", tabindex: "0" });
    show(item.title, h("div", { class: "stage" },
      h("div", { class: "player" }, player.cover, player.element, player.silent),
      h("div", {}, h("h1", {}, h("bdi", {}, item.title)), h("p", { class: "facts" }, ...about(item)), why(item), tools(player), gets(item),
        h("p", { class: "hint" }, h("kbd", {}, "space"), " play or pause  ", h("kbd", {}, "←"), " ", h("kbd", {}, "→"),
          ` ${NUDGE_S} seconds  `, h("kbd", {}, "/"), " search  ", h("kbd", {}, "esc"), " back"))),
    script);
    main.className = "watch";
    keys(player.element);
    await read(item, script, player.element, from);
  } catch (error) {
    const said = problem(error, route);
    if (said) show("Recording", said);
  }
}

function unplayable(item) {
  return h("section", { class: "notice" }, h("h1", {}, h("bdi", {}, item.title)),
    h("p", { class: "facts" }, ...about(item)), why(item),
    h("p", {}, h("a", { href: "/library?state=failed" }, "See what else failed")));
}

function medium(item, from, play) {
  const kind = item.has_picture ? "video" : "audio";
  const element = h(kind, { controls: true, preload: "metadata", playsinline: true, "aria-label": item.title });
  const cover = item.has_picture || !item.poster ? null : h("img", { class: "cover", src: item.poster, alt: "" });
  const isExact = item.plays === "recording";
  if (kind === "video" && item.poster && !from && isExact) element.poster = item.poster;
  // Where a browser cannot play the recording as it is, or not at the right second, its sound plays.
  const sources = [h("source", { src: item.links.media }), h("source", { src: item.links.sound, type: "audio/flac" })];
  element.append(...(isExact ? sources : sources.reverse()));
  element.append(h("track", {
    kind: "subtitles", src: item.links.transcripts.vtt, srclang: item.language || "en", label: "Subtitles",
  }));
  let at = from;
  const stand = () => { if (Math.abs(element.currentTime - at) > 0.05) element.currentTime = at; };
  element.addEventListener("loadedmetadata", stand);
  element.addEventListener("timeupdate", () => { if (element.readyState > 1) at = element.currentTime; });
  element.addEventListener("seeking", () => { at = element.currentTime; });
  renewing(element);
  if (play) element.play().catch(() => tell("Press play to start."));
  leave.signal.addEventListener("abort", () => { element.pause(); element.removeAttribute("src"); });
  const silent = kind === "video" && !isExact ? silentPicture(item, element) : null;
  // The browser's own button would enlarge the sound without its picture.
  if (silent) element.setAttribute("controlslist", "nofullscreen");
  return { element, cover, silent };
}

const SMALLEST_CLOCK_START_S = 0.1;
const DRIFT_S = 0.25; // picture and sound may be so far apart before one sees it

// The picture of a recording, muted, which follows the extracted sound; the poster where it cannot follow.
function silentPicture(item, sound) {
  const picture = h("video", { class: "silent", preload: "auto", playsinline: true, src: item.links.media,
    tabindex: "-1", "aria-hidden": "true" });
  picture.muted = true;
  let clockStart = null; // what the browser calls the first second: some show the clock of the file
  const follow = () => {
    if (clockStart === null || picture.seeking) return;
    const wanted = sound.currentTime + clockStart;
    if (Math.abs(picture.currentTime - wanted) > DRIFT_S) picture.currentTime = wanted;
  };
  const giveUp = () => {
    picture.remove();
    if (item.poster) sound.poster = item.poster;
  };
  picture.addEventListener("loadeddata", () => {
    clockStart = picture.currentTime < SMALLEST_CLOCK_START_S ? 0 : picture.currentTime;
    follow();
    if (!sound.paused) picture.play().catch(() => {});
  }, { once: true });
  picture.addEventListener("seeked", () => {
    // Some files cannot be played beyond their length counted from 0, whatever second they start at.
    const end = Math.max(0, sound.duration - 1);
    const missed = Math.min(sound.currentTime, end) + clockStart - picture.currentTime;
    if (Math.abs(missed) > 2) giveUp();
  });
  picture.addEventListener("error", giveUp);
  for (const event of ["seeking", "timeupdate"]) sound.addEventListener(event, follow);
  sound.addEventListener("play", () => picture.play().catch(() => {}));
  sound.addEventListener("pause", () => picture.pause());
  sound.addEventListener("ratechange", () => { picture.playbackRate = sound.playbackRate; });
  leave.signal.addEventListener("abort", () => { picture.pause(); picture.removeAttribute("src"); });
  return picture;
}

const LINK_MS = 50 * 60_000; // a link into a bucket is good for an hour

// Asks for a new link before the old one is refused: browsers try that for half a minute before they say so.
function renewing(element) {
  let since = Date.now();
  const renew = (age) => {
    if (Date.now() - since < age) return;
    since = Date.now();
    const plays = !element.paused;
    element.load();
    if (plays) element.play().catch(() => {});
  };
  for (const event of ["seeking", "waiting"]) element.addEventListener(event, () => renew(LINK_MS));
  element.addEventListener("error", () => {
    if (element.error?.code === MediaError.MEDIA_ERR_NETWORK) renew(60_000);
  });
}

function tools({ element, silent }) {
  const label = () => `Copy link at ${clock(element.currentTime)}`;
  const copy = h("button", { class: "small", onclick: async () => {
    const link = new URL(location.href);
    link.search = `?t=${element.currentTime.toFixed(2)}`;
    try {
      await navigator.clipboard.writeText(link.href);
      copy.textContent = "Link copied";
      tell("Link copied");
    } catch {
      history.replaceState({}, "", link);
      copy.textContent = "The link is in the address bar";
    }
  } }, label());
  element.addEventListener("timeupdate", () => { copy.textContent = label(); });
  element.addEventListener("seeked", () => { copy.textContent = label(); });
  const speed = h("select", { "aria-label": "Speed", onchange: () => {
    element.defaultPlaybackRate = element.playbackRate = Number(speed.value); // the default outlives a new link
  } },
    ...[0.75, 1, 1.25, 1.5, 1.75, 2].map((rate) => h("option", { value: rate, selected: rate === 1 }, `${rate}×`)));
  const whole = silent && document.fullscreenEnabled ? h("button", { class: "small", onclick: () => {
    element.parentElement.requestFullscreen().catch(() => {});
  } }, "Full screen") : null;
  return h("div", { class: "tools" }, copy, speed, whole);
}

function gets(item) {
  const name = item.key.split("/").pop();
  return h("p", { class: "gets" }, "Download", ...Object.entries(item.links.transcripts).map(([kind, address]) =>
    h("a", { href: address, download: `${name}.${kind}` }, kind.toUpperCase())));
}

function keys(element) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target === element || event.target.matches("input, select, button, a")) return;
    if (event.key === " ") element.paused ? element.play() : element.pause();
    else if (event.key === "ArrowLeft") element.currentTime -= NUDGE_S;
    else if (event.key === "ArrowRight") element.currentTime += NUDGE_S;
    else return;
    event.preventDefault();
  }, { signal: leave.signal });
}

const NO_WORDS = {
  no_speech: "Nobody speaks in this recording.", not_understood: "Somebody speaks, but no words were understood.",
};

async function read(item, script, element, from) {
  const said = await api(`${item.links.words}`).catch((error) => {
    if (error.status !== 404) throw error;
    return null;
  });
  if (!said || !said.paragraphs.length) {
    const missing = item.state === "failed" ? "There is no transcript: this recording failed."
      : `There is no transcript yet${STEPS[item.step] ? ` (${STEPS[item.step]})` : ""}; it appears in the library.`;
    script.append(h("p", { class: "none" }, said ? NO_WORDS[said.silence] : missing));
    if (!said) document.querySelector(".gets")?.remove();
    return;
  }
  const words = [];
  const text = { dir: "auto", lang: said.language || null };
  script.append(...said.paragraphs.map((paragraph) => h("section", {},
    h("button", { class: "at", "data-at": paragraph.start, "aria-label": `Play from ${spoken(paragraph.start)}` },
      clock(paragraph.start)),
    h("p", text, paragraph.speaker ? h("span", { class: "speaker" }, paragraph.speaker) : null,
      ...paragraph.words.map(([start, end, word]) => {
        const span = h("span", { "data-i": words.length }, word.trimStart());
        words.push({ start, end, span });
        return word.startsWith(" ") ? [" ", span] : [span];
      }).flat()))));
  light(words, script, element, from);
}

// From the word to the end of its sentence, as one stretch: marked word by word, the gaps between them would show.
function mark(words, first) {
  const { span } = words[first];
  let last = first;
  while (!/[.?!…。？！؟]["'”’)]*$/.test(words[last].span.textContent)
    && words[last + 1]?.span.parentNode === span.parentNode) last += 1;
  const stretch = document.createRange();
  stretch.setStartBefore(span);
  stretch.setEndAfter(words[last].span);
  stretch.surroundContents(h("span", { class: "found" }));
}

function light(words, script, element, from) {
  const sections = [...script.children];
  let lit = null;
  let follows = true;
  const follow = h("button", { class: "main follow", hidden: true, onclick: () => {
    follows = true;
    follow.hidden = true;
    reveal();
  } }, "Follow along");
  main.append(follow);

  // The last word that has begun: it stays lit in the pause after it.
  function at(second) {
    let [low, high] = [0, words.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (words[middle].start <= second + 0.02) low = middle + 1;
      else high = middle;
    }
    return words[low - 1] ?? null;
  }

  function reveal() {
    lit?.span.scrollIntoView({ block: "center", behavior: calm.matches ? "auto" : "smooth" });
  }

  function update() {
    const word = at(element.currentTime);
    if (word === lit) return;
    lit?.span.classList.remove("now");
    word?.span.classList.add("now");
    const section = word?.span.closest("section");
    if (section !== lit?.span.closest("section")) {
      const index = sections.indexOf(section);
      sections.forEach((each, number) => each.classList.toggle("past", number < index));
    }
    const line = lit?.span.offsetTop;
    lit = word;
    if (follows && word && word.span.offsetTop !== line) reveal();
  }

  function frame() {
    if (leave.signal.aborted || !script.isConnected) return;
    update();
    if (!element.paused) requestAnimationFrame(frame);
  }

  function seek(second) {
    follows = true;
    follow.hidden = true;
    element.currentTime = second;
    element.play().catch(() => {});
  }

  element.addEventListener("play", frame);
  for (const event of ["seeked", "seeking", "timeupdate", "loadedmetadata"]) element.addEventListener(event, update);
  script.addEventListener("click", (event) => {
    const target = event.target.closest("[data-i], [data-at]");
    if (!target || String(getSelection())) return;
    seek(target.dataset.at ? Number(target.dataset.at) : words[target.dataset.i].start);
  });
  const free = () => {
    if (element.paused) return;
    follows = false;
    follow.hidden = false;
  };
  for (const event of ["wheel", "touchmove"]) {
    addEventListener(event, free, { passive: true, signal: leave.signal });
  }
  const start = at(from + 0.05);
  if (from && start) mark(words, words.indexOf(start));
  update();
  if (from) start?.span.scrollIntoView({ block: "center" });
  if (!element.paused) frame();
}

route();
