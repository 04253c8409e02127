"use strict";
function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const difference = Number(a) - Number(b);
  return Number.isNaN(difference) ? a.localeCompare(b) : difference;
}
function sort(header) {
  const table = header.closest("table");
  const body = table.tBodies[0];
  const down = header.getAttribute("aria-sort") === "ascending";
  const key = (row) => row.cells[header.cellIndex].dataset.key;
  const rows = [...body.rows].sort((one, two) => {
    const gap = (key(one) === "") - (key(two) === "");
    return gap || (down ? compare(key(two), key(one)) : compare(key(one), key(two)));
  });
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.classList.add("sorted");
  body.append(...rows);
}
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sort(button.closest("th")));
}
