// The timeline and the curves are drawn, and where in them the video is.

import { color } from "./colors.js";
import { $, canvasOf, time } from "./elements.js";
import { duration, now, state } from "./state.js";

export function draw() {
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

export function drawNow() {
  const percent = Math.min((100 * now()) / duration(), 99.7);
  for (const head of heads) head.style.transform = `translateX(${percent}%)`;
}

window.addEventListener("resize", draw);
