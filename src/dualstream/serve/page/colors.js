// Colours of the scheme and of labels.

import { state } from "./state.js";

let colors = null; // of the scheme, read once

export function color(name) {
  if (!colors) {
    const style = getComputedStyle(document.documentElement);
    const names = ["--ground", "--text", "--soft", "--line", ...[0, 1, 2, 3, 4, 5, 6, 7].map((n) => `--c${n}`)];
    colors = Object.fromEntries(names.map((one) => [one, style.getPropertyValue(one).trim()]));
  }
  return colors[name];
}

export function forgetColors() {
  colors = null;
}

export function key(name) {
  const mark = document.createElement("span");
  mark.className = `key k${state.colors.get(name)}`;
  return mark;
}
