// A video goes in.

import { reset, showVideo } from "./answer.js";
import { $, complain } from "./elements.js";
import { fail, follow, showWork } from "./job.js";
import { askForToken, headers } from "./service.js";
import { state } from "./state.js";

function options() {
  const given = new URLSearchParams({ wait: "false", top: "5" });
  const seconds = { window: "window_seconds", step: "step_seconds", merge: "merge_seconds" };
  for (const [id, name] of Object.entries(seconds)) {
    if ($(id).value !== "") given.set(name, $(id).value);
  }
  if ($("enter").value !== "") given.set("enter", Number($("enter").value) / 100);
  return given;
}

export function upload(file, name) {
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
