// A job is followed until it has ended.

import { showResult } from "./answer.js";
import { $, complain } from "./elements.js";
import { call } from "./service.js";
import { state } from "./state.js";

export async function follow(job) {
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

export function showWork(text, share) {
  $("work").hidden = false;
  if ($("status").textContent !== text) $("status").textContent = text;
  if (share === null) $("progress").removeAttribute("value");
  else $("progress").value = share;
}

export function fail(message) {
  $("work").hidden = true;
  complain(message);
}

$("cancel").addEventListener("click", async () => {
  if (state.job) await call(`/v1/jobs/${state.job.id}`, { method: "DELETE" }).catch(() => {});
  else if (state.wanted) state.wanted.abort();
});
