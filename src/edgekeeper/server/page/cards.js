// The list of images and their jobs. A node is made once and changed in place, so that the focus
// stays where it is.

import { levelsOf, resultOf, tileOf, viewOf } from "./api.js";
import { duration, number, percent, said, shareOfEdges, text } from "./texts.js";

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function button(key, name, action) {
  const node = make("button", { type: "button", textContent: text(key), onclick: action });
  node.setAttribute("aria-label", `${text(key)}: ${name}`);
  return node;
}

const pixels = (thing) => `${number(thing.width)} × ${number(thing.height)}`;

const sentence = (note) => note[0].toUpperCase() + note.slice(1) + (note.endsWith(".") ? "" : ".");

function noticed({ look }) {
  const facts = [];
  if (look.frames) {
    const amount = [number(look.frames), duration(look.seconds)];
    const isImage = ["gif", "webp", "png"].includes(look.format);
    facts.push(isImage ? text("animation", ...amount) : text("video", ...amount));
  }
  if (look.jpeg_quality !== null) facts.push(text("jpeg", look.jpeg_quality));
  if (look.noise >= 1.5) facts.push(text("noise", number(look.noise)));
  if (look.alpha) facts.push(text("alpha"));
  if (look.depth === 16) facts.push(text("deep"));
  if (look.grey) facts.push(text("grey"));
  if (look.profile) facts.push(text("profile"));
  const advice = look.strength >= 0.5 ? [text("try_restore")] : [];
  const seen = facts.length ? [facts.join(", ")] : [];
  return [...seen, ...look.notes.map(said), ...advice].map(sentence).join(" ");
}

export function riskWords({ score, undecided, verdict }) {
  return text(verdict, shareOfEdges(verdict === "undecided" ? undecided : score));
}

// The card of an image; foreseen is { width, height, seconds, allowed, reason }, null, or an Error.
// actions are what its buttons do: compare, cancel, retry and removeJob of a job's id, removeImage.

export class Card {
  constructor(image, actions) {
    this.jobs = new Map();
    this.actions = actions;
    this.thumbnail = make("img", { alt: "" });
    this.title = make("h3", { textContent: image.name });
    this.size = make("p");
    this.noticed = make("p");
    this.list = make("ul");
    this.remove = button("remove", image.name, () => actions.removeImage(image.id));
    this.remove.classList.add("quiet", "corner");
    const words = make("div", {}, this.title, this.size, this.noticed, this.remove, this.list);
    this.node = make("li", { className: "card", tabIndex: -1 }, this.thumbnail, words);
    this.update(image, null);
  }

  update(image, foreseen) {
    this.thumbnail.hidden = image.state === "failed";
    if (image.state !== "ready") {
      this.size.textContent = image.state === "looking" ? text("looking") : said(image.reason);
      this.size.classList.toggle("wrong", image.state === "failed");
      return;
    }
    const { view } = image.look;
    if (!this.thumbnail.src) {
      this.thumbnail.src = tileOf(viewOf("images", image.id), Math.min(8, levelsOf(view)), 0, 0);
    }
    this.noticed.textContent = noticed(image);
    const wrong = foreseen instanceof Error || foreseen?.allowed === false;
    this.size.classList.toggle("wrong", wrong);
    if (!foreseen) this.size.textContent = pixels(image.look);
    else if (foreseen instanceof Error) this.size.textContent = said(foreseen.message);
    else if (!foreseen.allowed && !foreseen.width) this.size.textContent = said(foreseen.reason);
    else {
      const sizes = [pixels(image.look), pixels(foreseen)];
      this.size.textContent = foreseen.allowed
        ? text("becomes", ...sizes, duration(foreseen.seconds)) : text("too_large", ...sizes);
    }
  }

  updateJob(job) {
    let row = this.jobs.get(job.id);
    if (!row) {
      row = new Row(job, this.actions);
      this.jobs.set(job.id, row);
      this.list.append(row.node);
    }
    row.update(job);
  }

  focusJob(id) {
    this.jobs.get(id)?.node.focus();
  }

  removeJob(id) {
    const row = this.jobs.get(id);
    if (row?.node.contains(document.activeElement)) this.node.focus();
    row?.node.remove();
    this.jobs.delete(id);
  }
}

export function describe({ options, result }) {
  const { scale, fit, width, height } = options;
  const size = scale ? `×${number(scale, 2)}` : fit ? fit.join(" × ") : `${width ?? ""} × ${height ?? ""}`;
  const dial = options.style === "restore" && options.strength != null ? ` ${percent(options.strength)}` : "";
  const style = [options.model ?? text(options.style) + dial];
  if (options.sharpness != null) style.push(text("sharpened", percent(options.sharpness)));
  if (options.guard) style.push(text("guarded"));
  return `${size}, ${style.join(", ")}${result.width ? `, ${pixels(result)}` : ""}`;
}

class Row {
  constructor(job, actions) {
    const name = `${job.name}, ${describe(job)}`;
    this.what = make("p", { className: "what" });
    this.progress = make("progress", { max: 1, value: 0 });
    this.progress.setAttribute("aria-label", name);
    this.compare = button("compare", name, () => actions.compare(job.id));
    this.download = make("a", { className: "button", href: resultOf(job.id), textContent: text("download") });
    this.download.setAttribute("aria-label", `${text("download")}: ${name}`);
    this.download.download = "";
    this.cancel = button("cancel", name, () => actions.cancel(job.id));
    this.retry = button("retry", name, () => actions.retry(job.id));
    this.remove = button("remove", name, () => actions.removeJob(job.id));
    this.remove.classList.add("quiet");
    this.notes = make("p", { className: "notes" });
    const parts = [this.compare, this.download, this.cancel, this.retry, this.remove, this.notes];
    this.node = make("li", { className: "job", tabIndex: -1 }, this.what, this.progress, ...parts);
  }

  update(job) {
    const { state } = job;
    const focused = document.activeElement; // now: it is no longer once it is hidden
    const runs = state === "running";
    const left = runs && job.seconds_left !== undefined ? text("left", duration(job.seconds_left)) : "";
    const words = job.stopping
      ? [text("stopping")] : [text(state), state === "done" ? duration(job.result.seconds) : left];
    this.what.textContent = `${describe(job)}: ${words.filter(Boolean).join(", ")}`;
    this.what.classList.toggle("good", state === "done");
    if (job.total) this.progress.value = job.done / job.total;
    else this.progress.removeAttribute("value");
    this.progress.hidden = !runs;
    this.compare.hidden = this.download.hidden = state !== "done";
    this.cancel.hidden = job.stopping || !(state === "queued" || runs);
    this.retry.hidden = !(state === "failed" || state === "cancelled");
    this.remove.hidden = state === "queued" || runs;
    const risk = job.result.risk ? [riskWords(job.result.risk)] : [];
    const notes = [job.reason, ...(job.result.notes ?? [])].filter(Boolean).map(said);
    this.notes.textContent = [...risk, ...notes].map(sentence).join(" ");
    this.notes.classList.toggle("wrong", state === "failed");
    if (focused.hidden && this.node.contains(focused)) this.node.focus();
  }
}
