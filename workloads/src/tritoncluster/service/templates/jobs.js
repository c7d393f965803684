"use strict";
// All that is shown is put in as text: titles, names and logs are whatever somebody wrote.
const id = document.body.dataset.job;
// Not a path alone: where the address has the password in it, that would be part of what is fetched.
const here = `${location.origin}/jobs`;
const LOOK = 1500, LINES = 400_000;
const place = (name) => document.getElementById(name);
const known = new Map();

function make(kind, name = "", text = "") {
  const element = document.createElement(kind);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}

// Only what differs is touched: what has the focus keeps it, and a screen reader hears no news where there is none.
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  if (whole < 48 * 3600) return `${Math.floor(whole / 3600)} h ${String(Math.floor(whole % 3600 / 60)).padStart(2, "0")} min`;
  return `${Math.floor(whole / 86400)} days`;
}

function when(job, now) {
  if (job.ended) return `ended ${duration(now - job.ended)} ago` + (job.started ? `, after ${duration(job.ended - job.started)}` : "");
  return `for ${duration(now - (job.state === "running" ? job.started : job.arrived))}`;
}

// Ask whether it is meant, or say what went wrong, which has but one answer.
function ask(text, answers = true) {
  const box = place("question");
  put(place("asked"), text);
  place("yes").hidden = !answers;
  put(place("no"), answers ? "Let it go on" : "Close");
  box.returnValue = "";
  box.showModal();
  return new Promise((done) => box.addEventListener("close", () => done(box.returnValue === "yes"), { once: true }));
}
for (const name of ["yes", "no"]) place(name).addEventListener("click", () => place("question").close(name));

async function act(job, action, button) {
  if (action === "cancel" && !await ask(`Cancel ${job.id}, ${job.title}?`)) return;
  button.disabled = true;
  try {
    const answer = await fetch(`${here}/${job.id}/${action}`, { method: "POST" });
    if (!answer.ok) await ask((await answer.json()).error, false);
  } catch {
    await ask("The jobs service does not answer.", false);
  }
  button.disabled = false;
  look();
}

function newEntry(kind) {
  const entry = make(kind, "entry"), text = make("div", "text"), actions = make("div", "actions");
  const parts = { title: id ? make("span") : make("a", "title"), meta: make("div", "meta"), why: make("div", "why") };
  for (const name of ["id", "who", "state", "when", "priority"]) parts.meta.append(parts[name] = make("span", name === "state" ? "status" : name));
  parts.bar = make("progress");
  parts.far = make("span", "why");
  text.append(...(id ? [] : [parts.title]), parts.meta, parts.bar, parts.far, parts.why);
  for (const [name, label] of [["cancel", "Cancel"], ["retry", "Try again"]]) {
    parts[name] = make("button", "", label);
    parts[name].type = "button";
    parts[name].addEventListener("click", () => act(parts.job, name, parts[name]));
    actions.append(parts[name]);
  }
  parts.report = make("a", "button", "Report");
  actions.append(parts.report);
  entry.append(text, actions);
  entry.parts = parts;
  return entry;
}

function show(entry, job, now) {
  const parts = entry.parts;
  parts.job = job;
  if (parts.title.href !== undefined && !parts.title.getAttribute("href")) parts.title.href = `/jobs/${job.id}`;
  put(parts.title, job.title);
  put(parts.id, job.id);
  put(parts.who, job.who);
  put(parts.state, job.place ? `waiting, place ${job.place}` : job.state);
  parts.state.className = `status ${job.state}`;
  put(parts.when, when(job, now));
  put(parts.priority, job.priority ? `priority ${job.priority}` : "");
  const far = job.state === "running" && job.progress && job.progress.total > 0 ? job.progress : null;
  parts.bar.hidden = parts.far.hidden = !far;
  if (far) {
    parts.bar.max = far.total;
    parts.bar.value = far.done;
    parts.bar.setAttribute("aria-label", `Progress of ${job.id}`);
    put(parts.far, `${far.done.toLocaleString("en")} of ${far.total.toLocaleString("en")} ${far.stage}`);
  }
  parts.why.hidden = job.state === "finished" || (job.state === "running" && !id);
  put(parts.why, job.why);
  const live = job.state === "running" || job.state === "waiting";
  parts.cancel.hidden = !live;
  parts.retry.hidden = job.state !== "failed" && job.state !== "cancelled";
  parts.report.hidden = !job.report || live;
  parts.report.href = `/jobs/${job.id}/report.html`;
  for (const [name, label] of [["cancel", "Cancel"], ["retry", "Try again"], ["report", "Report of"]]) {
    parts[name].setAttribute("aria-label", `${label} ${job.id}`);
  }
  if (entry.state && entry.state !== job.state) put(place("news"), `${job.title}, ${job.id}, is ${job.state}`);
  entry.state = job.state;
}

function showAll({ jobs, now, settings }) {
  const lists = { running: [], waiting: [], ended: [] };
  for (const job of jobs) {
    if (!known.has(job.id)) known.set(job.id, newEntry("li"));
    show(known.get(job.id), job, now);
    lists[job.state in lists ? job.state : "ended"].push(known.get(job.id));
  }
  const ids = new Set(jobs.map((job) => job.id));
  for (const [gone, entry] of known) {
    if (!ids.has(gone)) { entry.remove(); known.delete(gone); }
  }
  for (const [name, entries] of Object.entries(lists)) {
    const list = place(name).querySelector("ul");
    entries.forEach((entry, at) => { if (list.children[at] !== entry) list.insertBefore(entry, list.children[at] ?? null); });
    place(name).querySelector(".empty").hidden = entries.length > 0;
  }
  for (const state of ["running", "waiting", "finished", "failed"]) {
    put(place(`number-${state}`), String(jobs.filter((job) => job.state === state).length));
  }
  const busy = lists.running.length > 0;
  put(place("state"), busy ? "Working" : "Idle");
  place("state").className = `status ${busy ? "running" : "waiting"}`;
  put(place("facts"), `${settings.at_once} at once; kept for ${duration(settings.keep_time)} when they have ended`);
}

function showOne(job) {
  const section = place("job");
  if (!section.firstChild) section.append(newEntry("div"));
  show(section.firstChild, job, job.now);
  put(place("state"), job.state);
  place("state").className = `status ${job.state}`;
  put(place("facts"), `${job.id}, of ${job.who}`);
}

let next = 0;
const decoder = new TextDecoder();
async function readLog() {
  const log = place("log");
  for (;;) {
    const answer = await fetch(`${here}/${id}/log?from=${next}`);
    if (!answer.ok) return;
    const bytes = await answer.arrayBuffer(), after = Number(answer.headers.get("X-Log-Next"));
    // It was cut: what is shown is no longer there.
    if (after < next) log.textContent = "";
    next = after;
    if (!bytes.byteLength) return;
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    log.append(decoder.decode(bytes, { stream: true }));
    if (log.textContent.length > LINES) log.textContent = "…" + log.textContent.slice(-LINES / 2);
    if (atEnd) log.scrollTop = log.scrollHeight;
  }
}

let timer = 0, looking = false;
async function look() {
  if (looking) return;
  looking = true;
  clearTimeout(timer);
  try {
    const answer = await fetch(id ? `${here}/${id}/state.json` : `${here}/state.json`);
    if (!answer.ok) throw new Error(answer.status === 404 ? `There is no job ${id} any more.` : "The jobs service does not answer. Jobs that it has accepted wait for it.");
    const content = await answer.json();
    if (id) { showOne(content); await readLog(); } else showAll(content);
    place("trouble").hidden = true;
  } catch (error) {
    put(place("trouble"), error instanceof TypeError ? "The gateway does not answer. Trying again." : error.message);
    place("trouble").hidden = false;
  }
  looking = false;
  // A page that nobody sees asks less.
  timer = setTimeout(look, document.hidden ? 10 * LOOK : LOOK);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
look();
