// The search box in the header: searches while the user types on the search page, on Enter elsewhere.

import { navigate } from "./router.js";

const TYPING_PAUSE_MS = 250;

export const searchBox = document.getElementById("q");
let pendingSearch;

/** Display the query of the URL, unless the user is typing another one. */
export function showQuery(query) {
  if (document.activeElement !== searchBox) searchBox.value = query;
}

/** Return to the start page, with an empty search box. */
export function clearSearch() {
  clearTimeout(pendingSearch);
  searchBox.value = "";
  navigate("/", { replace: true });
}

export function startSearchBox() {
  searchBox.addEventListener("input", () => {
    clearTimeout(pendingSearch);
    if (location.pathname !== "/") return;
    pendingSearch = setTimeout(() => navigate(searchAddress(), { replace: true }), TYPING_PAUSE_MS);
  });
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(pendingSearch);
    if (searchAddress() !== location.pathname + location.search) navigate(searchAddress());
  });
}

/** Return the URL of a search for the text in the box; filters of the search page are preserved. */
function searchAddress() {
  const params = location.pathname === "/" ? new URLSearchParams(location.search) : new URLSearchParams();
  for (const name of ["like", "at", "moment_kind"]) params.delete(name);
  params.set("q", searchBox.value);
  return searchBox.value.trim() ? `/?${params}` : "/";
}
