// Chapter 4: the words, the ledger and the picture of each case were made by its own graph.
{
  const { cases, first } = data.cases;

  function show({ choice }) {
    const { said, rows, alternative } = cases[choice];
    for (const e of document.querySelectorAll("#cases [data-in]")) {
      e.classList.toggle("absent", !e.dataset.in.split(" ").includes(choice));
    }
    rows.forEach(([label, entries], i) => {
      const [head, ...cells] = $("#cases-rows").rows[i].cells;
      head.textContent = label;
      cells.forEach((cell, j) => (cell.textContent = entries[j]));
    });
    write("#cases-said", said);
    put("#cases-figure", { "aria-label": alternative });
  }

  chapter("cases", {
    defaults: { choice: first },
    clean: ({ choice }) => ({ choice: Object.hasOwn(cases, choice) ? choice : first }),
    show,
  });
}
