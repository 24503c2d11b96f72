"use strict";
// Sorts and filters the tables of cases. Without it they are plain tables in the cases' order.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const text = (row, column) => row.cells[column].textContent.trim();
  const headers = [...table.tHead.rows[0].cells];
  const compare = (a, b) => {
    const x = Number.parseFloat(a), y = Number.parseFloat(b);
    const numbers = [a, b].every((value) => /^-?[0-9.]+$/.test(value));
    return numbers ? x - y : a.localeCompare(b, undefined, { numeric: true });
  };
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const now = header.getAttribute("aria-sort");
      const next = now === "ascending" ? "descending" : now === "descending" ? null : "ascending";
      for (const other of headers) other.removeAttribute("aria-sort");
      const rows = [...original];
      if (next) {
        header.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        rows.sort((a, b) => {
          const x = text(a, column), y = text(b, column);
          // What has no value stays at the end in both directions.
          const missing = (x === "–" || x === "") - (y === "–" || y === "");
          return missing || sign * compare(x, y);
        });
      }
      body.append(...rows);
    });
  });
  const filter = document.createElement("div");
  filter.className = "filter";
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.type = "search";
  label.append("Show cases with ", input);
  const count = document.createElement("span");
  count.setAttribute("aria-live", "polite");
  filter.append(label, count);
  table.parentElement.before(filter);
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    for (const row of original) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    count.textContent = wanted ? `${shown} of ${original.length}` : "";
  });
}
