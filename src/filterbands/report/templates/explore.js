"use strict";
// Everything is on the page already. This hides, sorts, compares and enlarges it. Names are written as text alone.
(() => {
const RING = 0.02;
const all = (what, where = document) => [...where.querySelectorAll(what)];
const numbers = text => text.split(/[ ,]/).map(one => one === "" ? NaN : Number(one));
const sum = values => values.reduce((total, one) => total + one, 0);
const maker = space => (tag, facts = {}, ...inside) => {
  const made = document.createElementNS("http://www.w3.org/" + space, tag);
  for (const [name, value] of Object.entries(facts)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
};
const make = maker("1999/xhtml"), drawn = maker("2000/svg");
const button = (action, text, facts = {}) => make("button", Object.assign({"type": "button", "data-do": action}, facts), text);

// What a cell says: its own text, and the texts beside it and below it.
function said(cell) {
  const own = cell.cloneNode(true), apart = what => all(what, own).map(one => (one.remove(), one.textContent.trim())).join(" ");
  all("[aria-hidden], .unseen, svg", own).forEach(one => one.remove());
  const under = apart(".sub"), beside = apart(".delta");
  return [own.textContent.trim(), beside, under];
}
const plain = text => text.replace(/\u2212/g, "-").replace(/\u00a0/g, " ").replace(/^\u2013$/, "");
function valueOf(cell) {
  if (cell.dataset.value) return Number(cell.dataset.value);
  const found = /^\W?-?\d[\d,.]*/.exec(plain(said(cell)[0]));
  return found ? Number(found[0].replace(/,/g, "")) : NaN;
}
const percents = value => (100 * value).toFixed(1) + "\u00a0%", spaced = kind => kind.replace(/_/g, " ");
const titled = (title, ...inside) => [make("h3", {}, title), ...inside];

// Networks: their names by position, those that are hidden, and the one that the others are compared with.
const names = new Map(), hidden = new Set();
const refreshed = [];
all("[data-network] .chip").forEach(chip => {
  const position = chip.closest("[data-network]").dataset.network;
  if (!names.has(position)) names.set(position, chip);
});
const nameOf = position => names.has(position) ? names.get(position).querySelector("bdi").textContent : "";
const chipOf = position => names.has(position) ? names.get(position).cloneNode(true) : make("span");

function showNetworks() {
  for (const one of all("[data-network]")) {
    if (one.matches(".legend li")) {
      one.querySelector("button")?.setAttribute("aria-pressed", String(!hidden.has(one.dataset.network)));
      continue;
    }
    const away = hidden.has(one.dataset.network), head = one.closest("thead");
    const whole = one.matches("table") ? one.closest("figure") ?? one.closest(".tabled") : one.matches("tbody th") ? one.parentElement : one;
    if (!head) whole.classList.toggle("away", away);
    else for (const row of one.closest("table").rows) if (row.cells.length > one.cellIndex) row.cells[one.cellIndex].classList.toggle("away", away);
  }
  refreshed.forEach(show => show());
}

function compareWith(position) {
  for (const table of all("table")) {
    const heads = [...table.tHead.rows[0].cells], at = heads.findIndex(head => head.dataset.network === position);
    const compared = heads.flatMap(head => all(".sub", head)).find(sub => sub.textContent === "reference");
    if (at < 0 || !compared) continue;
    heads[at].append(compared);
    for (const row of table.tBodies[0].rows) for (const cell of row.cells) {
      if (!cell.dataset.value || !heads[cell.cellIndex].dataset.network) continue;
      all(".delta", cell).forEach(one => one.remove());
      const base = row.cells[at].dataset.value, points = 100 * (cell.dataset.value - base);
      if (cell.cellIndex === at || base === undefined) continue;
      const sign = points.toFixed(1).replace(/^-0\.0$/, "0.0").replace("-", "\u2212");
      cell.append(" ", make("span", {"class": "delta"}, points >= 0.05 ? "+" + sign : sign));
    }
  }
}

// Tables: sorted by a column, down, up and as they were; copied as comma-separated values.
const orders = new WeakMap();
function sortBy(head) {
  const table = head.closest("table"), parts = table.tBodies.length > 1, turn = head.getAttribute("aria-sort");
  if (!orders.has(table)) orders.set(table, [...(parts ? table.tBodies : table.tBodies[0].rows)]);
  const next = turn === "descending" ? "ascending" : turn === "ascending" ? "" : "descending";
  all("th", table.tHead).forEach(one => one.removeAttribute("aria-sort"));
  if (next) head.setAttribute("aria-sort", next);
  const way = next === "ascending" ? 1 : -1, at = head.cellIndex, rows = [...orders.get(table)];
  const cells = row => (parts ? row.rows[0] : row).cells;
  const keys = new Map(rows.filter(row => cells(row).length > at).map(row => [row, [valueOf(cells(row)[at]), said(cells(row)[at])[0]]]));
  const numeric = [...keys.values()].some(key => !Number.isNaN(key[0])) && at > 0;
  if (next) rows.sort((one, other) => {
    const [a, b] = [one, other].map(row => keys.get(row) ?? [NaN, ""]);
    if (!numeric) return -way * a[1].localeCompare(b[1], undefined, {numeric: true});
    return Number.isNaN(a[0]) - Number.isNaN(b[0]) || way * (a[0] - b[0]) || 0;
  });
  rows.forEach(row => row.classList.toggle("unsorted", Boolean(next) && row.matches(".family")));
  (parts ? table : table.tBodies[0]).append(...rows);
}

function commaSeparated(table) {
  const rows = [...table.rows].filter(row => !row.matches(".family, .away"));
  const cells = rows.map(row => [...row.cells].filter(cell => !cell.matches(".away")).map(said)), width = Math.max(...cells.map(row => row.length));
  const columns = [];
  for (let at = 0; at < width; at += 1) {
    const body = cells.slice(1).map(row => row[at] ?? ["", "", ""]), head = cells[0][at] ?? ["", "", ""];
    const title = plain([head[0], head[2]].filter(Boolean).join(", "));
    const percent = body.some(one => /%$/.test(one[0])) && body.every(one => /(%|^|\u2013)$/.test(one[0]));
    for (const [part, name] of [[0, title + (percent ? ", %" : "")], [1, title + ", difference"], [2, title + ", below"]])
      if (part === 0 || body.some(one => one[part])) columns.push([name, ...body.map(one => plain(percent && !part ? one[0].replace(/\s*%$/, "") : one[part]))]);
  }
  const quoted = text => /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  return cells.map((_, row) => columns.map(column => quoted(column[row] ?? "")).join(",")).join("\n") + "\n";
}
async function copyTable(pressed) {
  const text = commaSeparated(pressed.closest(".tabled").querySelector("table"));
  try { await navigator.clipboard.writeText(text); }
  catch {
    // The clipboard is for pages from https and from the disk alone.
    const box = make("textarea", {}, text);
    pressed.after(box), box.select();
    document.execCommand("copy");
    box.remove();
  }
  pressed.textContent = "Copied";
  setTimeout(() => { pressed.textContent = "Copy as CSV"; }, 1500);
}

// A small chart of lines of shares over a common x.
function plot(lines, domain, title, label) {
  const place = ([x, y]) => [44 + 300 * (x - domain[0]) / (domain[1] - domain[0]), 150 - 140 * y];
  const chart = drawn("svg", {"viewBox": "0 0 360 190", "class": "plot", "role": "img", "aria-label": label});
  for (const y of [0, 0.5, 1]) chart.append(
    drawn("path", {"d": "M44 " + (150 - 140 * y) + "H344", "class": "rule"}),
    drawn("text", {"x": 38, "y": 154 - 140 * y, "text-anchor": "end"}, 100 * y + "%"));
  for (const x of domain) chart.append(drawn("text", {"x": place([x, 0])[0], "y": 168, "text-anchor": "middle"}, x));
  chart.append(drawn("text", {"x": 194, "y": 186, "text-anchor": "middle"}, title));
  for (const line of lines) {
    const group = drawn("g", {"class": line.color, "data-network": line.network});
    const points = line.points.filter(point => !Number.isNaN(point[1])).map(place);
    group.append(drawn("path", {"d": points.map((point, at) => (at ? "L" : "M") + point.map(one => one.toFixed(1))).join("")}));
    for (const [cx, cy] of points.length < 9 ? points : []) group.append(drawn("circle", {"cx": cx, "cy": cy, "r": 3}));
    chart.append(group);
  }
  return chart;
}
const colorOf = position => names.has(position) ? names.get(position).querySelector("[class^=run]").className : "run0";

// One dialog, for a kind of corruption or for a filter.
const dialog = make("dialog", {"aria-labelledby": "looked-at"}, button("close", "Close"), make("h2", {"id": "looked-at"}), make("div"));
document.body.append(dialog);
function open(title, ...inside) {
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector("div").replaceChildren(...inside);
  if (!dialog.open) dialog.showModal();  // Before anything is drawn anew: closing returns the focus to what has it.
  showNetworks();
  dialog.scrollTop = 0;
}
function openKind(kind) {
  const of = what => all(what + '[data-kind="' + CSS.escape(kind) + '"]', document.querySelector("main"));
  const found = [];
  const pictures = [...all('.strip[data-kind="clean"]'), ...of(".strip")].map(one => one.cloneNode(true));
  if (of(".strip").length) found.push(...titled("Pictures", make("div", {"class": "strips"}, ...pictures)));
  const spectra = of(".spectra > figure").map(one => one.cloneNode(true));
  if (spectra.length) found.push(...titled("Spectrum of what it adds", make("div", {"class": "spectra small"}, ...spectra)));
  // Networks that were measured otherwise have a chart and a table of their own, as on the page.
  const compared = new Map();
  for (const head of of(".heat th")) {
    const where = head.closest("[data-comparison]")?.dataset.comparison ?? "", values = [...head.parentElement.cells].slice(1, 6).map(cell => Number(cell.dataset.value ?? NaN));
    compared.set(where, [...(compared.get(where) ?? []), [head.closest("table").dataset.network, values]]);
  }
  for (const [where, rows] of compared) {
    const lines = rows.map(([network, values]) => ({network, "color": colorOf(network), "points": values.map((value, at) => [at + 1, value])}));
    const head = make("tr", {}, ...["Network", 1, 2, 3, 4, 5].map((one, at) => make("th", {"scope": "col", "class": at ? "n" : ""}, one === 1 ? "Severity 1" : String(one))));
    const body = rows.map(([network, values]) => make("tr", {}, make("th", {"scope": "row", "data-network": network}, chipOf(network)),
      ...values.map(value => make("td", {"class": "n"}, Number.isNaN(value) ? "\u2013" : percents(value)))));
    const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
    found.push(...titled("Accuracy by severity" + (compared.size > 1 ? ", " + document.querySelector('[data-comparison="' + where + '"]').dataset.told : ""), plot(lines, [1, 5], "Severity", "Accuracy against severity under " + spaced(kind)),
      make("div", {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": "Accuracy by severity"}, table)));
  }
  for (const head of of("tbody th").filter(one => !one.closest(".heat"))) {
    const table = head.closest("table"), facts = make("dl", {"class": "facts"});
    [...head.parentElement.cells].slice(1).forEach((cell, at) => {
      const column = table.tHead.rows[0].cells[at + 1], pair = make("div", {}, make("dt", {}, said(column)[0]), make("dd", {}, said(cell).filter(Boolean).join(" ")));
      if (column.dataset.network) pair.dataset.network = column.dataset.network;
      facts.append(pair);
    });
    found.push(...titled(table.closest(".scroll").getAttribute("aria-label"), facts));
  }
  open(spaced(kind), ...found);
}

function openFilter(tile) {
  const curve = numbers(tile.dataset.curve).map((one, at) => [RING * (at + 1), one / 1000]);
  const [weights, power] = all("img", tile).map(one => one.cloneNode(true));
  power.setAttribute("alt", "Its power spectrum, frequency zero in the center");
  const large = make("div", {"class": "large"}, weights, power);
  const network = tile.closest("[data-network]").dataset.network;
  open(tile.title, make("p", {"class": "note"}, chipOf(network)), large, make("h3", {}, "Energy within the radius"),
    plot([{network, "color": colorOf(network), "points": [[0, 0], ...curve]}], [0, 0.5], "Radius, cycles per pixel", "Share of the filter's energy within each radius"));
}

// A ring of the heat maps, by the pointer or by two sliders: the error in it, and the kinds that live there.
function brush(card) {
  const kinds = all("figure[data-shares]").map(one => [one.dataset.kind, numbers(one.dataset.shares)]);
  const maps = all("figure[data-errors]", card), last = numbers(maps[0].dataset.errors).length, ends = [0, 0];
  const sliders = ["From", "To"].map((text, at) => {
    const slider = make("input", {"type": "range", "min": "0", "max": String(RING * last), "step": String(RING), "title": text + " radius, cycles per pixel"});
    slider.addEventListener("input", () => { ends[at] = Math.round(slider.value / RING); ends[1 - at] = at ? Math.min(...ends) : Math.max(...ends); show(); });
    return slider;
  });
  const told = make("output", {}), list = make("ol", {"class": "kinds"});
  const rings = maps.map(map => map.querySelector(".spectrum").appendChild(make("span", {"class": "ring", "aria-hidden": "true"})));
  const show = () => {
    const [low, high] = ends.map(one => (RING * one).toFixed(2));
    sliders.forEach((slider, at) => { slider.value = RING * ends[at]; slider.setAttribute("aria-valuetext", [low, high][at]); });
    rings.forEach(ring => { ring.style.setProperty("--low", 200 * low + "%"); ring.style.setProperty("--high", 200 * high + "%"); });
    const errors = maps.filter(map => !hidden.has(map.dataset.network)).map(map => {
      const [error, count] = [map.dataset.errors, map.dataset.counts].map(one => numbers(one).slice(...ends)), [name, , under] = said(map.querySelector("figcaption"));
      const known = error.map((one, at) => Number.isNaN(one) ? [0, 0] : [one * count[at], count[at]]), counted = sum(known.map(one => one[1]));
      const whole = counted && RING * ends[1] < Number(map.dataset.reach) + RING / 2;  // Beyond its reach the mean would be that of another range.
      return name + " (" + under + ") " + (whole ? percents(sum(known.map(one => one[0])) / counted) : "not measured");
    });
    told.textContent = ends[0] === ends[1] ? "No ring is chosen." : "From " + low + " to " + high + " cycles per pixel. Mean error: " + (errors.join(", ") || "not measured") + ".";
    const shares = kinds.map(([kind, values]) => [kind, sum(values.slice(...ends))]).sort((one, other) => other[1] - one[1]);
    list.replaceChildren(...(ends[0] === ends[1] ? [] : shares).map(([kind, share]) => {
      const row = make("li", {}, button("kind", spaced(kind), {"data-of": kind}), make("span", {"class": "share"}), " " + percents(share));
      row.querySelector(".share").style.width = 6 * share + "rem";
      return row;
    }));
  };
  maps.forEach(map => {
    let start = null;
    const square = map.querySelector(".spectrum"), at = event => {
      const box = square.getBoundingClientRect();
      return Math.min(last, Math.floor(Math.hypot((event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5) / RING));
    };
    const move = event => { const now = at(event); ends[0] = Math.min(start, now); ends[1] = Math.min(last, Math.max(start, now) + 1); show(); };
    square.addEventListener("pointerdown", event => { start = at(event); square.setPointerCapture(event.pointerId); move(event); event.preventDefault(); });
    square.addEventListener("pointermove", event => { if (start !== null) move(event); });
    for (const end of ["pointerup", "pointercancel"]) square.addEventListener(end, () => { start = null; });
  });
  const about = kinds.length ? "Each share is of the power that the kind adds." : "The page has no spectra of corruptions: probe a network into the database with --only corruptions.";
  card.append(make("div", {"class": "brush"}, make("h3", {}, kinds.length ? "Which kinds live in a ring" : "Error in a ring"),
    make("p", {"class": "note"}, "Drag over a map, or move the sliders. " + about), make("p", {"class": "sliders"}, ...sliders.map((slider, at) => make("label", {}, ["From", "To"][at], slider))), told, list));
  refreshed.push(show), show();
}

// The controls. Without this script none of them is on the page.
const actions = {
  "network": pressed => { const of = pressed.closest("[data-network]").dataset.network; hidden.delete(of) || hidden.add(of); showNetworks(); },
  "everyone": () => { hidden.clear(); showNetworks(); },
  "sort": pressed => sortBy(pressed.closest("th")),
  "copy": copyTable,
  "kind": pressed => openKind(pressed.dataset.of ?? pressed.closest("[data-kind]").dataset.kind),
  "chosen": pressed => openKind(pressed.parentElement.querySelector("select").value),
  "filter": pressed => openFilter(pressed.closest("[data-curve]")),
  "close": () => dialog.close(),
};
document.addEventListener("click", event => {
  const pressed = event.target.closest("button[data-do]");
  if (pressed) actions[pressed.dataset.do](pressed);
  else if (event.target === dialog) dialog.close();
});
const wrap = (holder, action, facts) => { const made = button(action, "", facts); made.append(...holder.childNodes); holder.append(made); };
if (names.size > 1) all(".legend li").forEach(item => wrap(item, "network", {"aria-pressed": "true"}));
all(".scroll > table").forEach(table => {
  if (table.tBodies.length > 1 || !table.matches(".glance") && table.tBodies[0].rows.length > 1) all("thead th", table).forEach(head => wrap(head, "sort"));
  const box = make("div", {"class": "tabled"}), scroll = table.parentElement;
  scroll.replaceWith(box);
  box.append(scroll, button("copy", "Copy as CSV"));
});
all("tbody th[data-kind], .strip:not([data-kind=clean]) h4").forEach(head => wrap(head, "kind"));
all(".tiles").forEach(tiles => {
  const list = all("li", tiles);
  list.forEach((tile, at) => wrap(tile, "filter", at ? {"tabindex": "-1"} : {}));
  tiles.addEventListener("keydown", event => {
    const step = {"ArrowRight": 1, "ArrowDown": 1, "ArrowLeft": -1, "ArrowUp": -1}[event.key], buttons = all("button", tiles);
    const next = step && buttons[buttons.indexOf(event.target) + step];
    if (!next) return;
    buttons.forEach(one => { one.tabIndex = one === next ? 0 : -1; });
    next.focus(), event.preventDefault();
  });
});
new Set(all("figure[data-errors]").map(map => map.closest(".card"))).forEach(brush);

const tools = make("aside", {"class": "tools", "aria-label": "Explore"});
const chooser = (label, options) => make("label", {}, label + " ", make("select", {}, ...options.map(([value, text]) => make("option", {"value": value}, text))));
const reference = all("th .sub").find(sub => sub.textContent === "reference");
if (reference) {
  const picked = chooser("Compare tables with", [...names.keys()].map(one => [one, nameOf(one)])), select = picked.querySelector("select");
  select.value = reference.closest("th").dataset.network;
  select.addEventListener("change", () => compareWith(select.value));
  tools.append(picked);
}
const kinds = [...new Set(all("main [data-kind]").map(one => one.dataset.kind))].filter(kind => kind !== "clean");
if (kinds.length) tools.append(make("span", {"class": "pair"}, chooser("Kind", kinds.map(kind => [kind, spaced(kind)])), " ", button("chosen", "Look at it")));
if (names.size > 1) tools.append(button("everyone", "Show all networks"));
if (tools.childNodes.length) document.querySelector("main").before(tools);

// What is folded belongs on paper.
let folded = [];
addEventListener("beforeprint", () => (folded = all("details:not([open])")).forEach(one => { one.open = true; }));
addEventListener("afterprint", () => folded.forEach(one => { one.open = false; }));
})();
