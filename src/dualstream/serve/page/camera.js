// A video is taken with the camera.

import { $, complain } from "./elements.js";
import { upload } from "./intake.js";

const RECORD_SECONDS = 300;
let camera = null;
let recorder = null;
let limit = 0;

$("camera").hidden = !navigator.mediaDevices || !window.MediaRecorder;

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
    if (!parts.some((part) => part.size)) { complain("The camera gave no pictures. Record again."); return; }
    upload(new Blob(parts, { type }), type === "video/mp4" ? "camera.mp4" : "camera.webm");
  });
  recorder.start(1000);
  $("record").textContent = "Stop, and look at it";
  limit = setTimeout(() => recorder && recorder.state === "recording" && recorder.stop(), RECORD_SECONDS * 1000);
});
$("camera-off").addEventListener("click", closeCamera);

function closeCamera() {
  clearTimeout(limit);
  if (camera) camera.getTracks().forEach((track) => track.stop());
  camera = recorder = null;
  $("preview").srcObject = null;
  $("recorder").hidden = true;
  $("record").textContent = "Record";
}
