// Chapter 4: the words, the ledger and the picture of each case were made by its own graph.
{
  const { cases, first } = data.cases;

  function show({ choice }) {
    const { said, rows, alternative } = cases[choice];
    for (const e of document.querySelectorAll("#cases [data-in]")) {
      e.classList.toggle("absent", !e.dataset.in.split(" ").includes(choice));
    }
    $("#cases-rows").replaceChildren(...rows.map(line));
    write("#cases-said", said);
    put("#cases-figure", { "aria-label": alternative });
  }

  function line([route, label, entries]) {
    const row = document.createElement("tr");
    row.className = route;
    const head = row.appendChild(document.createElement("th"));
    head.scope = "row";
    head.textContent = label;
    for (const entry of entries) {
      const cell = row.appendChild(document.createElement("td"));
      cell.textContent = entry;
    }
    return row;
  }

  chapter("cases", {
    defaults: { choice: first },
    clean: ({ choice }) => ({ choice: Object.hasOwn(cases, choice) ? choice : first }),
    show,
  });
}
