"use strict";
// Gives every table of the page heads that sort and a filter, and opens the tables that are packed. Asks for nothing.
(() => {
  const STEP = 100, FILTERED_FROM = 6;
  const collator = new Intl.Collator("en", { numeric: true });
  const NUMBER = /^[+\-−]?(\d[\d,]*\.?\d*|\.\d+)(e[+-]?\d+)?/i;
  const absent = (text) => text === "" || text === "–" || text === "nan";
  const listings = [];

  function value(text) {
    if (/^[+\-−]?inf(inity)?$/i.test(text)) return /^[\-−]/.test(text) ? -Infinity : Infinity;
    const found = NUMBER.exec(text);
    return found ? Number(found[0].replace("−", "-").replace(/,/g, "")) : NaN;
  }

  // Differences of infinities are none.
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

  // Rows in the order of a column; those without a value are last either way.
  function sorted(rows, column, way) {
    const text = (row) => row.texts[column];
    const known = rows.filter((row) => !absent(text(row)));
    const numeric = known.every((row) => !Number.isNaN(value(text(row))));
    known.sort((a, b) => way * (numeric ? order(value(text(a)), value(text(b))) : collator.compare(text(a), text(b))));
    return known.concat(rows.filter((row) => absent(text(row))));
  }

  function element(name, attributes, ...children) {
    const made = Object.assign(document.createElement(name), attributes);
    made.append(...children);
    return made;
  }

  // A table: `rows` have `texts`, a text a column, and `make` gives the line of one.
  function list(box, rows, make) {
    const table = box.querySelector("table"), body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const state = { column: -1, way: 1, words: [], limit: STEP, printed: false };
    const input = element("input", { type: "search", autocomplete: "off" });
    const count = element("output", {});
    const more = element("button", { type: "button", className: "more" });

    function show() {
      const words = state.printed && make.still ? [] : state.words;
      const found = rows.filter((row) => words.every((word) => row.search.includes(word)));
      const ordered = state.column < 0 ? found : sorted(found, state.column, state.way);
      const shown = ordered.slice(0, state.printed && make.still ? ordered.length : state.limit);
      body.replaceChildren(...shown.map(make));
      const left = ordered.length - shown.length;
      count.textContent = `${ordered.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows` +
        (left ? `, the first ${shown.length.toLocaleString("en")} shown` : "");
      more.hidden = left === 0;
      more.textContent = `Show ${Math.min(STEP, left)} more`;
    }

    heads.forEach((head, column) => {
      const button = element("button", { type: "button" }, ...head.childNodes);
      button.addEventListener("click", () => {
        const next = state.column !== column ? 1 : state.way === 1 ? -1 : 0;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        Object.assign(state, next ? { column, way: next } : { column: -1, way: 1 });
        if (next) head.setAttribute("aria-sort", next === 1 ? "ascending" : "descending");
        show();
      });
      head.append(button);
    });
    input.addEventListener("input", () => {
      state.words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      state.limit = STEP;
      show();
    });
    more.addEventListener("click", () => { state.limit += STEP; show(); });
    if (rows.length >= FILTERED_FROM) {
      const caption = table.caption ? table.caption.textContent.trim() : "this table";
      input.setAttribute("aria-label", `Filter ${caption}`);
      box.prepend(element("div", { className: "controls" }, element("label", {}, "Filter ", input), count));
      box.append(more);
    }
    rows.forEach((row) => { row.search = row.texts.join(" ").toLowerCase(); });
    listings.push({ state, show });
    show();
  }

  // A table that lies in the page as it is.
  function still(box) {
    const rows = [...box.querySelector("table").tBodies[0].rows].map((line) => ({
      line,
      texts: [...line.cells].map((cell) => cell.innerText.trim()),
    }));
    list(box, rows, Object.assign((row) => row.line, { still: true }));
  }

  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  }

  // A table that is packed: only the lines that are shown are made.
  async function packed(file) {
    const found = await unpacked(file.querySelector("script").textContent);
    const rows = found.rows.map((texts) => ({ texts }));
    list(file.querySelector(".listing"), rows, (row) => {
      row.line ??= element("tr", {}, ...row.texts.map((text) => element("td", {}, text)));
      return row.line;
    });
    file.querySelector(".kept").textContent = "";
  }

  document.documentElement.classList.add("js");
  document.querySelectorAll("details.file").forEach((file) => {
    if (!file.querySelector("script") || !("DecompressionStream" in window)) return;
    file.addEventListener("toggle", () => packed(file), { once: true });
  });
  document.querySelectorAll(".listing").forEach((box) => {
    if (!box.closest("details.file")) still(box);
  });
  const printing = (printed) => listings.forEach(({ state, show }) => { state.printed = printed; show(); });
  window.addEventListener("beforeprint", () => printing(true));
  window.addEventListener("afterprint", () => printing(false));
})();
