// The page of `dualstream serve`: a video goes in, its timeline comes out. No library, no build.
"use strict";

const $ = (id) => document.getElementById(id);
const MOST_ROWS = 500;
const ROWS_AT_ONCE = 40;
const RECORD_SECONDS = 300;
const state = { job: null, result: null, url: null, wanted: null, explaining: false };
const explained = { windows: [], pictures: new Map(), asked: new Set(), shown: new Map() };

// --- the service -------------------------------------------------------------------------------

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { authorization: `Bearer ${token}` } : {};
}

async function call(path, options = {}) {
  const { json, ...rest } = options;
  const content = json && { body: JSON.stringify(json) };
  const type = json && { "content-type": "application/json" };
  const answer = await fetch(path, { ...rest, ...content, headers: { ...headers(), ...type } });
  if (answer.ok) return answer;
  if (answer.status === 401) askForToken();
  let message = `The service answered ${answer.status}.`;
  try { message = (await answer.json()).message; } catch { /* no JSON */ }
  throw new Error(message);
}

function askForToken() {
  $("token-section").hidden = false;
  $("token").focus();
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  $("token-section").hidden = true;
  complain("");
  start();
});

function complain(message) {
  $("problem").textContent = message;
  $("problem").hidden = !message;
}

// --- a video goes in ----------------------------------------------------------------------------

function options() {
  const given = new URLSearchParams({ wait: "false", top: "5" });
  const seconds = { window: "window_seconds", step: "step_seconds", merge: "merge_seconds" };
  for (const [id, name] of Object.entries(seconds)) {
    if ($(id).value !== "") given.set(name, $(id).value);
  }
  if ($("enter").value !== "") given.set("enter", Number($("enter").value) / 100);
  return given;
}

function upload(file, name) {
  complain("");
  reset();
  showWork("Sending the video", 0);
  state.wanted = new XMLHttpRequest();
  const request = state.wanted;
  request.open("POST", `/v1/predict?${options()}`);
  for (const [key, value] of Object.entries(headers())) request.setRequestHeader(key, value);
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) showWork("Sending the video", event.loaded / event.total);
  });
  request.addEventListener("load", () => {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* no JSON */ }
    if (request.status === 401) askForToken();
    if (request.status >= 300) {
      fail(answer.message || `The service answered ${request.status}.`);
      return;
    }
    showVideo(URL.createObjectURL(file));
    follow(answer);
  });
  request.addEventListener("error", () => fail("The service cannot be reached."));
  request.addEventListener("abort", () => fail("Given up."));
  const form = new FormData();
  form.append("file", file, name);
  request.send(form);
}

function fail(message) {
  $("work").hidden = true;
  complain(message);
}

function showWork(text, share) {
  $("work").hidden = false;
  if ($("status").textContent !== text) $("status").textContent = text;
  if (share === null) $("progress").removeAttribute("value");
  else $("progress").value = share;
}

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) upload(file, file.name);
  $("file").value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    const [file] = kind === "drop" ? event.dataTransfer.files : [];
    if (file) upload(file, file.name);
  });
}
$("cancel").addEventListener("click", async () => {
  if (state.job) await call(`/v1/jobs/${state.job.id}`, { method: "DELETE" }).catch(() => {});
  else if (state.wanted) state.wanted.abort();
});

// --- the camera ---------------------------------------------------------------------------------

let camera = null;
let recorder = null;

$("camera").addEventListener("click", async () => {
  complain("");
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: true, audio: false });
  } catch (error) {
    complain(`The camera cannot be used (${error.message || error.name}).`);
    return;
  }
  $("preview").srcObject = camera;
  $("preview").play();
  $("recorder").hidden = false;
  $("record").focus();
});
$("record").addEventListener("click", () => {
  if (recorder) { recorder.stop(); return; }
  const parts = [];
  recorder = new MediaRecorder(camera);
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", () => {
    const type = recorder.mimeType.split(";")[0];
    closeCamera();
    upload(new Blob(parts, { type }), type === "video/mp4" ? "camera.mp4" : "camera.webm");
  });
  recorder.start(1000);
  $("record").textContent = "Stop, and look at it";
  setTimeout(() => recorder && recorder.state === "recording" && recorder.stop(), RECORD_SECONDS * 1000);
});
$("camera-off").addEventListener("click", closeCamera);

function closeCamera() {
  if (camera) camera.getTracks().forEach((track) => track.stop());
  camera = recorder = null;
  $("preview").srcObject = null;
  $("recorder").hidden = true;
  $("record").textContent = "Record";
}

// --- a job is followed --------------------------------------------------------------------------

async function follow(job) {
  state.job = job;
  history.replaceState(null, "", `#job=${job.id}`);
  showJob(job);
  while (state.job && state.job.id === job.id && ["queued", "running"].includes(job.state)) {
    try {
      for await (const change of events(job.id)) {
        job = change;
        showJob(job);
      }
    } catch (error) {
      showWork(`${error.message} Asking again.`, null);
    }
    await new Promise((done) => setTimeout(done, 500));
    try {
      job = await (await call(`/v1/jobs/${job.id}`)).json();
    } catch (error) {
      fail(error.message);
      return;
    }
  }
  if (!state.job || state.job.id !== job.id) return;
  if (job.state === "done" && !job.result) {
    job = await (await call(`/v1/jobs/${job.id}`)).json();
  }
  $("work").hidden = true;
  if (job.state === "done") showResult(job.result);
  else complain(job.state === "failed" ? job.failure.message : "Given up.");
}

async function* events(id) {
  const answer = await call(`/v1/jobs/${id}/events`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = /^event: job\ndata: (.*)$/m.exec(part);
      if (data) yield JSON.parse(data[1]);
    }
  }
}

function showJob(job) {
  if (job.state === "queued") {
    showWork(job.ahead ? `Waiting; ${job.ahead} before this one` : "Waiting", null);
  } else if (job.state === "running") {
    const { stage, done, total } = job.progress || { stage: "windows", done: 0, total: 0 };
    const text = stage === "cuts" ? "Looking for cuts" : "Looking at the video";
    showWork(text, total ? done / total : null);
  }
}

// --- the answer ---------------------------------------------------------------------------------

function reset() {
  $("answer").hidden = true;
  $("video").pause();
  if (state.url) URL.revokeObjectURL(state.url);
  for (const url of explained.pictures.values()) URL.revokeObjectURL(url);
  Object.assign(state, { job: null, result: null, url: null, explaining: false });
  Object.assign(explained, { windows: [], pictures: new Map(), asked: new Set(), shown: new Map() });
  $("pictures").replaceChildren();
  $("explain").setAttribute("aria-pressed", "false");
  $("explain-status").textContent = "";
  history.replaceState(null, "", location.pathname);
}

function showVideo(url) {
  state.url = url;
  $("unplayable").hidden = true;
  $("video").hidden = !url;
  $("still").hidden = true;
  if (url) $("video").src = url;
  else unplayable();
}

async function showVideoOf(id) {
  const address = `/v1/jobs/${id}/video`;
  if (!sessionStorage.getItem("token")) showVideo(address);
  else showVideo(URL.createObjectURL(await (await call(address)).blob())); // players bring no token
}

function unplayable() {
  $("video").hidden = true;
  $("unplayable").hidden = false;
}
$("video").addEventListener("error", () => state.url && unplayable());

let clock = 0; // seconds of the video's clock, where it cannot be played
const now = () => ($("video").hidden ? clock : $("video").currentTime);
const duration = () => state.result.video.seconds;

function seek(seconds) {
  clock = Math.min(Math.max(seconds, 0), duration());
  if (!$("video").hidden) $("video").currentTime = clock;
  moved();
}

function showResult(result) {
  state.result = result;
  const names = Object.keys(result.curves);
  const inPieces = result.totals.map((total) => total.label);
  state.colors = new Map();
  for (const name of [...inPieces, ...names]) {
    if (!state.colors.has(name)) state.colors.set(name, state.colors.size % 8);
  }
  $("legend").replaceChildren(...names.map((name) => {
    const item = document.createElement("li");
    item.append(key(name), name);
    return item;
  }));
  fill($("totals"), result.totals, (total) => [
    [key(total.label), total.label], total.count, total.seconds.toFixed(1),
    total.longest_seconds.toFixed(1), total.first_seconds.toFixed(1),
  ]);
  fill($("pieces"), result.segments.slice(0, MOST_ROWS), (piece) => {
    const jump = document.createElement("button");
    jump.type = "button";
    jump.textContent = time(piece.start);
    jump.setAttribute("aria-label", `Go to ${time(piece.start)}, ${piece.label}`);
    jump.addEventListener("click", () => seek(piece.start));
    return [[jump], time(piece.end), [key(piece.label), piece.label],
      (100 * piece.confidence).toFixed(0)];
  });
  $("nothing").hidden = result.segments.length > 0;
  $("timeline").setAttribute("aria-valuemax", duration());
  $("answer").hidden = false;
  requestAnimationFrame(() => { draw(); moved(); }); // a task of its own
}

function key(name) {
  const mark = document.createElement("span");
  mark.className = `key k${state.colors.get(name)}`;
  return mark;
}

function fill(table, rows, cellsOf) {
  const isNumber = [...table.tHead.rows[0].cells].map((cell) => cell.className === "number");
  const lineOf = (row) => {
    const line = document.createElement("tr");
    cellsOf(row).forEach((content, place) => {
      const cell = document.createElement("td");
      if (isNumber[place]) cell.className = "number";
      cell.append(...(Array.isArray(content) ? content : [String(content)]));
      line.append(cell);
    });
    return line;
  };
  const body = table.tBodies[0];
  const atOnce = rows.length > ROWS_AT_ONCE ? 0 : rows.length;
  body.replaceChildren(...rows.slice(0, atOnce).map(lineOf));
  const filling = (body.filling = {}); // long tables come bit by bit, so that the page stays quick
  const more = (first) => {
    if (body.filling !== filling || first >= rows.length) return;
    body.append(...rows.slice(first, first + ROWS_AT_ONCE).map(lineOf));
    setTimeout(more, 0, first + ROWS_AT_ONCE);
  };
  setTimeout(more, 0, atOnce);
}

function time(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

// --- drawing in time ----------------------------------------------------------------------------

let colors = null; // of the scheme, read once

function color(name) {
  if (!colors) {
    const style = getComputedStyle(document.documentElement);
    const names = ["--ground", "--text", "--soft", "--line", ...[0, 1, 2, 3, 4, 5, 6, 7].map((n) => `--c${n}`)];
    colors = Object.fromEntries(names.map((one) => [one, style.getPropertyValue(one).trim()]));
  }
  return colors[name];
}

function canvasOf(id) {
  const canvas = $(id);
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  // Drawn by the processor: such small pictures are not worth the way to a graphics card and back.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.scale(scale, scale);
  return [context, canvas.clientWidth, canvas.clientHeight];
}

function draw() {
  if (!state.result || $("answer").hidden) return;
  drawTimeline();
  drawCurves();
  drawNow();
}

function drawTimeline() {
  const [context, width, height] = canvasOf("timeline");
  const x = (seconds) => (width * seconds) / duration();
  context.font = "14px system-ui, sans-serif";
  for (const piece of state.result.segments) {
    const [left, right] = [x(piece.start), x(piece.end)];
    context.fillStyle = color(`--c${state.colors.get(piece.label)}`);
    context.fillRect(left, 6, Math.max(right - left - 1, 1), height - 26);
    context.fillStyle = color("--ground");
    if (context.measureText(piece.label).width < right - left - 10) {
      context.fillText(piece.label, left + 5, (height - 20) / 2 + 8);
    }
  }
  context.fillStyle = color("--text");
  for (const cut of state.result.cuts) context.fillRect(x(cut), 0, 1, height - 18);
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = color("--soft");
  const step = niceStep(duration() / Math.max(width / 90, 1));
  for (let at = 0; at <= duration(); at += step) {
    context.fillRect(x(at), height - 18, 1, 4);
    const text = step < 1 ? time(at) : time(at).slice(0, -2);
    context.fillText(text, Math.min(x(at) + 3, width - context.measureText(text).width), height - 4);
  }
}

function niceStep(least) {
  return [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600].find((one) => one >= least) || 7200;
}

function drawCurves() {
  const [context, width, height] = canvasOf("curves");
  const { timeline, curves } = state.result;
  context.strokeStyle = color("--line");
  for (const share of [0, 0.5, 1]) {
    const y = 4 + (1 - share) * (height - 8);
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(width, y);
    context.stroke();
  }
  context.lineWidth = 2;
  for (const [name, values] of Object.entries(curves).reverse()) {
    context.strokeStyle = color(`--c${state.colors.get(name)}`);
    context.beginPath();
    values.forEach((value, place) => {
      const { start, end } = timeline[place];
      const y = 4 + (1 - value) * (height - 8);
      context.lineTo((width * start) / duration(), y);
      context.lineTo((width * end) / duration(), y);
    });
    context.stroke();
  }
}

const heads = [...document.querySelectorAll(".head")]; // lines at the present time

function drawNow() {
  const percent = Math.min((100 * now()) / duration(), 99.7);
  for (const head of heads) head.style.transform = `translateX(${percent}%)`;
}

window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colors = null;
  draw();
  drawLesson();
});

// --- the present time ---------------------------------------------------------------------------

function windowAt(seconds) {
  const { timeline } = state.result;
  let low = 0;
  let high = timeline.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (seconds < timeline[middle].end) high = middle;
    else low = middle + 1;
  }
  return low;
}

function moved() {
  if (!state.result) return;
  const seconds = now();
  const { top } = state.result.timeline[windowAt(seconds)];
  const piece = state.result.segments.find((one) => one.start <= seconds && seconds < one.end);
  $("clock").textContent = `${seconds.toFixed(1)} s`;
  $("timeline").setAttribute("aria-valuenow", seconds.toFixed(1));
  $("timeline").setAttribute("aria-valuetext", `${seconds.toFixed(1)} s: ${piece ? piece.label : "nothing sure"}`);
  $("ranking").replaceChildren(...top.map((one) => {
    const line = document.createElement("li");
    const share = document.createElement("span");
    share.className = "share";
    share.textContent = `${(100 * one.probability).toFixed(1)} %`;
    line.append(one.class, share);
    return line;
  }));
  drawNow();
  showPictures();
  if (state.explaining && (isStill())) askSoon();
}

const isStill = () => $("video").hidden || $("video").paused;
for (const kind of ["timeupdate", "seeked", "pause"]) $("video").addEventListener(kind, moved);

$("timeline").addEventListener("pointerdown", (event) => {
  const at = (pointer) => {
    const box = $("timeline").getBoundingClientRect();
    seek(((pointer.clientX - box.left) / box.width) * duration());
  };
  at(event);
  $("timeline").setPointerCapture(event.pointerId);
  $("timeline").addEventListener("pointermove", at);
  const end = () => $("timeline").removeEventListener("pointermove", at);
  $("timeline").addEventListener("pointerup", end, { once: true });
  $("timeline").addEventListener("pointercancel", end, { once: true });
});
$("timeline").addEventListener("keydown", (event) => {
  const starts = state.result.segments.map((piece) => piece.start);
  const at = now();
  const moves = {
    ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: duration(),
    PageDown: starts.find((start) => start > at + 0.05) ?? duration(),
    PageUp: starts.findLast((start) => start < at - 0.05) ?? 0,
  };
  if (event.key in moves) seek(moves[event.key]);
  else if (event.key === " " && !$("video").hidden) $("video").paused ? $("video").play() : $("video").pause();
  else return;
  event.preventDefault();
});

// --- where the streams looked -------------------------------------------------------------------

$("explain").addEventListener("click", () => {
  state.explaining = !state.explaining;
  $("explain").setAttribute("aria-pressed", String(state.explaining));
  if (state.explaining) ask();
  else $("pictures").replaceChildren(), explained.shown.clear();
});

let soon = 0;
function askSoon() {
  clearTimeout(soon);
  soon = setTimeout(ask, 400);
}

async function ask() {
  const place = windowAt(now());
  if (!state.result || explained.asked.has(place)) return;
  explained.asked.add(place);
  const { job } = state;
  $("explain-status").textContent = "Looking where the networks looked; the first time takes a while.";
  try {
    const answer = await call(`/v1/jobs/${job.id}/explanation?seconds=${now()}`);
    const found = await answer.json();
    if (state.job !== job) return;
    explained.windows.push(found);
    $("explain-status").textContent =
      `What speaks for ${found.label}, ${time(found.start)} to ${time(found.end)}.`;
    showPictures();
  } catch (error) {
    explained.asked.delete(place);
    $("explain-status").textContent = error.message;
  }
}

function showPictures() {
  if (!state.explaining && $("video").hidden === false) return;
  const seconds = now();
  const found = explained.windows.find((one) => one.start <= seconds && seconds <= one.end);
  if (!found) return;
  const nearest = new Map();
  for (const picture of found.pictures) {
    const best = nearest.get(picture.text);
    const distance = Math.abs(picture.seconds - seconds);
    if (!best || distance < Math.abs(best.seconds - seconds)) nearest.set(picture.text, picture);
  }
  for (const [text, picture] of nearest) {
    if (picture.kind === "frame" && !$("video").hidden) continue;
    if (explained.shown.get(text) !== picture.href) showPicture(text, picture);
  }
}

async function showPicture(text, picture) {
  explained.shown.set(text, picture.href);
  if (!explained.pictures.has(picture.href)) {
    const blob = await (await call(picture.href)).blob();
    explained.pictures.set(picture.href, URL.createObjectURL(blob));
  }
  if (explained.shown.get(text) !== picture.href) return;
  const url = explained.pictures.get(picture.href);
  if (picture.kind === "frame") {
    $("still").src = url;
    $("still").alt = `Frame at ${picture.seconds.toFixed(2)} s`;
    $("still").hidden = false;
    return;
  }
  let figure = [...$("pictures").children].find((one) => one.dataset.text === text);
  if (!figure) {
    figure = document.createElement("figure");
    figure.dataset.text = text;
    figure.append(document.createElement("img"), document.createElement("figcaption"));
    $("pictures").append(figure);
  }
  figure.firstChild.src = url;
  figure.firstChild.alt = `${text}, at ${picture.seconds.toFixed(2)} seconds`;
  figure.lastChild.textContent = text;
}

// --- saving and forgetting ----------------------------------------------------------------------

for (const button of document.querySelectorAll("[data-form]")) {
  button.addEventListener("click", async () => {
    try {
      const answer = await call(`/v1/jobs/${state.job.id}/result.${button.dataset.form}`);
      const url = URL.createObjectURL(await answer.blob());
      const link = document.createElement("a");
      link.href = url;
      link.download = `${state.result.source.replace(/\.[^.]*$/, "")}.${button.dataset.form}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    } catch (error) { complain(error.message); }
  });
}
$("forget").addEventListener("click", async () => {
  await call(`/v1/jobs/${state.job.id}`, { method: "DELETE" }).catch(() => {});
  reset();
  $("file").focus();
});

// --- teaching -----------------------------------------------------------------------------------

const lesson = { project: null, video: null, start: null, proposals: [], review: [], url: null };
const projectPath = (rest = "") => `/v1/projects/${encodeURIComponent(lesson.project.name)}${rest}`;
const atLesson = () => $("lesson-video").currentTime || 0;
const lessonVideo = () => lesson.project.videos.find((one) => one.name === lesson.video);

function show(part) {
  for (const one of ["look", "teach"]) {
    $(one).hidden = one !== part;
    $(`go-${one}`).setAttribute("aria-pressed", String(one === part));
  }
  if (part === "look") draw();
  else drawLesson();
}
$("go-look").addEventListener("click", () => show("look"));
$("go-teach").addEventListener("click", () => show("teach"));

async function trying(work, status = null) {
  complain("");
  try { return await work(); } catch (error) {
    complain(error.message);
    if (status) $(status).textContent = "";
    return null;
  }
}

async function changeProject(path, options) {
  const found = await trying(async () => (await call(projectPath(path), options)).json());
  if (found) await showProject(found);
  return found;
}

$("project-form").addEventListener("submit", (event) => {
  event.preventDefault();
  lesson.project = { name: $("project").value.trim() };
  lesson.video = null;
  changeProject("", { method: "PUT", json: {} });
});

async function showProject(project) {
  const wasTraining = lesson.project.training?.state === "running";
  lesson.project = project;
  $("lesson").hidden = false;
  if (!lessonVideo()) lesson.video = null;
  colorLabels();
  $("labels").replaceChildren(...project.classes.map((name) => new Option(name)));
  fill($("lesson-videos"), project.videos, (video) => [
    [button(video.name, () => openLesson(video.name), `Open ${video.name}`)],
    video.seconds.toFixed(1), project.marks.filter((mark) => mark.video === video.name).length,
    [reviewedBox(video)],
    [button("Remove", () => removeLesson(video.name), `Remove ${video.name} and its marks`)],
  ]);
  $("marking").hidden = !lesson.video;
  showReport();
  if (project.training.state === "running" && !wasTraining) followTraining();
  if (!lesson.video && project.videos.length) await openLesson(project.videos[0].name);
  else showMarks();
}

function colorLabels() {
  state.colors = state.colors || new Map();
  const used = [...lesson.project.classes, ...lesson.proposals.map((one) => one.label)];
  for (const name of used) if (!state.colors.has(name)) state.colors.set(name, state.colors.size % 8);
}

function button(text, click, label = text) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  if (label !== text) made.setAttribute("aria-label", label);
  made.addEventListener("click", click);
  return made;
}

function reviewedBox(video) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = video.reviewed;
  box.setAttribute("aria-label", `All actions of ${video.name} are marked`);
  box.addEventListener("change", () => changeProject("/reviewed", {
    method: "POST", json: { video: video.name, reviewed: box.checked },
  }));
  return box;
}

$("lesson-files").addEventListener("change", async () => {
  for (const file of [...$("lesson-files").files]) {
    $("lesson-status").textContent = `Adding ${file.name}`;
    const form = new FormData();
    form.append("file", file, file.name);
    await changeProject("/videos", { method: "POST", body: form });
  }
  $("lesson-status").textContent = "";
  $("lesson-files").value = "";
});

function removeLesson(name) {
  changeProject(`/videos?video=${encodeURIComponent(name)}`, { method: "DELETE" });
}

async function openLesson(name) {
  Object.assign(lesson, { video: name, start: null, proposals: [] });
  const address = projectPath(`/video?video=${encodeURIComponent(name)}`);
  if (lesson.url) URL.revokeObjectURL(lesson.url);
  lesson.url = null;
  if (sessionStorage.getItem("token")) {
    const blob = await trying(async () => (await call(address)).blob());
    if (blob) lesson.url = URL.createObjectURL(blob);
  }
  $("lesson-unplayable").hidden = true;
  $("lesson-video").src = lesson.url || address;
  $("marking").hidden = false;
  $("marking-title").textContent = `Mark ${name}`;
  $("lesson-timeline").setAttribute("aria-valuemax", lessonVideo().seconds);
  await loadProposals();
}

async function loadProposals() {
  lesson.proposals = [];
  if (lesson.project.trained && lesson.video) {
    try {
      const path = projectPath(`/timeline?video=${encodeURIComponent(lesson.video)}`);
      lesson.proposals = (await (await call(path)).json()).segments;
    } catch { /* the video came after the training */ }
  }
  colorLabels();
  showMarks();
}

function showMarks() {
  if (!lesson.video) return;
  const marks = lesson.project.marks.filter((mark) => mark.video === lesson.video);
  const rows = [
    ...marks.map((one) => ({ ...one, by: "you" })),
    ...lesson.proposals.map((one) => ({ ...one, by: `machine, ${(100 * one.confidence).toFixed(0)} %` })),
  ].sort((a, b) => a.start - b.start).slice(0, MOST_ROWS);
  fill($("marks"), rows, (one) => [
    [button(time(one.start), () => seekLesson(one.start), `Go to ${time(one.start)}, ${one.label}`)],
    time(one.end), [key(one.label), one.label], one.by,
    [one.by === "you"
      ? button("Erase", () => unmark(one), `Erase ${one.label} from ${time(one.start)}`)
      : button("Take over", () => addMark(one), `Mark ${one.label} from ${time(one.start)}`)],
  ]);
  movedLesson();
}

function addMark({ start, end, label, video = lesson.video }, replace = true) {
  return changeProject("/marks", { method: "POST", json: { video, start, end, label, replace } });
}

function unmark({ start, end, label }) {
  return changeProject("/unmark", { method: "POST", json: { video: lesson.video, start, end, label } });
}

function beginMark() {
  lesson.start = atLesson();
  $("mark-end").disabled = false;
  $("marking-status").textContent = `From ${time(lesson.start)}. Move to its end, then press O.`;
  drawLesson();
}

async function endMark() {
  const label = $("label").value.trim();
  if (lesson.start === null) return;
  if (!label) {
    $("marking-status").textContent = "Give the action a name first.";
    $("label").focus();
    return;
  }
  const [start, end] = [lesson.start, atLesson()].sort((a, b) => a - b);
  const done = await addMark({ start, end, label });
  if (!done) return;
  lesson.start = null;
  $("mark-end").disabled = true;
  $("marking-status").textContent = `${label}, ${time(start)} to ${time(end)}.`;
  drawLesson();
}
$("mark-start").addEventListener("click", beginMark);
$("mark-end").addEventListener("click", endMark);

function seekLesson(seconds) {
  $("lesson-video").currentTime = Math.min(Math.max(seconds, 0), lessonVideo().seconds);
}
$("lesson-video").addEventListener("error", () => {
  $("lesson-unplayable").hidden = !lesson.video;
});
for (const kind of ["timeupdate", "seeked", "loadedmetadata"]) {
  $("lesson-video").addEventListener(kind, movedLesson);
}

$("teach").addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input:not([type=checkbox])");
  if (!lesson.video || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const onSlider = event.target === $("lesson-timeline");
  const step = event.shiftKey ? 0.1 : 1;
  const moves = { ArrowRight: step, ArrowUp: step, ArrowLeft: -step, ArrowDown: -step };
  const at = atLesson();
  if (onSlider && event.key in moves) seekLesson(at + moves[event.key]);
  else if (onSlider && event.key === "Home") seekLesson(0);
  else if (onSlider && event.key === "End") seekLesson(lessonVideo().seconds);
  else if (onSlider && event.key === " ") $("lesson-video").paused ? $("lesson-video").play() : $("lesson-video").pause();
  else if (event.key.toLowerCase() === "i") beginMark();
  else if (event.key.toLowerCase() === "o") endMark();
  else if (onSlider && event.key === "Delete") {
    const here = lesson.project.marks.find((mark) =>
      mark.video === lesson.video && mark.start <= at && at < mark.end);
    if (here) unmark(here);
  } else if (/^[1-9]$/.test(event.key) && lesson.project.classes[event.key - 1]) {
    $("label").value = lesson.project.classes[event.key - 1];
    $("marking-status").textContent = `Label: ${$("label").value}`;
  } else return;
  event.preventDefault();
});
$("lesson-timeline").addEventListener("pointerdown", (event) => {
  const box = $("lesson-timeline").getBoundingClientRect();
  seekLesson(((event.clientX - box.left) / box.width) * lessonVideo().seconds);
});

function movedLesson() {
  if (!lesson.video) return;
  const at = atLesson();
  const here = lesson.project.marks.find((one) =>
    one.video === lesson.video && one.start <= at && at < one.end);
  $("lesson-timeline").setAttribute("aria-valuenow", at.toFixed(1));
  $("lesson-timeline").setAttribute("aria-valuetext", `${at.toFixed(1)} s: ${here ? here.label : "not marked"}`);
  drawLesson();
}

function drawLesson() {
  if (!lesson.video || $("teach").hidden) return;
  const [context, width, height] = canvasOf("lesson-timeline");
  const x = (seconds) => (width * seconds) / lessonVideo().seconds;
  const marks = lesson.project.marks.filter((one) => one.video === lesson.video);
  context.font = "13px system-ui, sans-serif";
  for (const [rows, top] of [[marks, 4], [lesson.proposals, height / 2 + 4]]) {
    for (const { start, end, label } of rows) {
      context.fillStyle = color(`--c${state.colors.get(label)}`);
      context.fillRect(x(start), top, Math.max(x(end) - x(start) - 1, 1), height / 2 - 8);
      context.fillStyle = color("--ground");
      if (context.measureText(label).width < x(end) - x(start) - 8) {
        context.fillText(label, x(start) + 4, top + height / 4 + 1);
      }
    }
  }
  context.fillStyle = color("--line");
  context.fillRect(0, height / 2, width, 1);
  context.fillStyle = color("--text");
  if (lesson.start !== null) {
    context.globalAlpha = 0.3;
    context.fillRect(Math.min(x(lesson.start), x(atLesson())), 0, Math.abs(x(atLesson()) - x(lesson.start)), height / 2);
    context.globalAlpha = 1;
  }
  context.fillRect(x(atLesson()) - 1, 0, 3, height);
}
window.addEventListener("resize", drawLesson);

$("train").addEventListener("click", async () => {
  const begun = await trying(() => call(projectPath("/training"), { method: "POST" }));
  if (begun) followTraining();
});
$("train-stop").addEventListener("click", () => call(projectPath("/training"), { method: "DELETE" }));

async function followTraining() {
  const { name } = lesson.project;
  const running = (is) => {
    $("train").disabled = is;
    $("train-stop").hidden = $("train-progress").hidden = !is;
  };
  running(true);
  let training = { state: "running" };
  while (training.state === "running" && lesson.project.name === name) {
    const phases = { features: "Looking at the videos", fit: "Learning", runs: "Writing" };
    $("train-status").textContent = phases[training.phase] || "Beginning";
    if (training.total) $("train-progress").value = training.done / training.total;
    else $("train-progress").removeAttribute("value");
    await new Promise((done) => setTimeout(done, 500));
    training = (await trying(async () => (await call(projectPath("/training"))).json())) || { state: "failed" };
  }
  running(false);
  if (lesson.project.name !== name) return;
  if (training.state === "failed" && training.message) complain(training.message);
  $("train-status").textContent = training.state === "cancelled" ? "Stopped." : "";
  await changeProject("", {});
  await loadProposals();
}

async function showReport() {
  const { report, trained, stale } = lesson.project;
  $("review-block").hidden = !trained;
  $("train-notes").replaceChildren();
  if (!trained) return;
  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  const measured = report.accuracy === null
    ? "Nothing could be held out to measure with."
    : `Right in ${percent(report.accuracy)} of what was held out; always saying the most frequent ` +
      `would be right in ${percent(report.chance)}.`;
  $("train-status").textContent =
    `${measured}${stale ? " Something has changed since: train again." : ""}`;
  $("train-notes").replaceChildren(...report.notes.map((note) => {
    const item = document.createElement("li");
    item.textContent = note;
    return item;
  }));
  const found = await trying(async () => (await call(projectPath("/review?most=10"))).json());
  fill($("review"), found ? found.windows : [], (one) => [
    [button(`${one.video}, ${time(one.start)}`, () => look(one), `Go to ${one.video}, ${time(one.start)}`)],
    [button(one.label, () => addMark(one), `Mark ${one.label} from ${time(one.start)}`)],
    [button(one.runner_up, () => addMark({ ...one, label: one.runner_up }),
      `Mark ${one.runner_up} from ${time(one.start)}`)],
  ]);
}

async function look(one) {
  if (lesson.video !== one.video) {
    await openLesson(one.video);
    await new Promise((done) => $("lesson-video").addEventListener("loadedmetadata", done, { once: true }));
  }
  seekLesson(one.start);
  $("lesson-timeline").focus();
}

// --- beginning ----------------------------------------------------------------------------------

async function start() {
  try {
    const models = await (await call("/v1/models")).json();
    const names = models.networks.map((one) => one.name).join(" and ");
    $("networks").textContent = `${names}, ${models.classes.length} classes`;
    $("window").placeholder = models.window_seconds;
    if (models.step_seconds) $("step").placeholder = models.step_seconds;
    $("explain").hidden = !models.explains;
    const { upload_bytes: bytes, video_seconds: seconds } = models.limits;
    $("limits").textContent = `Up to ${Math.round(bytes / 1e6)} MB and ${Math.round(seconds / 60)} minutes.`;
    const { projects, available } = await (await call("/v1/projects")).json();
    $("go-teach").hidden = !available;
    $("projects").replaceChildren(...projects.map((name) => new Option(name)));
    const known = /^#job=([0-9a-f]{32})$/.exec(location.hash);
    if (known) {
      const job = await (await call(`/v1/jobs/${known[1]}`)).json();
      await showVideoOf(job.id);
      follow(job);
    }
  } catch (error) {
    complain(error.message);
  }
}

$("camera").hidden = !navigator.mediaDevices || !window.MediaRecorder;
start();
