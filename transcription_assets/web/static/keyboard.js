// Keyboard shortcuts of every view; those of the player are in controls.js.

import { main } from "./dom.js";
import { navigate } from "./router.js";
import { clearSearch, searchBox } from "./search-box.js";

export function startKeyboardShortcuts() {
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "/" && !target.matches("input, textarea, select")) {
      event.preventDefault();
      searchBox.focus();
      searchBox.select();
    } else if (key === "Escape") leave(target);
    else if (key === "ArrowDown") moveFocus(event, 1);
    else if (key === "ArrowUp") moveFocus(event, -1);
  });
}

/** Clear the search, go back from a recording, or move the focus out of or into the search box. */
function leave(target) {
  if (target === searchBox && searchBox.value && location.pathname === "/") clearSearch();
  else if (location.pathname.startsWith("/watch/")) leaveRecording();
  else if (target === searchBox) searchBox.blur();
  else searchBox.focus();
}

function leaveRecording() {
  const query = new URL(location.href).searchParams.get("q");
  navigate(query ? `/?q=${encodeURIComponent(query)}` : "/library");
}

/** Move the focus to the next (1) or previous (-1) result; the search box comes before the first one. */
function moveFocus(event, direction) {
  const results = [...main.querySelectorAll("a.hit, .weak summary")].filter((each) => each.checkVisibility());
  const focused = document.activeElement;
  const index = results.indexOf(focused);
  if (!results.length || (index < 0 && ![searchBox, document.body, main].includes(focused))) return;
  if (index < 0 && direction < 0) return;
  event.preventDefault();
  if (index + direction < 0) searchBox.focus();
  else results[Math.min(index + direction, results.length - 1)].focus();
}
