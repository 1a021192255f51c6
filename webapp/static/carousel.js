// Arrows and keys for the carousels. Without this script they still scroll: by hand, wheel, touch or Tab.
"use strict";

for (const section of document.querySelectorAll("[data-carousel]")) {
  const track = section.querySelector(".carousel");
  const arrows = section.querySelector(".arrows");
  const [back, forward] = arrows.querySelectorAll("button");

  const page = () => Math.max(track.clientWidth * 0.85, 200);
  const card = () => track.firstElementChild.getBoundingClientRect().width + 18;
  const end = () => track.scrollWidth - track.clientWidth;

  function update() {
    arrows.hidden = end() <= 1;
    back.disabled = track.scrollLeft <= 1;
    forward.disabled = track.scrollLeft >= end() - 1;
  }

  back.addEventListener("click", () => track.scrollBy({ left: -page() }));
  forward.addEventListener("click", () => track.scrollBy({ left: page() }));
  track.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const steps = {
      ArrowLeft: -card(), ArrowRight: card(), Home: -track.scrollWidth, End: track.scrollWidth,
    };
    // Home and End belong to the page, unless the track itself has the focus
    if (!(event.key in steps) || (event.key.length < 5 && event.target !== track)) return;
    event.preventDefault();
    track.scrollBy({ left: steps[event.key] });
  });
  track.addEventListener("scroll", update, { passive: true });
  new ResizeObserver(update).observe(track);
}
