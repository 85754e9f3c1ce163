// A click on a column's name sorts the table by it: numbers from high to low first, names from A.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const isText = head.dataset.sort === "text";
      const before = head.getAttribute("aria-sort");
      const order = before === "descending" ? "ascending"
        : before === "ascending" ? "descending"
        : isText ? "ascending" : "descending";
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => row.cells[column].dataset.value;
      const rows = [...body.rows].sort((a, b) => sign * (isText
        ? key(a).localeCompare(key(b))
        : Number(key(a)) - Number(key(b))));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      body.append(...rows);
    });
  });
}
