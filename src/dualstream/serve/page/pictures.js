// Pictures of the motion and of where the streams looked.

import { $, time } from "./elements.js";
import { call } from "./service.js";
import { now, state, windowAt } from "./state.js";

const explained = { windows: [], pictures: new Map(), asked: new Set(), shown: new Map() };

$("explain").addEventListener("click", () => {
  state.explaining = !state.explaining;
  $("explain").setAttribute("aria-pressed", String(state.explaining));
  if (state.explaining) ask();
  else $("pictures").replaceChildren(), explained.shown.clear();
});

let soon = 0;
export function askSoon() {
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

export function showPictures() {
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

export function forgetPictures() {
  for (const url of explained.pictures.values()) URL.revokeObjectURL(url);
  Object.assign(explained, { windows: [], pictures: new Map(), asked: new Set(), shown: new Map() });
  $("pictures").replaceChildren();
  $("explain").setAttribute("aria-pressed", "false");
  $("explain-status").textContent = "";
}
