// The page: what is dropped goes to the server, what the server says is shown.

import * as api from "./api.js";
import { Card, describe, riskWords } from "./cards.js";
import { atMost, duration, percent, said, switchLanguage, text, translate } from "./texts.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);

const STYLES = ["auto", "faithful", "sharp", "texture", "restore"];
const SCREENS = [["1920 × 1080", 1920, 1080], ["2560 × 1440", 2560, 1440], ["3840 × 2160", 3840, 2160]];
const PRINTS = [["10 × 15 cm", 1181, 1772], ["A4", 2480, 3508], ["A3", 3508, 4961]];
const SENT_AT_ONCE = 3;
const ASKED_AGAIN = 5000; // ms after which an estimate is asked again that the server could not give
const SHARPENED = 25; // percent, of the style "sharp"
let limits = { models: [], most_bytes: Infinity }; // of the server, as its status tells

const images = new Map(); // id -> { image, card, foreseen }
const jobs = new Map();

// ---- Options -----------------------------------------------------------------------------------

function fillOptions() {
  const kept = { size: $("size").value || "4", format: $("format").value, style: chosenStyle(), model: $("model").value };
  const option = (value, words) => new Option(words, value);
  const fit = (key) => ([words, w, h]) => option(`${w}x${h}`, text(key, words));
  $("size").replaceChildren(
    ...[2, 3, 4].map((n) => option(n, text("times", n))),
    option("own", text("own_factor")),
    ...SCREENS.map(fit("screen")),
    ...PRINTS.map(fit("print")),
  );
  const formats = [["png", "PNG"], ["jpeg", "JPEG"], ["webp", "WebP"], ["tiff", "TIFF"], ["avif", "AVIF"]];
  $("format").replaceChildren(option("", text("keep_format")), ...formats.map((f) => option(...f)));
  $("styles").replaceChildren($("styles").firstElementChild, ...STYLES.map(styleChoice));
  $("model").replaceChildren(option("", text("model_of_style")), ...limits.models.map((name) => option(name, name)));
  $("model").value = kept.model;
  $("size").value = kept.size;
  $("format").value = kept.format;
  document.querySelector(`[name=style][value=${kept.style}]`).checked = true;
  $("language").textContent = text("other_language");
  $("in").ariaLabel = text("zoom_in");
  $("out").ariaLabel = text("zoom_out");
  $("split").ariaLabel = text("split");
}

function styleChoice(name) {
  const label = document.createElement("label");
  label.className = "style";
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "style", value: name });
  const title = Object.assign(document.createElement("span"), { textContent: ` ${text(name)}` });
  const hint = Object.assign(document.createElement("small"), { textContent: text(`${name}_hint`) });
  label.append(input, title, hint);
  return label;
}

const chosenStyle = () => ($("model").value ? "auto" : document.querySelector("[name=style]:checked")?.value ?? "auto");
const ownSharpness = () => (chosenStyle() === "sharp" ? SHARPENED : 0);

function optionsFor(image) {
  const options = { style: chosenStyle(), guard: $("guard").checked && !$("guard-row").hidden };
  options.tolerant = $("tolerant").checked && isDamaged(image);
  if ($("model").value) options.model = $("model").value;
  const sharpness = Number($("sharpness").value);
  if (sharpness !== ownSharpness()) options.sharpness = sharpness / 100;
  if (options.style === "restore") options.strength = Number($("strength").value) / 100;
  if ($("format").value) options.format = $("format").value;
  if (!$("quality-row").hidden) options.quality = Math.min(100, Math.max(1, Math.round(Number($("quality").value)) || 95));
  const size = $("size").value;
  if (size.includes("x")) {
    const sides = size.split("x").map(Number).sort((a, b) => b - a);
    options.fit = image.look.width >= image.look.height ? sides : sides.reverse();
  } else {
    options.scale = Number(size === "own" ? $("factor").value : size);
  }
  return options;
}

// Whether a part of it cannot be read, as was seen at once or when it was enlarged.
const isDamaged = ({ id, look }) =>
  look.damaged || [...jobs.values()].some((job) => job.image === id && job.reason.includes("'tolerant'"));

function showStrength() {
  const strength = Number($("strength").value) / 100;
  const key = strength < 0.3 ? "restore_little" : strength < 0.7 ? "restore_half" : "restore_much";
  $("strength-words").textContent = text(key, percent(strength));
  $("sharpness-words").textContent = percent(Number($("sharpness").value) / 100);
}

function onOptions(event) {
  if (["style", "model"].includes(event?.target.name || event?.target.id)) $("sharpness").value = ownSharpness();
  $("styles").hidden = $("model").value !== "";
  // A guard is for networks that invent.
  $("guard-row").hidden = !(chosenStyle() === "texture" || $("model").value.endsWith("_texture"));
  $("factor-row").hidden = $("size").value !== "own";
  $("strength-row").hidden = chosenStyle() !== "restore";
  showStrength();
  $("quality-row").hidden = !["jpeg", "webp", "avif"].includes($("format").value);
  for (const entry of images.values()) entry.foreseen = null;
  foreseeAll();
}

// ---- What it will take, asked one image after another ------------------------------------------

let asking = false;

async function foreseeAll() {
  update();
  if (asking) return;
  asking = true;
  const open = () => [...images.values()].find((e) => e.image.state === "ready" && !e.foreseen);
  for (let entry = open(); entry; entry = open()) {
    const options = optionsFor(entry.image);
    let answer;
    try { answer = refused(entry.image, options) ?? await api.foresee(entry.image.id, options); } catch (error) { answer = error; }
    if (JSON.stringify(options) !== JSON.stringify(optionsFor(entry.image))) continue; // changed
    entry.foreseen = answer;
    entry.card.update(entry.image, answer);
    if (answer instanceof Error && !answer.final) {
      setTimeout(() => { if (entry.foreseen === answer) { entry.foreseen = null; foreseeAll(); } }, ASKED_AGAIN);
    }
    update();
  }
  asking = false;
}

// Estimates that are still of use, when a job has taught what it takes.
function foreseeAgain() {
  for (const { image } of unasked()) images.get(image.id).foreseen = null;
  foreseeAll();
}

// What the server would refuse, so that it is not asked.
function refused(image, { scale = 1, tolerant }) {
  if (!(scale > 0 && scale <= 64)) return { allowed: false, reason: "'scale' is a number above 0, at most 64." };
  if (!image.look.damaged || tolerant) return null;
  return { allowed: false, reason: `'${image.name}' is damaged. The option 'tolerant' takes what is there.` };
}

const same = (a, b) => JSON.stringify(a ?? null) === JSON.stringify(b ?? null);

// The images that Enlarge would enlarge: can be, and were not asked to be in just this way.
function unasked() {
  return [...images.values()].filter(({ image, foreseen }) => {
    if (image.state !== "ready" || foreseen instanceof Error || foreseen?.allowed === false) return false;
    const options = optionsFor(image);
    const asked = (job) => job.image === image.id
      && ["scale", "fit", "style", "strength", "model", "sharpness", "guard", "tolerant", "format"].every((name) => same(job.options[name], options[name]))
      && job.options.quality === (options.quality ?? 95);
    return ![...jobs.values()].some((job) => asked(job) && job.state !== "cancelled");
  });
}

function update() {
  const todo = unasked(), focused = document.activeElement;
  const count = todo.length;
  const words = count === 1 ? text("one_image") : text("some_images", count);
  $("start").textContent = count ? text("start", words) : text("start_none");
  $("start").disabled = !count;
  const seconds = todo.reduce((sum, { foreseen }) => sum + (foreseen?.seconds ?? 0), 0);
  const left = unfinished().reduce((sum, job) => sum + (job.seconds_left ?? job.foreseen), 0);
  $("total").textContent = seconds ? text("total", duration(seconds)) : left ? text("left_all", duration(left)) : "";
  $("tolerant-row").hidden = ![...images.values()].some(({ image }) => isDamaged(image));
  $("empty").hidden = images.size > 0;
  document.body.classList.toggle("empty", !images.size);
  $("clear").hidden = !images.size;
  $("stop").hidden = unfinished().length < 2;
  $("zip").hidden = ![...jobs.values()].some((job) => job.state === "done");
  if (focused.hidden) $("images").focus(); // such as "Remove all" when all is
}

async function start(event) {
  event.preventDefault();
  let byKeyboard = $("start").matches(":focus-visible");
  $("start").disabled = true; // a second click is not a second job
  for (const { image } of unasked()) {
    try {
      const job = await api.addJob(image.id, optionsFor(image));
      if (!jobs.has(job.id)) onJob(job); // else an event has told what became of it since
      if (byKeyboard) images.get(image.id)?.card.focusJob(job.id); // a disabled button loses the focus
      byKeyboard = false;
    } catch (error) { complain(image.name, error); }
  }
  update();
}

// ---- What comes in -----------------------------------------------------------------------------

let unsent = 0; // files, of all that were dropped or chosen

function showUnsent(more) {
  unsent += more;
  $("sending").hidden = !unsent;
  $("sending").textContent = text("sending", unsent);
}

async function send(files) {
  const waiting = [...files];
  showUnsent(waiting.length);
  const one = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      try {
        if (file.size > limits.most_bytes) {
          throw new Error(`The file is larger than ${Math.round(limits.most_bytes / 1e6)} MB, the most that is taken.`);
        }
        (await api.upload(file)).filter(({ id }) => !images.has(id)).forEach(onImage);
      } catch (error) { complain(file.name, error); } finally { showUnsent(-1); }
    }
  };
  await Promise.all(Array.from({ length: SENT_AT_ONCE }, one));
}

function complain(name, error) {
  const line = document.createElement("p");
  line.textContent = text("not_sent", name, said(error.message));
  $("problems").append(line);
  setTimeout(() => line.remove(), 20000);
}

// The files of what was dropped, those in and below folders too.
async function dropped(items) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile()).filter(Boolean);
  return (await Promise.all(entries.map(filesOf))).flat();
}

async function filesOf(entry) {
  if (entry instanceof File) return [entry];
  if (entry.isFile) return [await new Promise((found, failed) => entry.file(found, failed))];
  const reader = entry.createReader();
  const found = [];
  for (;;) { // a reader gives a hundred at a time
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return (await Promise.all(found.map(filesOf))).flat();
    found.push(...some);
  }
}

const visible = (files) => [...files].filter((file) => !file.name.startsWith("."));

// ---- What the server says ----------------------------------------------------------------------

function onImage(image) {
  if (gone.has(image.id)) return;
  let entry = images.get(image.id);
  if (!entry) {
    entry = { image, card: new Card(image, actions), foreseen: null };
    images.set(image.id, entry);
    $("images").append(entry.card.node);
  }
  entry.image = image;
  entry.card.update(image, entry.foreseen);
  foreseeAll();
}

function onJob(job) {
  if (gone.has(job.id) || gone.has(job.image)) return;
  const before = jobs.get(job.id);
  job.stopping = Boolean(before?.stopping && isUnfinished(job));
  jobs.set(job.id, job);
  images.get(job.image)?.card.updateJob(job);
  if (job.state === "done" && before?.state === "running") foreseeAgain();
  update();
}

function onRemoved(id) {
  for (const job of [...jobs.values()].filter((other) => other.image === id)) jobs.delete(job.id);
  const { node } = images.get(id)?.card ?? {};
  if (node?.contains(document.activeElement)) $("images").focus();
  node?.remove();
  images.delete(id);
  const job = jobs.get(id);
  if (job) images.get(job.image)?.card.removeJob(id);
  jobs.delete(id);
  update();
}

function onChange(event) {
  if (event.image) onImage(event.image);
  else if (event.job) onJob(event.job);
  else if (event.removed) onRemoved(event.removed);
}

function onAll(events) {
  $("offline").hidden = true;
  const there = new Set(events.map((event) => (event.image ?? event.job).id));
  for (const id of [...jobs.keys(), ...images.keys()]) if (!there.has(id)) onRemoved(id);
  events.forEach(onChange);
}

// ---- What is shown before the server has done it -------------------------------------------------

const gone = new Set(); // ids of what was removed here: what was said of it before counts no more
const isUnfinished = (job) => ["queued", "running"].includes(job.state);
const unfinished = () => [...jobs.values()].filter((job) => isUnfinished(job) && !job.stopping);

async function remove(ids, request) {
  for (const id of ids) { gone.add(id); onRemoved(id); }
  await settle(request);
}

async function stop(ids, request) {
  for (const id of ids) {
    const job = jobs.get(id);
    job.stopping = true;
    images.get(job.image)?.card.updateJob(job);
  }
  update();
  await settle(request);
}

// Where the server could not, what it has is shown again.
async function settle(request) {
  try { await request(); } catch {
    gone.clear();
    for (const job of jobs.values()) job.stopping = false;
    await api.all().then(onAll).catch(() => {}); // else it comes when the server answers again
  }
}

const actions = {
  compare,
  cancel: (id) => stop([id], () => api.cancel(id)),
  retry: (id) => api.retry(id),
  removeImage: (id) => remove([id], () => api.removeImage(id)),
  removeJob: (id) => remove([id], () => api.removeJob(id)),
};

// ---- Comparing ---------------------------------------------------------------------------------

const viewer = new Viewer($("canvas"), (split) => { $("split").value = split * 100; });
const MOST_SIDE_BY_SIDE = 4;

// Show the image before and after, with its other results to put beside.
function compare(id) {
  const job = jobs.get(id);
  const done = [...jobs.values()].filter((other) => other.image === job.image && other.state === "done");
  $("viewer-title").textContent = job.name;
  $("canvas").ariaLabel = text("canvas", job.name);
  const boxes = done.map((other) => {
    const label = document.createElement("label");
    label.className = "check";
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: other.id });
    box.checked = other.id === id;
    box.onchange = show;
    label.append(box, describe(other));
    return label;
  });
  $("shown").replaceChildren(...boxes);
  $("shown").hidden = done.length < 2;
  viewer.clear();
  $("viewer").showModal();
  viewer.refit();
  show();
  viewer.fit();
  $("canvas").focus();
}

function show() {
  const boxes = [...$("shown").querySelectorAll("input")];
  const chosen = boxes.filter((box) => box.checked).slice(0, MOST_SIDE_BY_SIDE).map((box) => jobs.get(box.value));
  for (const box of boxes) {
    const last = box.checked && chosen.length === 1;
    box.disabled = last || (!box.checked && chosen.length === MOST_SIDE_BY_SIDE);
  }
  $("risk").disabled = !chosen.some((job) => job.result.risk);
  const pane = (job) => {
    const risk = $("risk").checked && !$("risk").disabled && job.result.risk;
    const base = api.viewOf("jobs", job.id, risk ? "risk" : "view");
    const share = risk ? `: ${text("risk_share", atMost(risk.score))}` : "";
    return { base, view: (risk || job.result).view, label: describe({ ...job, result: {} }) + share };
  };
  const { image } = images.get(chosen[0].image);
  const before = { base: api.viewOf("images", image.id), view: image.look.view, label: text("before") };
  viewer.show(before, chosen.map(pane));
  $("split").disabled = chosen.length > 1;
  for (const node of document.querySelectorAll(".slides")) node.hidden = chosen.length > 1;
  const { risk } = chosen[0].result;
  const words = chosen.length === 1 && risk ? [riskWords(risk)] : [];
  if ($("risk").checked && !$("risk").disabled) words.push(text("risk_legend"));
  $("words").textContent = words.join(" ");
}

// ---- Wiring ------------------------------------------------------------------------------------

// What becomes of what is added, as the page was reached: from this computer, or over a network.
function whereItGoes() {
  const { hostname, host, protocol } = location;
  if (["127.0.0.1", "localhost", "[::1]"].includes(hostname)) return text("stays");
  return `${text("sent", host)} ${protocol === "http:" ? text("in_clear") : ""}`;
}

function inLanguage() {
  translate(document);
  $("where").textContent = whereItGoes();
  fillOptions();
  for (const { card } of images.values()) card.node.remove();
  const known = [...images.values()].map(({ image }) => ({ image }));
  images.clear();
  [...known, ...[...jobs.values()].map((job) => ({ job }))].forEach(onChange);
  onOptions();
}

$("options").onsubmit = start;
$("options").onchange = onOptions;
$("strength").oninput = $("sharpness").oninput = showStrength;
for (const id of ["files", "folder"]) {
  $(id).onchange = async () => { await send(visible($(id).files)); $(id).value = ""; };
}
$("clear").onclick = () => {
  if (confirm(text("sure"))) remove([...images.keys()], api.removeAll);
};
$("stop").onclick = () => stop(unfinished().map((job) => job.id), api.cancelAll);
$("language").onclick = () => { switchLanguage(); inLanguage(); };
$("risk").onchange = show;
$("split").oninput = () => viewer.setSplit($("split").value / 100);
$("in").onclick = () => viewer.zoom(1.5);
$("out").onclick = () => viewer.zoom(1 / 1.5);
$("fit").onclick = () => viewer.fit();
$("real").onclick = () => viewer.real();
$("close").onclick = () => $("viewer").close();
$("viewer").onclose = () => { if (document.fullscreenElement) document.exitFullscreen(); };
$("full").onclick = () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("stage").requestFullscreen(); // a dialog itself may not
};

document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  send(visible(await dropped(event.dataTransfer.items)));
});
document.addEventListener("paste", (event) => send(event.clipboardData.files));

inLanguage();
api.status().then((status) => { limits = status; fillOptions(); }).catch(() => {});
api.listen({ onAll, onChange, onLost: () => { $("offline").hidden = false; } });
