// Elements of the page: found, filled, and with a canvas at the resolution of the screen.

export const $ = (id) => document.getElementById(id);
export const MOST_ROWS = 500;
const ROWS_AT_ONCE = 40;

export function complain(message) {
  $("problem").textContent = message;
  $("problem").hidden = !message;
}

export function button(text, click, label = text) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  if (label !== text) made.setAttribute("aria-label", label);
  made.addEventListener("click", click);
  return made;
}

export function fill(table, rows, cellsOf) {
  const isNumber = [...table.tHead.rows[0].cells].map((cell) => cell.className === "number");
  const lineOf = (row) => {
    const line = document.createElement("tr");
    cellsOf(row).forEach((content, place) => {
      const cell = document.createElement("td");
      if (isNumber[place]) cell.className = "number";
      cell.append(...(Array.isArray(content) ? content : [String(content)]));
      line.append(cell);
    });
    return line;
  };
  const body = table.tBodies[0];
  const atOnce = rows.length > ROWS_AT_ONCE ? 0 : rows.length;
  body.replaceChildren(...rows.slice(0, atOnce).map(lineOf));
  const filling = (body.filling = {}); // long tables come bit by bit, so that the page stays quick
  const more = (first) => {
    if (body.filling !== filling || first >= rows.length) return;
    body.append(...rows.slice(first, first + ROWS_AT_ONCE).map(lineOf));
    setTimeout(more, 0, first + ROWS_AT_ONCE);
  };
  setTimeout(more, 0, atOnce);
}

export function canvasOf(id) {
  const canvas = $(id);
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  // Drawn by the processor: such small pictures are not worth the way to a graphics card and back.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.scale(scale, scale);
  return [context, canvas.clientWidth, canvas.clientHeight];
}

export function time(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}
