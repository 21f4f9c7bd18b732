"use strict";
// What a page does beyond links and forms. Every state lies in the address; without this script all pages can be read.

const go = (changes) => {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  location.assign(url);
};

// Left and right arrow: the previous and the next page or concept.
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea, [data-keys]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && document.querySelector(`a[rel=${rel}]`);
  if (link) link.click();
});

// Maps: on or off, opacity, colour scale; remembered for this tab.
const overlay = document.querySelector("form.overlay");
if (overlay) {
  const [on, opacity, scale] = ["map-on", "map-opacity", "map-scale"].map((id) => document.getElementById(id));
  const known = JSON.parse(sessionStorage.getItem("maps") || "{}");
  if ("on" in known) [on.checked, opacity.value, scale.value] = [known.on, known.opacity, known.scale];
  const apply = () => {
    document.body.classList.toggle("no-map", !on.checked);
    document.documentElement.style.setProperty("--map-opacity", opacity.value / 100);
    for (const image of document.querySelectorAll("img[data-map]")) {
      const url = new URL(image.src);
      if ((url.searchParams.get("scale") || "viridis") === scale.value) continue;
      url.searchParams.set("scale", scale.value);
      image.src = url;
    }
    sessionStorage.setItem("maps", JSON.stringify({ on: on.checked, opacity: opacity.value, scale: scale.value }));
  };
  overlay.addEventListener("input", apply);
  overlay.addEventListener("submit", (event) => event.preventDefault());
  apply();
}

// Dragging over the plot of all concepts bounds what is shown.
const density = document.getElementById("density");
if (density) {
  const [box, { xLow, xHigh, yLow, yHigh, width, height }] = [density.querySelector("#brush"), density.dataset];
  const at = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(density.getScreenCTM().inverse());
    return [Math.min(Math.max(point.x, 0), +width), Math.min(Math.max(point.y, 0), +height)];
  };
  let from = null;
  density.addEventListener("pointerdown", (event) => {
    from = at(event);
    density.setPointerCapture(event.pointerId);
  });
  density.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = at(event);
    box.setAttribute("x", Math.min(from[0], to[0]));
    box.setAttribute("y", Math.min(from[1], to[1]));
    box.setAttribute("width", Math.abs(from[0] - to[0]));
    box.setAttribute("height", Math.abs(from[1] - to[1]));
  });
  density.addEventListener("pointerup", (event) => {
    const to = at(event);
    const start = from;
    from = null;
    if (Math.abs(start[0] - to[0]) < 3 || Math.abs(start[1] - to[1]) < 3) return;
    const x = (value) => 10 ** (+xLow + (value / width) * (xHigh - xLow));
    const y = (value) => 10 ** (+yLow + (1 - value / height) * (yHigh - yLow));
    const short = (value) => value.toPrecision(3);
    go({
      low_frequency: short(x(Math.min(start[0], to[0]))),
      high_frequency: short(x(Math.max(start[0], to[0]))),
      low_activation: short(y(Math.max(start[1], to[1]))),
      high_activation: short(y(Math.min(start[1], to[1]))),
      page: null,
    });
  });
}
