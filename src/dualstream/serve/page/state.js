// What the page has of the video that is looked at, and where in it it is.

import { $ } from "./elements.js";

export const state = {
  job: null, result: null, url: null, wanted: null, explaining: false,
  colors: null, // label -> number of its colour
  clock: 0, // seconds of the video's clock, where it cannot be played
};

export const now = () => ($("video").hidden ? state.clock : $("video").currentTime);
export const duration = () => state.result.video.seconds;

export function windowAt(seconds) {
  const { timeline } = state.result;
  let low = 0;
  let high = timeline.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (seconds < timeline[middle].end) high = middle;
    else low = middle + 1;
  }
  return low;
}
