// The timeline and the curves are drawn, and where in them the video is.

import { color } from "./colors.js";
import { $, canvasOf, time } from "./elements.js";
import { duration, now, state, windowAt } from "./state.js";

let frame = 0;
export function draw() { // each part in a frame of its own, the first of which also lays the page out
  const parts = [drawNow, drawTimeline, drawCurves];
  const next = () => {
    if (!state.result || $("answer").hidden) return;
    parts.shift()();
    if (parts.length) frame = requestAnimationFrame(next);
  };
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(next);
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
  const [context, width] = canvasOf("curves");
  const { width: columns, height } = context.canvas; // of the screen
  context.resetTransform();
  const thick = Math.max(1, Math.round((2 * columns) / width));
  const top = (value) => Math.round(thick + (1 - value) * (height - 3 * thick));
  context.fillStyle = color("--line");
  for (const share of [0, 0.5, 1]) context.fillRect(0, top(share), columns, 1);
  const windows = Array.from({ length: columns + 1 }, (_, at) => windowAt((duration() * at) / columns));
  for (const [name, values] of Object.entries(state.result.curves).reverse()) {
    context.fillStyle = color(`--c${state.colors.get(name)}`);
    for (const [first, last, high, low] of steps(values, windows, top)) {
      context.fillRect(first, high, last - first, low - high + thick);
    }
  }
}

// A curve as upright rectangles, [first column, last, highest point, lowest]: of each column what the
// windows in it span. Drawn as one line of as many corners as windows, ten minutes took 0.2 s.
function steps(values, windows, top) {
  const found = [];
  for (let column = 0; column + 1 < windows.length; column += 1) {
    let [high, low] = [Infinity, -Infinity];
    for (let place = windows[column]; place <= windows[column + 1]; place += 1) {
      const at = top(values[place]);
      high = Math.min(high, at);
      low = Math.max(low, at);
    }
    const before = found.at(-1);
    if (before && before[2] === high && before[3] === low) before[1] = column + 1;
    else found.push([column, column + 1, high, low]);
  }
  return found;
}

const heads = [...document.querySelectorAll(".head")]; // lines at the present time

export function drawNow() {
  const percent = Math.min((100 * now()) / duration(), 99.7);
  for (const head of heads) head.style.transform = `translateX(${percent}%)`;
}

window.addEventListener("resize", draw);
