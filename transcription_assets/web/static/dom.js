// Building and replacing elements. Text from recordings and users is inserted as text nodes only, never as markup.

export const main = document.getElementById("main");
const status = document.getElementById("status");

/**
 * Create an element (hyperscript).
 * @param {string} tag
 * @param {Object<string, *>} properties attributes; `on…` adds an event listener, booleans toggle the attribute, null
 *   and undefined are ignored
 * @param {...(Node|string|null|undefined)} children null and undefined are ignored
 * @returns {HTMLElement}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Return the values as nodes with separators; each is isolated, so that right-to-left text does not reorder others. */
export const inlineList = (...values) => values.filter(Boolean)
  .flatMap((value, index) => [index ? " · " : "", h("bdi", {}, value)]);

/** Replace the content of the page. Nodes that are null are ignored. */
export function showView(title, ...nodes) {
  document.title = title;
  main.className = "";
  main.replaceChildren(...nodes.filter(Boolean));
}

/** Have screen readers read a message. */
export function announce(message) {
  status.textContent = message;
}
