// Teaching: a project, its videos, marks in them, and the training.

import { color, key } from "./colors.js";
import { $, MOST_ROWS, button, canvasOf, complain, fill, time } from "./elements.js";
import { call } from "./service.js";
import { state } from "./state.js";

const lesson = { project: null, video: null, start: null, proposals: [], review: [], url: null };
const projectPath = (rest = "") => `/v1/projects/${encodeURIComponent(lesson.project.name)}${rest}`;
const atLesson = () => $("lesson-video").currentTime || 0;
const lessonVideo = () => lesson.project.videos.find((one) => one.name === lesson.video);

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

export function drawLesson() {
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
