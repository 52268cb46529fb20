"use strict";
// Sort, filter, open and play. The page holds all its numbers without this; nothing here asks for anything but audio.
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const table = document.getElementById("scores");
const body = table.tBodies[0];
const more = document.getElementById("more");
let rows = [...body.rows];
let most = 110; // rows, enough for FLEURS; a table of a thousand takes a second to lay out

function sortKey(header) {
  const { column, headline } = header.dataset;
  if (headline !== undefined) return (row) => Number(row.dataset.headlines.split(" ")[headline]);
  if (column === "0") return (row) => row.cells[0].dataset.value;
  return (row) => Number(row.cells[column].dataset.value || NaN); // the paper's numbers are not known of every language
}

function sort(header) {
  const now = header.ariaSort;
  const worst = header.dataset.first ?? "descending"; // numbers from the worst, which of accuracies is the lowest
  const first = header.dataset.column === "0" ? "ascending" : worst; // languages from a
  const order = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
  for (const other of all("th[aria-sort]", table)) other.ariaSort = "none";
  header.ariaSort = order;
  const key = sortKey(header);
  const sign = order === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [key(row), row]);
  const missing = (value) => Number(Number.isNaN(value));
  keyed.sort(([a], [b]) => missing(a) - missing(b) || (a < b ? -sign : a > b ? sign : 0));
  rows = keyed.map(([, row]) => row);
  body.append(...rows);
  filter();
}

for (const header of all("th[aria-sort]", table)) header.querySelector("button").onclick = () => sort(header);

const sections = all("details.lang");
const drawn = new Map();
for (const shape of all(".overview .l")) {
  const { lang } = shape.dataset;
  drawn.set(lang, [...(drawn.get(lang) ?? []), shape]);
}

// Show what the filter box asks for; of a thousand languages the first in the order of the table.
function filter() {
  const parts = document.getElementById("filter").value.toLowerCase().split(",").map((part) => part.trim()).filter(Boolean);
  const fits = (element) => !parts.length || parts.some((part) => element.dataset.find.includes(part));
  let found = 0;
  for (const row of rows) {
    const fitting = fits(row);
    row.hidden = !fitting || found >= most;
    found += fitting ? 1 : 0;
    for (const shape of drawn.get(row.dataset.lang) ?? []) shape.classList.toggle("faint", !fitting);
  }
  for (const section of sections) section.hidden = !fits(section);
  document.getElementById("found").textContent = parts.length ? `${found} of ${rows.length}` : "";
  more.hidden = found <= most;
  more.textContent = `show all ${found} languages, not only the first ${most}`;
}

function showAll() {
  most = Infinity;
  filter();
}

more.onclick = showAll;
addEventListener("beforeprint", showAll);
filter();
let waiting = 0;
document.getElementById("filter").oninput = () => {
  clearTimeout(waiting);
  waiting = setTimeout(filter, 100); // not while more is typed
};
// What is wider than its box says so until it is scrolled to its end.
const mark = (box) => box.classList.toggle("beyond", box.scrollWidth - box.clientWidth - box.scrollLeft > 2);
const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => mark(target)));
function watch(within) {
  for (const box of all(".scroll, .wide", within)) {
    sizes.observe(box);
    box.addEventListener("scroll", () => mark(box), { passive: true });
  }
}
watch(document);
// Where there are many languages, what a section holds is a template until it is opened.
for (const section of sections) {
  section.addEventListener("toggle", () => {
    const template = section.querySelector("template");
    if (!template) return;
    template.replaceWith(template.content);
    watch(section);
  });
}
document.getElementById("open").onclick = () => sections.forEach((section) => (section.open = !section.hidden));
document.getElementById("close").onclick = () => sections.forEach((section) => (section.open = false));

// The utterances of a language: most errors first, or least sure first.
document.addEventListener("change", (event) => {
  const { target } = event;
  if (!target.matches("select.order")) return;
  const section = target.closest("details.lang");
  section.articles ??= all("article", section);
  const by = (article) => Number(article.dataset.order.split(" ")[target.value]);
  const sign = target.value === "0" ? -1 : 1;
  section.append(...[...section.articles].sort((a, b) => sign * (by(a) - by(b))));
});

function openSection() {
  const section = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!section?.matches("details.lang")) return;
  section.open = true;
  section.scrollIntoView();
}

addEventListener("hashchange", openSection);
openSection();
table.addEventListener("click", (event) => {
  const link = event.target.closest("a"); // to the section that the address names already: no hashchange comes
  if (link && link.getAttribute("href") === location.hash) openSection();
});

const player = document.getElementById("player");
const audio = player.querySelector("audio");
let playing = null;

function show() {
  for (const button of all("button.play.on")) button.classList.remove("on");
  if (playing && !audio.paused) playing.classList.add("on");
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.play");
  if (!button) return;
  if (button === playing && !audio.paused) return audio.pause();
  if (button !== playing) audio.src = button.dataset.src;
  playing = button;
  player.hidden = false;
  player.querySelector("code").textContent = button.nextElementSibling.textContent;
  audio.play().catch(() => {
    button.disabled = true;
    button.title = "the audio is no longer there, or the browser cannot play it";
  });
});
for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, show);
