"use strict";
// The panel of a review: the keyboard alone is enough, drafts are kept, seconds in view are counted.

const form = document.getElementById("answer");
const filter = document.getElementById("filter");
const [seconds, version, note] = ["seconds", "version", "note"].map((id) => document.getElementById(id));
let saving = Promise.resolve();
let timer = null;

setInterval(() => {
  if (!document.hidden) seconds.value = +seconds.value + 1;
}, 1000);

const saveDraft = () => {
  saving = saving.then(async () => {
    const data = new FormData(form);
    const query = new URLSearchParams({ version: version.value, rater: data.get("rater"), seconds: seconds.value });
    const answer = {
      verdict: data.get("verdict") || "",
      terms: data.getAll("terms"),
      words: data.get("words"),
      place: data.get("place") || "",
      confidence: +data.get("confidence") || 0,
      misfits: data.getAll("misfits").map(Number),
    };
    const body = JSON.stringify(answer);
    const headers = { "content-type": "application/json" };
    try {
      const said = await fetch(`/api${location.pathname}?${query}`, { method: "POST", headers, body });
      const told = await said.json();
      if (said.ok) version.value = told.version;
      note.textContent = said.ok ? "Draft kept." : told.detail;
    } catch {
      note.textContent = "The draft could not be kept: the server does not answer.";
    }
  });
};
form.addEventListener("input", (event) => {
  if (event.target === filter || form.dataset.state === "submitted") return;
  clearTimeout(timer);
  timer = setTimeout(saveDraft, 600);
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearTimeout(timer);
  await saving;
  form.submit();
});

const check = (name, index) => {
  const boxes = form.querySelectorAll(`input[name=${name}]`);
  if (!boxes[index]) return;
  boxes[index].checked = boxes[index].type === "checkbox" ? !boxes[index].checked : true;
  boxes[index].dispatchEvent(new Event("input", { bubbles: true }));
};
const shown = () => [...form.querySelectorAll("label.term")].filter((label) => !label.hidden);
filter.addEventListener("input", () => {
  const wanted = filter.value.trim().toLowerCase();
  for (const label of form.querySelectorAll("label.term")) label.hidden = !label.dataset.names.includes(wanted);
});
filter.addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    const box = filter.value.trim() && shown()[0]?.querySelector("input");
    if (box) {
      box.checked = !box.checked;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }
  } else if (event.key !== "Escape") return;
  filter.value = "";
  filter.dispatchEvent(new Event("input"));
  if (event.key === "Escape") filter.blur();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("textarea, input[type=text]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const digit = /^Digit([1-5])$/.exec(event.code);
  const place = { n: 0, c: 1, w: 2, e: 3, s: 4, o: 5 }[event.key];
  if (digit) check(event.shiftKey ? "confidence" : "verdict", +digit[1] - 1);
  else if (place !== undefined) check("place", place);
  else if (event.key === "/" || event.key === "t") filter.focus();
  else if (event.key === "f") document.getElementById("words").focus();
  else if (event.key === "x") document.querySelector("input[name=misfits]").focus();
  else if (event.key === "m") document.body.classList.toggle("no-map");
  else if (event.key === "Enter" && !event.target.closest("a, button, summary")) form.requestSubmit();
  else if (event.key === "b") document.querySelector("a[rel=prev]")?.click();
  else return;
  event.preventDefault();
});
