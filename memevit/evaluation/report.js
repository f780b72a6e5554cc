"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const PAGE_SIZE = 24;
  document.documentElement.classList.add("js");

  // Corrections: kept in this browser under the fingerprint of the data, so that a reload loses nothing.
  const bar = $("#corrections");
  const key = "corrections:" + bar.dataset.fingerprint;
  let state = { rows: {}, past: [] };
  let canStore = true;
  try {
    const kept = JSON.parse(localStorage.getItem(key) || "null");
    if (kept && kept.rows && kept.past) state = kept;
    localStorage.setItem(key, JSON.stringify(state));
  } catch (error) {
    canStore = false;
  }
  const cards = $$(".card");
  const idOf = (card) => card.dataset.sha256 || card.dataset.file;

  function decide(row, id) {
    state.past.push([id, state.rows[id] || null]);
    if (row) state.rows[id] = row;
    else delete state.rows[id];
    save();
  }

  function save() {
    if (canStore) {
      try {
        localStorage.setItem(key, JSON.stringify(state));
      } catch (error) {
        canStore = false;
      }
    }
    show();
  }

  function show() {
    const rows = Object.values(state.rows);
    $("#n-corrections").textContent = rows.length === 1 ? "1 correction" : rows.length + " corrections";
    $("#undo").disabled = !state.past.length;
    $("#download").disabled = !rows.length;
    $("#not-kept").hidden = canStore;
    for (const card of cards) {
      const row = state.rows[idOf(card)];
      card.dataset.action = row ? row.action : "";
      for (const button of $$("button[data-action]", card)) {
        button.setAttribute("aria-pressed", String(Boolean(row) && row.action === button.dataset.action));
      }
      const select = $("select[data-action]", card);
      if (row && row.action === "relabel") offer(select, row["class"], card);
      select.value = row && row.action === "relabel" ? row["class"] : "";
      const note = $(".decided", card);
      note.textContent = !row ? "" : row.action === "relabel" ? "relabel to " + row["class"] : row.action;
    }
  }

  const classes = JSON.parse(bar.dataset.classes);
  function offer(select, name, card) {
    if (name === card.dataset.true || [...select.options].some((option) => option.value === name)) return;
    select.append(new Option(name, name));
  }

  function act(card, action, className) {
    const id = idOf(card);
    const row = state.rows[id];
    const same = row && row.action === action && row["class"] === (className || "");
    decide(same ? null : {
      file: card.dataset.file, action, class: className || "", reason: card.dataset.reason || "decided in the report",
      sha256: card.dataset.sha256,
    }, id);
  }

  for (const card of cards) {
    for (const button of $$("button[data-action]", card)) {
      button.addEventListener("click", () => act(card, button.dataset.action, button.dataset.class));
    }
    const select = $("select[data-action]", card);
    // A thousand classes on every card would be too many elements: they are added when they are wanted.
    for (const moment of ["focus", "pointerenter"]) {
      select.addEventListener(moment, () => { for (const name of classes) offer(select, name, card); }, { once: true });
    }
    select.addEventListener("change", (event) => {
      if (event.target.value) act(card, "relabel", event.target.value);
      else decide(null, idOf(card));
    });
  }
  $("#undo").addEventListener("click", undo);
  function undo() {
    const last = state.past.pop();
    if (!last) return;
    if (last[1]) state.rows[last[0]] = last[1];
    else delete state.rows[last[0]];
    save();
  }

  // A cell that a spreadsheet would run as a formula gets an apostrophe, as in memevit/escape.py.
  function cell(value) {
    let text = String(value);
    if (/^'*[=+\-@\t\r]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text)) text = "'" + text;
    return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  }
  const plain = (text) => (/^'+[=+\-@\t\r]/.test(text) ? text.slice(1) : text);
  const columns = JSON.parse(bar.dataset.columns);
  const csv = () => [columns, ...Object.values(state.rows).map((row) => columns.map((name) => row[name] || ""))]
    .map((row) => row.map(cell).join(",")).join("\n") + "\n";

  $("#download").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
    link.download = "corrections.csv";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });

  function parse(text) {
    const rows = [[""]];
    let quoted = false;
    text = text.replace(/^\ufeff/, "");
    for (let i = 0; i < text.length; i++) {
      const row = rows[rows.length - 1];
      const c = text[i];
      if (quoted && c === '"' && text[i + 1] === '"') { row[row.length - 1] += '"'; i++; }
      else if (c === '"') quoted = !quoted;
      else if (!quoted && c === ",") row.push("");
      else if (!quoted && (c === "\n" || c === "\r")) { if (c === "\r" && text[i + 1] === "\n") i++; rows.push([""]); }
      else row[row.length - 1] += c;
    }
    const names = rows.shift();
    return rows.filter((row) => row.length > 1)
      .map((row) => Object.fromEntries(names.map((name, i) => [name, plain(row[i] || "")])));
  }

  $("#earlier").addEventListener("change", async (event) => {
    const file = event.target.files[0];
    if (!file) return;
    for (const row of parse(await file.text())) {
      const id = row.sha256 || row.file;
      if (["relabel", "drop", "keep"].includes(row.action) && id && !/^suggested: /.test(row.reason || "")
          && !state.rows[id]) decide(row, id);
    }
    event.target.value = "";
  });

  // Filters, and a page at a time.
  const filters = $("#filters");
  let shownUpTo = PAGE_SIZE;
  function filter() {
    const wanted = Object.fromEntries($$("select", filters).map((select) => [select.name, select.value]));
    let n = 0;
    for (const card of $$("#mistakes .card")) {
      const fits = (!wanted.true || card.dataset.true === wanted.true)
        && (!wanted.predicted || card.dataset.predicted === wanted.predicted)
        && (!wanted.split || card.dataset.split === wanted.split)
        && (!wanted.cause || card.dataset.causes.split(" ").includes(wanted.cause));
      if (fits) n++;
      card.hidden = !fits || n > shownUpTo;
    }
    $("#n-shown").textContent = Math.min(n, shownUpTo) + " of " + n + " shown";
    $("#more").hidden = n <= shownUpTo;
  }
  if (filters) {
    filters.addEventListener("change", () => { shownUpTo = PAGE_SIZE; filter(); });
    filters.addEventListener("reset", () => setTimeout(filter));
    $("#more").addEventListener("click", () => { shownUpTo += PAGE_SIZE; filter(); });
    for (const link of $$("[data-filter]")) {
      link.addEventListener("click", () => {
        const wanted = JSON.parse(link.dataset.filter);
        for (const select of $$("select", filters)) select.value = wanted[select.name] || "";
        shownUpTo = PAGE_SIZE;
        filter();
      });
    }
    filter();
  }

  // Long tables, a page at a time.
  for (const table of $$("table[data-paged]")) {
    const rows = $$("tbody tr", table);
    if (rows.length <= PAGE_SIZE) continue;
    let start = 0;
    const line = document.createElement("p");
    const turn = (step) => {
      start = Math.min(Math.max(0, start + step * PAGE_SIZE), rows.length - 1 - ((rows.length - 1) % PAGE_SIZE));
      rows.forEach((row, i) => { row.hidden = i < start || i >= start + PAGE_SIZE; });
      text.textContent = ` rows ${start + 1} to ${Math.min(start + PAGE_SIZE, rows.length)} of ${rows.length} `;
    };
    const text = document.createElement("span");
    const [back, on] = [["Back", -1], ["Next", 1]].map(([name, step]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => turn(step));
      return button;
    });
    line.append(back, text, on);
    table.after(line);
    turn(0);
  }

  // Keys: j and k go from card to card; d drops, e keeps, r relabels as suggested, u undoes.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const visible = cards.filter((card) => !card.hidden && card.offsetParent);
    const at = visible.indexOf(document.activeElement.closest(".card"));
    const card = visible[at];
    const go = (target) => { if (target) { target.focus(); target.scrollIntoView({ block: "center" }); } };
    if (event.key === "j") go(visible[Math.min(at + 1, visible.length - 1)]);
    else if (event.key === "k") go(visible[Math.max(at - 1, 0)]);
    else if (event.key === "u") undo();
    else if (card && event.key === "d") act(card, "drop");
    else if (card && event.key === "e") act(card, "keep");
    else if (card && event.key === "r" && card.dataset.suggested) act(card, "relabel", card.dataset.suggested);
  });

  bar.hidden = false;
  show();
})();
