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

// An image that is tried is held by this page alone: whatever is asked of it next is asked with the image again.
let tried = null;
const ask = async (changes) => {
  if (!tried) return go(changes);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) tried.query.delete(name);
    else tried.query.set(name, value);
  }
  const body = new FormData();
  body.append("image", tried.file);
  const answer = await fetch(`/try?${tried.query}`, { method: "POST", body });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.querySelector("main").replaceWith(page.querySelector("main"));
  document.title = page.title;
  startMaps();
  startCell();
  const place = document.getElementById("change" in changes ? "change" : "grid");
  if (place) place.focus();
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-change]");
  if (button) ask({ change: button.dataset.change, second: null, by: button.dataset.by });
});
document.addEventListener("submit", (event) => {
  if (event.target.id === "drop") {
    tried = { file: event.target.querySelector("input[type=file]").files[0], query: new URLSearchParams() };
    event.preventDefault();
    ask({});
  } else if (tried && event.target.id === "change-form") {
    event.preventDefault();
    const asked = new FormData(event.target);
    ask({ change: asked.get("change"), second: asked.get("second") || null, by: asked.get("by") });
  }
});

// Left and right arrow: the previous and the next page or concept.
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea, [data-keys]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && document.querySelector(`a[rel=${rel}]`);
  if (link) link.click();
});

// Maps: on or off, opacity, colour scale; remembered for this tab.
function startMaps() {
  const overlay = document.querySelector("form.overlay");
  if (!overlay) return;
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
startMaps();

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

// A cell: pointing at patches, and the map of the concept that is chosen, drawn here from the values in the page.
function startCell() {
  const grid = document.getElementById("grid");
  if (!grid) return;
  const [rows, columns] = grid.dataset.grid.split(",").map(Number);
  const canvas = document.getElementById("map");
  const cursor = document.getElementById("cursor");
  const ramps = {
    viridis: ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"],
    cividis: ["#00224e", "#434e6c", "#7d7c78", "#bcae6c", "#fee838"],
    magma: ["#000004", "#51127c", "#b73779", "#fc8961", "#fcfdbf"],
    greys: ["#000000", "#404040", "#808080", "#c0c0c0", "#ffffff"],
  };
  const colour = (share, name) => {
    const ramp = ramps[name];
    const at = Math.min(share * (ramp.length - 1), ramp.length - 1.001);
    const [low, high] = [ramp[Math.floor(at)], ramp[Math.floor(at) + 1]];
    return [1, 3, 5].map((i) => {
      const [a, b] = [parseInt(low.slice(i, i + 2), 16), parseInt(high.slice(i, i + 2), 16)];
      return a + (b - a) * (at % 1);
    });
  };
  const draw = () => {
    const chosen = document.querySelector(".show-map[aria-pressed=true]");
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, columns, rows);
    if (!chosen) return;
    const values = chosen.dataset.values.split(",").map(Number);
    const scale = document.getElementById("map-scale").value;
    const image = context.createImageData(columns, rows);
    values.forEach((value, i) => {
      const share = Math.min(value / (+chosen.dataset.top || 1), 1);
      image.data.set([...colour(share, scale), 255 * share ** 0.6], 4 * i);
    });
    context.putImageData(image, 0, 0);
  };
  for (const button of document.querySelectorAll(".show-map")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "true";
      for (const other of document.querySelectorAll(".show-map")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(!on));
      draw();
    });
  }
  const first = document.querySelector(".show-map[aria-pressed=true]") || document.querySelector(".show-map");
  for (const other of document.querySelectorAll(".show-map")) other.setAttribute("aria-pressed", String(other === first));
  document.getElementById("map-scale").addEventListener("input", draw);
  draw();

  const patch = (event) => {
    const box = grid.getBoundingClientRect();
    const index = (share, n) => Math.min(Math.max(Math.floor(share * n), 0), n - 1);
    return [index((event.clientX - box.left) / box.width, columns), index((event.clientY - box.top) / box.height, rows)];
  };
  const place = ([x, y]) => {
    cursor.setAttribute("x", x);
    cursor.setAttribute("y", y);
  };
  const rectangle = ([x0, y0], [x1, y1]) => {
    const found = [];
    for (let y = Math.min(y0, y1); y <= Math.max(y0, y1); y++)
      for (let x = Math.min(x0, x1); x <= Math.max(x0, x1); x++) found.push(y * columns + x);
    return found;
  };
  const choose = (patches) => ask({ patches: patches.length ? patches.join(",") : null });
  let [from, at] = [null, [columns >> 1, rows >> 1]];
  place(at);
  grid.addEventListener("pointerdown", (event) => {
    from = patch(event);
    grid.setPointerCapture(event.pointerId);
    event.preventDefault();
    grid.focus({ preventScroll: true }); // else the patch under the pointer would be another one when it is let go
  });
  grid.addEventListener("pointermove", (event) => {
    at = patch(event);
    const [x0, y0] = from || at;
    place([Math.min(x0, at[0]), Math.min(y0, at[1])]);
    cursor.setAttribute("width", Math.abs(x0 - at[0]) + 1);
    cursor.setAttribute("height", Math.abs(y0 - at[1]) + 1);
  });
  grid.addEventListener("pointerup", (event) => {
    if (from) choose(rectangle(from, patch(event)));
    from = null;
  });
  grid.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      at = at.map((value, i) => Math.min(Math.max(value + step[i], 0), [columns, rows][i] - 1));
      place(at);
      event.preventDefault();
    } else if (event.key === "Enter" || event.key === " ") {
      const one = at[1] * columns + at[0];
      const known = grid.dataset.patches ? grid.dataset.patches.split(",").map(Number) : [];
      choose(event.shiftKey ? [...new Set([...known, one])].sort((a, b) => a - b) : [one]);
      event.preventDefault();
    } else if (event.key === "Escape") choose([]);
  });
}
startCell();

// An image can be dropped onto the form.
const drop = document.getElementById("drop");
if (drop) {
  for (const kind of ["dragenter", "dragover"])
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.querySelector("input[type=file]").files = event.dataTransfer.files;
    drop.requestSubmit();
  });
}

// An explanation that would leave the window is moved into it; Escape closes it.
document.addEventListener(
  "toggle",
  (event) => {
    if (!event.target.matches("details.help[open]")) return;
    const told = event.target.querySelector("span");
    told.style.translate = "";
    const { left, right } = told.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    told.style.translate = `${right > width - 8 ? width - 8 - right : Math.max(8 - left, 0)}px 0`;
  },
  true,
);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const help of document.querySelectorAll("details.help[open]")) help.open = false;
});
