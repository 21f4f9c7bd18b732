"use strict";
// The map of concepts: points drawn from the page's own JSON twin; every state that matters lies in the address (`go`).

const canvas = document.getElementById("concept-map");
const pointed = document.getElementById("pointed");
const margin = 16;
let [points, hover, region] = [[], -1, null];

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const place = (x, y) => [margin + x * (canvas.width - 2 * margin), margin + (1 - y) * (canvas.height - 2 * margin)];
const back = (px, py) => [(px - margin) / (canvas.width - 2 * margin), 1 - (py - margin) / (canvas.height - 2 * margin)];
const clamp = (value) => Math.min(Math.max(value, 0), 1);

const mark = (context, shape, x, y, r) => {
  context.beginPath();
  if (shape === 0) context.arc(x, y, r, 0, 2 * Math.PI);
  else if (shape === 1) context.rect(x - r, y - r, 2 * r, 2 * r);
  else {
    const turned = shape === 2 ? [[0, -1.3], [1.2, 0.9], [-1.2, 0.9]] : [[0, -1.4], [1.4, 0], [0, 1.4], [-1.4, 0]];
    turned.forEach(([dx, dy], i) => context[i ? "lineTo" : "moveTo"](x + r * dx, y + r * dy));
    context.closePath();
  }
};

const draw = () => {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const radius = points.length > 12000 ? 2.5 : points.length > 3000 ? 4 : 6;
  const chosen = new URL(location.href).searchParams.get("group");
  for (const faint of [true, false])
    for (const point of points) {
      const away = Boolean(chosen) && point.name !== chosen;
      if (away !== faint) continue;
      context.globalAlpha = away ? 0.18 : 0.8;
      context.fillStyle = away ? style("--bar") : style(`--group-${Math.min(point.group, 12)}`);
      mark(context, point.group % 4, point.px, point.py, radius);
      context.fill();
    }
  context.globalAlpha = 1;
  context.strokeStyle = style("--focus");
  context.fillStyle = style("--focus");
  context.lineWidth = 2;
  if (region) {
    const [x0, y0, x1, y1] = region;
    context.strokeRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x0 - x1), Math.abs(y0 - y1));
  }
  if (hover >= 0) {
    context.strokeStyle = style("--ink");
    context.lineWidth = 3;
    mark(context, 0, points[hover].px, points[hover].py, radius + 5);
    context.stroke();
  }
};

// What is pointed at, as a card: asked of the gallery's twin, a little after the pointer rests.
let waiting = 0;
const tell = (index) => {
  hover = index;
  draw();
  clearTimeout(waiting);
  if (index < 0) return;
  waiting = setTimeout(async () => {
    const { latent } = points[index];
    const asked = new URLSearchParams({ q: latent, dataset: canvas.dataset.dataset, size: 1 });
    const [card] = (await (await fetch(`/api/concepts?${asked}`)).json()).cards;
    if (hover !== index || !card) return;
    const strip = document.createElement("span");
    strip.className = "strip";
    for (const cell of card.references) {
      const image = document.createElement("img");
      Object.assign(image, { src: `/pictures/${cell}.webp?size=144`, width: 72, height: 72, alt: "" });
      strip.append(image);
    }
    const link = document.createElement("a");
    link.href = `/concepts/${latent}?dataset=${encodeURIComponent(canvas.dataset.dataset)}`;
    const name = document.createElement("strong");
    name.textContent = card.name;
    link.append(strip, name);
    const more = document.createElement("span");
    more.className = "soft";
    more.textContent = `concept ${latent} · ${card.headline}`;
    pointed.replaceChildren(link, more);
  }, 120);
};

const at = (event) => {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
};
const nearest = ([x, y], within) => {
  let [best, least] = [-1, within ** 2];
  points.forEach((point, i) => {
    const far = (point.px - x) ** 2 + (point.py - y) ** 2;
    if (far < least) [best, least] = [i, far];
  });
  return best;
};
const open = (index) => {
  if (index >= 0) location.assign(`/concepts/${points[index].latent}?dataset=${encodeURIComponent(canvas.dataset.dataset)}`);
};
const bound = () => {
  const [x0, y0, x1, y1] = region;
  const [[left, top], [right, bottom]] = [back(Math.min(x0, x1), Math.min(y0, y1)), back(Math.max(x0, x1), Math.max(y0, y1))];
  const short = (value) => clamp(value).toFixed(3);
  go({ left: short(left), right: short(right), bottom: short(bottom), top: short(top) });
};

let from = null;
canvas.addEventListener("pointerdown", (event) => {
  from = at(event);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  const to = at(event);
  if (!from) return tell(nearest(to, 30));
  region = [...from, ...to];
  draw();
});
canvas.addEventListener("pointerup", (event) => {
  const to = at(event);
  const start = from;
  from = null;
  if (start && Math.hypot(to[0] - start[0], to[1] - start[1]) > 12) {
    region = [...start, ...to];
    bound();
  } else open(nearest(to, 30));
});
canvas.addEventListener("focus", () => {
  if (hover < 0 && points.length) tell(nearest([canvas.width / 2, canvas.height / 2], 1e9));
});
let corner = null; // where a region that is marked by keyboard began
canvas.addEventListener("keydown", (event) => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (way && hover >= 0) {
    event.preventDefault();
    const here = points[hover];
    let [best, least] = [-1, Infinity];
    points.forEach((point, i) => {
      const [dx, dy] = [point.px - here.px, point.py - here.py];
      const ahead = dx * way[0] + dy * way[1];
      const aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
      const far = ahead + 2 * aside;
      if (ahead > 0.5 && aside <= 2 * ahead && far < least) [best, least] = [i, far];
    });
    if (best < 0) return;
    if (event.shiftKey && !corner) corner = [here.px, here.py];
    if (event.shiftKey) region = [...corner, points[best].px, points[best].py];
    tell(best);
  } else if (event.key === "Enter") {
    event.preventDefault();
    if (region && corner) bound();
    else open(hover);
  } else if (event.key === "Escape") {
    [region, corner] = [null, null];
    draw();
    const asked = new URL(location.href).searchParams;
    if (asked.has("left")) go({ left: null, right: null, bottom: null, top: null });
  }
});

(async () => {
  const twin = await (await fetch(canvas.dataset.source)).json();
  points = twin.layout.latents.map((latent, i) => {
    const [px, py] = place(twin.layout.xs[i], twin.layout.ys[i]);
    const group = twin.of_group[i];
    return { latent, px, py, group, name: twin.groups[group].name };
  });
  const { left, right, bottom, top } = twin.query;
  if (left !== null && right !== null && bottom !== null && top !== null) region = [...place(left, top), ...place(right, bottom)];
  draw();
  canvas.dataset.points = points.length;
})();
