// The slides of a recording beside its transcript: thumbnails that can be clicked.

import { fetchJson } from "./api.js";
import { h } from "./dom.js";
import { formatTime } from "./format.js";

/**
 * Load the slides into an element, which stays hidden without any, and connect them to the player.
 * @param {Object} item a recording of the API
 * @param {HTMLElement} element
 * @param {HTMLMediaElement} media
 */
export async function showSlides(item, element, media) {
  if (!item.links.slides) return;
  const { slides } = await fetchJson(item.links.slides);
  if (!slides.length) return;
  const buttons = slides.map((slide) => slideButton(slide, media));
  element.append(h("h2", { class: "quiet" }, "Slides"), h("ol", {}, ...buttons.map((button) => h("li", {}, button))));
  element.hidden = false;
  const mark = () => {
    const current = slides.findLastIndex((slide) => slide.start <= media.currentTime && media.currentTime < slide.end);
    buttons.forEach((button, index) => button.setAttribute("aria-current", index === current));
  };
  for (const event of ["seeked", "timeupdate", "loadedmetadata"]) media.addEventListener(event, mark);
  mark();
}

function slideButton(slide, media) {
  const play = () => {
    media.currentTime = slide.start;
    media.play().catch(() => {});
  };
  return h("button", { type: "button", class: "slide", "data-slide": slide.number, title: slide.text, onclick: play },
    slidePicture(slide), h("time", {}, formatTime(slide.start)));
}

/** Return the thumbnail of a slide, with its text for those who do not see it. */
export function slidePicture(slide) {
  return h("img", { src: slide.picture, alt: slide.text, loading: "lazy", width: "320", height: "180" });
}
