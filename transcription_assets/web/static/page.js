// Entry point: renders the view that belongs to the URL.

import { startKeyboardShortcuts } from "./keyboard.js";
import { showLibrary } from "./library.js";
import { startRouter } from "./router.js";
import { showQuery, startSearchBox } from "./search-box.js";
import { showResults } from "./search.js";
import { showStart } from "./start.js";
import { showRecording } from "./watch.js";

const WATCH = "/watch/";

/** @param {URL} url */
function render({ pathname, searchParams }) {
  const query = searchParams.get("q") ?? "";
  const hasResults = query.trim() || searchParams.get("like");
  const isWatch = pathname.startsWith(WATCH);
  showQuery(query);
  for (const link of document.querySelectorAll(".top nav a")) {
    link.toggleAttribute("aria-current", link.getAttribute("href") === pathname);
  }
  document.body.classList.toggle("start", pathname === "/" && !hasResults);
  document.body.classList.toggle("watching", isWatch);
  if (isWatch) showRecording(pathname.slice(WATCH.length), searchParams);
  else if (pathname === "/library") showLibrary(searchParams);
  else if (hasResults) showResults(searchParams);
  else showStart(searchParams);
}

startSearchBox();
startKeyboardShortcuts();
startRouter(render);
