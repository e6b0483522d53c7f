"use strict";
const PER_PAGE = 12, EXAMPLES = 6;
const data = JSON.parse(document.getElementById("data").textContent);
document.getElementById("data").remove();
const $ = id => document.getElementById(id);
const COLUMNS = {{ columns | tojson }};
const sentences = data.sentences.map((row, place) => Object.assign(
  {place}, ...COLUMNS.map((name, i) => ({[name]: row[i]}))));
const clean = text => text.toLowerCase().replace(/[.,'!?"()*#:;]/g, "").replace(/[-\/]/g, " ").split(/\s+/).filter(Boolean);
const tokens = sentences.map(s => clean(s.text));
const HEAT = Uint8Array.from(atob(data.style.heat), c => c.charCodeAt(0));
const CONTROLS = ["split", "at", "sort", "failure", "kind", "word"].filter($);
const NAMES = Object.fromEntries(CONTROLS.map(id => [id, $(id).value]));  // initial values: no filter
let shown = [], page = 0, open = null, written = null;

// ---- Filtering and sorting

const at = () => $("at") ? Number($("at").value) : 0;
const orders = {
  data: null, worst: (a, b) => a.ious[at()] - b.ious[at()], best: (a, b) => b.ious[at()] - a.ious[at()],
  short: (a, b) => a.words - b.words, long: (a, b) => b.words - a.words,
};

function select() {
  const split = data.splits.indexOf($("split").value), wanted = clean($("word").value);
  const failure = data.failures.indexOf($("failure").value), any = $("failure").value === "any";
  const kind = data.kinds.indexOf($("kind").value);
  shown = sentences.filter(s => (split < 0 || s.split === split)
    && (!any || s.failures[at()] >= 0) && (failure < 0 || s.failures[at()] === failure)
    && (kind < 0 || s.kinds.includes(kind))
    && wanted.every(word => tokens[s.place].some(token => token.startsWith(word))));
  const order = orders[$("sort").value];
  if (order) shown.sort(order);
  for (const button of document.querySelectorAll("button.word"))
    button.setAttribute("aria-pressed", String(wanted.length === 1 && wanted[0] === button.textContent));
}

// ---- The URL fragment of a view: filters, page and enlarged sentence

function write() {
  const view = new URLSearchParams();
  for (const id of CONTROLS) if ($(id).value !== NAMES[id]) view.set(id, $(id).value);
  if (page) view.set("page", page + 1);
  if (open) view.set("sentence", `${data.splits[open.split]} ${open.id}`);
  const empty = !String(view);
  written = empty ? "#view=all" : `#${view}`;
  $("link").href = written;
  if (location.hash !== written && (!empty || location.hash)) location.replace(written);
}

function read() {
  if (location.hash === written) return;
  written = location.hash;
  const view = new URLSearchParams(location.hash.slice(1));
  const named = [...CONTROLS, "page", "sentence", "view"].some(name => view.has(name));
  if (location.hash && !named && $(location.hash.slice(1))) return;  // an anchor on the page
  for (const id of CONTROLS) {
    $(id).value = view.get(id) ?? NAMES[id];
    if ($(id).selectedIndex < 0) $(id).value = NAMES[id];  // unknown option
  }
  select();
  page = Number(view.get("page") ?? 1) - 1 || 0;
  const wanted = view.get("sentence");
  open = wanted ? sentences.find(s => `${data.splits[s.split]} ${s.id}` === wanted) ?? null : null;
  if (open && !shown.includes(open)) shown.unshift(open);
  if (open) page = Math.floor(shown.indexOf(open) / PER_PAGE);
  draw();
  if (named && !open) $("gallery").scrollIntoView();
}

// ---- Drawing

// Decodes COCO's compressed RLE (column-major): base-32 digits, differences from the third run on.
function decode(text, w, h) {
  const mask = new Uint8Array(w * h), runs = [];
  for (let i = 0; i < text.length;) {
    let value = 0, shift = 0, digit;
    do {
      digit = text.charCodeAt(i++) - 48;
      value |= (digit & 31) << shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  let place = 0, inside = 0;
  for (const run of runs) {
    if (inside) for (let k = place; k < place + run; k++) mask[(k % h) * w + Math.floor(k / h)] = 1;
    place += run;
    inside = 1 - inside;
  }
  return mask;
}

function load(uri) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = uri;
  });
}

// Draws an outline along pixel edges: a coloured line with a dark rim, visible on any background.
function outline(context, mask, w, h, k, colour) {
  const path = new Path2D();
  for (let y = 0, i = 0; y < h; y++) for (let x = 0; x < w; x++, i++) if (mask[i]) {
    const sides = [[y === 0 || !mask[i - w], 0, 0, 1, 0], [y === h - 1 || !mask[i + w], 0, 1, 1, 1],
      [x === 0 || !mask[i - 1], 0, 0, 0, 1], [x === w - 1 || !mask[i + 1], 1, 0, 1, 1]];
    for (const [edge, x0, y0, x1, y1] of sides) if (edge) {
      path.moveTo(k * (x + x0), k * (y + y0));
      path.lineTo(k * (x + x1), k * (y + y1));
    }
  }
  const width = Math.max(w, h) * k / (k > 1 ? 220 : 85);
  context.lineCap = "square";
  for (const [style, thick] of [["#000", 1.6 * width], [`rgb(${colour})`, width]]) {
    context.strokeStyle = style;
    context.lineWidth = thick;
    context.stroke(path);
  }
}

// Fades the background and outlines the masks.
function outlined(context, image, w, h, k, masks) {
  const decoded = masks.map(([number, colour]) => [decode(data.masks[number], w, h), colour]);
  const veil = new ImageData(w, h), p = veil.data;
  for (let i = 0; i < w * h; i++) {
    p[4 * i] = p[4 * i + 1] = p[4 * i + 2] = 255;
    p[4 * i + 3] = decoded.some(([mask]) => mask[i]) ? 0 : 166;
  }
  const small = document.createElement("canvas");
  small.width = w;
  small.height = h;
  small.getContext("2d").putImageData(veil, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(image, 0, 0, w * k, h * k);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, w * k, h * k);
  for (const [mask, colour] of decoded) outline(context, mask, w, h, k, colour);
}

// Draws a heatmap over the gray image; zero is transparent.
function warm(context, image, heatmap, w, h) {
  context.imageSmoothingQuality = "high";
  context.drawImage(heatmap, 0, 0, w, h);
  const heat = context.getImageData(0, 0, w, h).data;
  context.drawImage(image, 0, 0, w, h);
  const pixels = context.getImageData(0, 0, w, h), p = pixels.data;
  for (let i = 0; i < p.length; i += 4) {
    const gray = data.style.gray * (.299 * p[i] + .587 * p[i + 1] + .114 * p[i + 2]);
    const level = 4 * heat[i], opacity = HEAT[level + 3] / 255;
    for (let c = 0; c < 3; c++) p[i + c] = gray * (1 - opacity) + HEAT[level + c] * opacity;
  }
  context.putImageData(pixels, 0, 0);
}

function panel(parent, title, w, h, s) {
  const figure = document.createElement("figure"), canvas = document.createElement("canvas");
  canvas.width = w;
  canvas.height = h;
  canvas.onclick = () => enlarge(s);
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.append(canvas, caption);
  parent.append(figure);
  return canvas.getContext("2d", {willReadFrequently: true});
}

// Draws the panels of a sentence; `k` is the scale relative to the stored thumbnail.
async function fill(card, s, k) {
  const [uri, w, h] = data.images[s.image], size = [w * k, h * k, s];
  const header = document.createElement("header"), text = document.createElement("b");
  const score = document.createElement("span"), panels = document.createElement("div");
  const failure = s.failures[at()];
  text.textContent = s.text;
  score.className = "score";
  score.textContent = `IoU ${s.ious[at()].toFixed(3)} · ${data.splits[s.split]} ${s.id}`;
  if (failure >= 0) {
    const why = document.createElement("span");
    why.className = "failure";
    why.textContent = ` · ${data.failures[failure]}`;
    score.append(why);
  }
  header.append(text, score);
  panels.className = h > w ? "panels tall" : "panels";
  card.replaceChildren(header, panels);
  const contexts = {image: panel(panels, "image", ...size)};
  if (s.heatmap) contexts.heatmap = panel(panels, "heatmap", ...size);
  const [where] = data.thresholds[at()].split(",");
  contexts.prediction = panel(panels, where ? `prediction at ${where}` : "prediction", ...size);
  contexts.truth = panel(panels, "truth", ...size);
  const image = await load(uri);
  contexts.image.drawImage(image, 0, 0, w * k, h * k);
  outlined(contexts.prediction, image, w, h, k, [[s.predictions[at()], data.style.prediction]]);
  outlined(contexts.truth, image, w, h, k, [[s.truth, data.style.truth]]);
  if (s.heatmap) warm(contexts.heatmap, image, await load(s.heatmap), w * k, h * k);
}

// ---- Pages, the enlarged sentence, examples of failures

function draw() {
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  page = Math.max(0, Math.min(page, pages - 1));
  for (const where of document.querySelectorAll(".where"))
    where.textContent = `page ${page + 1} of ${pages}, ${shown.length} sentences`;
  for (const button of document.querySelectorAll("[data-turn]"))
    button.disabled = page === ({first: 0, prev: 0, next: pages - 1, last: pages - 1})[button.dataset.turn];
  const cards = shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(s => {
    const card = document.createElement("article");
    card.className = "card";
    return [card, s];
  });
  $("cards").replaceChildren(...cards.map(([card]) => card));
  document.body.dataset.drawn = "";
  const work = cards.map(([card, s]) => fill(card, s, 1));
  if (open) work.push(show());
  else if ($("large").open) $("large").close();
  Promise.all(work).then(() => { document.body.dataset.drawn = "yes"; });
  write();
}

async function show() {
  if (!$("large").open) $("large").showModal();
  const [, w, h] = data.images[open.image], place = shown.indexOf(open);
  $("position").textContent = `${place + 1} of ${shown.length}`;
  for (const button of document.querySelectorAll("[data-step]"))
    button.disabled = !shown[place + Number(button.dataset.step)];
  await fill($("enlarged"), open, Math.max(1, Math.min(4, Math.floor(960 / Math.max(w, h)))));
}

function enlarge(s) {
  if (open === s) return;
  if (!shown.includes(s)) shown.unshift(s);
  open = s;
  page = Math.floor(shown.indexOf(s) / PER_PAGE);
  draw();
}

function step(by) {
  const next = shown[shown.indexOf(open) + by];
  if (next) enlarge(next);
}

async function examples(parent) {
  const number = Number(parent.dataset.failure), of = sentences.filter(s => s.failures[at()] === number);
  const chosen = [...new Set(Array.from({length: EXAMPLES}, (_, i) => of[Math.floor((i + .5) * of.length / EXAMPLES)]))];
  parent.replaceChildren();
  await Promise.all(chosen.filter(Boolean).map(async s => {
    const [uri, w, h] = data.images[s.image];
    const context = panel(parent, `${s.text}, IoU ${s.ious[at()].toFixed(2)}`, w, h, s);
    outlined(context, await load(uri), w, h, 1,
      [[s.truth, data.style.truth], [s.predictions[at()], data.style.prediction]]);
  }));
}

function legend() {
  for (const name of ["prediction", "truth"])
    document.querySelector(`.line.${name}`).style.background = `rgb(${data.style[name]})`;
  const context = $("heat").getContext("2d");
  for (let x = 0; x < 80; x++) {
    const level = 4 * Math.round(255 * x / 79), opacity = HEAT[level + 3] / 255;
    const mixed = [0, 1, 2].map(c => data.style.gray * 150 * (1 - opacity) + HEAT[level + c] * opacity);
    context.fillStyle = `rgb(${mixed})`;
    context.fillRect(x, 0, 1, 10);
  }
}

const turn = to => { page = to; draw(); };
const turns = {first: () => 0, prev: () => page - 1, next: () => page + 1, last: () => Infinity};
for (const button of document.querySelectorAll("[data-turn]")) button.onclick = () => {
  turn(turns[button.dataset.turn]());
  if (button.closest(".pager") !== document.querySelector(".pager")) $("gallery").scrollIntoView();
};
for (const button of document.querySelectorAll("[data-step]")) button.onclick = () => step(Number(button.dataset.step));
for (const id of CONTROLS) $(id).addEventListener(id === "word" ? "input" : "change", () => { select(); turn(0); });
for (const button of document.querySelectorAll("button.word"))
  button.onclick = () => { $("word").value = button.getAttribute("aria-pressed") === "true" ? "" : button.textContent; select(); turn(0); };
$("close").onclick = () => $("large").close();
$("large").onclick = event => { if (event.target === $("large")) $("large").close(); };
$("large").onclose = () => { open = null; write(); };
document.onkeydown = event => {
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!by || event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
  event.preventDefault();
  if (open) step(by);
  else turn(page + by);
};
window.onhashchange = read;
legend();
select();
document.querySelectorAll(".examples").forEach(examples);
if (location.hash) read();
if (written === null || !document.body.dataset.drawn) draw();
