// The page of `dualstream serve`: a video goes in, its timeline comes out. No library, no build.

import { showVideoOf } from "./answer.js";
import "./camera.js";
import { forgetColors } from "./colors.js";
import { draw } from "./drawing.js";
import { $, complain } from "./elements.js";
import "./intake.js";
import { follow } from "./job.js";
import { call } from "./service.js";
import { drawLesson } from "./teaching.js";

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

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  forgetColors();
  draw();
  drawLesson();
});

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  $("token-section").hidden = true;
  complain("");
  start();
});

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

start();
