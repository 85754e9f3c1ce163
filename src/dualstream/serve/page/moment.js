// The present moment: moving in the video, and what is seen there.

import { drawNow } from "./drawing.js";
import { $ } from "./elements.js";
import { askSoon, showPictures } from "./pictures.js";
import { duration, now, state, windowAt } from "./state.js";

export function seek(seconds) {
  state.clock = Math.min(Math.max(seconds, 0), duration());
  if (!$("video").hidden) $("video").currentTime = state.clock;
  moved();
}

export function moved() {
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
