// The answer: its video, its tables, saving and forgetting.

import { key } from "./colors.js";
import { draw } from "./drawing.js";
import { $, MOST_ROWS, complain, fill, time } from "./elements.js";
import { moved, seek } from "./moment.js";
import { forgetPictures } from "./pictures.js";
import { call } from "./service.js";
import { duration, state } from "./state.js";

export function reset() {
  $("answer").hidden = true;
  $("video").pause();
  if (state.url) URL.revokeObjectURL(state.url);
  Object.assign(state, { job: null, result: null, url: null, explaining: false });
  forgetPictures();
  history.replaceState(null, "", location.pathname);
}

export function showVideo(url) {
  state.url = url;
  $("unplayable").hidden = true;
  $("video").hidden = !url;
  $("still").hidden = true;
  if (url) $("video").src = url;
  else unplayable();
}

export async function showVideoOf(id) {
  const address = `/v1/jobs/${id}/video`;
  if (!sessionStorage.getItem("token")) showVideo(address);
  else showVideo(URL.createObjectURL(await (await call(address)).blob())); // players bring no token
}

function unplayable() {
  $("video").hidden = true;
  $("unplayable").hidden = false;
}
$("video").addEventListener("error", () => state.url && unplayable());

export function showResult(result) {
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
  moved();
  draw();
}

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
