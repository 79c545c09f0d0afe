// The profile of a service, route, trace or span: a flame graph, a table of its functions, and the callers and callees of one.
import { ask } from "./api.js";
import { fileName, sandwich, table, tree } from "./calls.js";
import { h, replace } from "./dom.js";
import { colourOf, flame } from "./flame.js";
import { KINDS, amount, many, percent, serviceName } from "./format.js";
import { baseline, selectionOf, titleOf } from "./selection.js";
import { address, empty, field, grid, link } from "./widgets.js";

const MOST_ROWS = 200;

export async function profile(query, former) {
  const selection = selectionOf(query);
  const key = JSON.stringify(selection);
  const [data, overview] = await Promise.all([ask("profile", selection), ask("overview")]);
  const kinds = [...new Set(overview.services.flatMap((one) => (selection.service === undefined || one.name === selection.service ? one.kinds.map(({ kind }) => kind) : [])))];
  // The same profile again, with what has come in since: whatever was set stays.
  const state = former?.key === key ? former.state : { lines: false, upward: false, term: "", symbol: null, by: "self", down: true, zoomed: false };
  state.zoomed = false;
  const title = titleOf(selection);
  if (data.total === 0) {
    return { title, parts: [links(selection, kinds), empty("No samples here. A span may be too short for one: the sampler looks a hundred times in a second of CPU time.")] };
  }
  const view = draw(data, state, title);
  return {
    key,
    state,
    title,
    parts: [links(selection, kinds), summary(data), view.element],
    shown: view.shown,
    busy: () => state.zoomed || view.isAtWork(),
  };
}

function summary(data) {
  const functions = new Set(data.frames.map(([name, file]) => `${name}\u0000${file}`)).size;
  return h("p", { class: "summary" }, h("b", { id: "total", "data-total": data.total }, amount(data.total, data.unit)), ` in ${many(functions, "function")}`);
}

function links(selection, kinds) {
  const own = selection.kind ?? "cpu";
  const { kind: _, ...rest } = selection;
  const other = baseline.get();
  return h(
    "nav",
    { class: "actions", "aria-label": "of this profile" },
    selection.service !== undefined && link(address("service", { service: selection.service }), `routes of ${serviceName(selection.service)}`),
    selection.route !== undefined && link(address("traces", { service: selection.service, name: selection.route }), "traces"),
    selection.trace && link(address("trace", { id: selection.trace }), "waterfall"),
    kinds.filter((kind) => kind !== own).map((kind) => link(address("profile", kind === "cpu" ? rest : { ...rest, kind }), KINDS[kind] ?? kind)),
    h("button", {
      type: "button",
      "data-key": "baseline",
      onclick: (event) => {
        baseline.set(selection);
        event.target.textContent = "Chosen: now open the other one";
      },
    }, "Compare with another…"),
    other && JSON.stringify(other) !== JSON.stringify(selection) &&
      link(address("difference", { a: JSON.stringify(other), b: JSON.stringify(selection) }), `difference to ${titleOf(other)}`, { class: "strong" }),
  );
}

function draw(data, state, title) {
  const graphs = h("div", { class: "graphs" });
  const list = h("div", { class: "list" });
  const found = h("output", { class: "found" });
  let drawn = [];
  let selected = null;

  const describe = (node) => {
    const lines = [...node.lines].sort((a, b) => b[1] - a[1]);
    const where = node.symbol ? ` · ${node.file}${lines.length ? `:${lines.slice(0, 3).map(([line]) => line).join(", ")}` : ""}` : "";
    return `${node.name} · ${amount(node.value, data.unit)} (${percent(node.value / data.total)}), itself ${amount(node.self, data.unit)}${where}`;
  };
  const focus = h("button", { type: "button", "data-key": "focus", onclick: () => show(selected) }, "Callers and callees");
  const graph = (root, label, upward) =>
    flame({
      root,
      label,
      upward,
      describe,
      colour: colourOf,
      onSelect: (node) => {
        selected = node?.symbol || null;
        focus.disabled = !selected;
      },
      onZoom: () => {
        state.zoomed = true;
      },
    });

  const drawGraphs = () => {
    focus.disabled = true;
    if (state.symbol) {
      const { callers, callees } = sandwich(data, state.symbol, state.lines);
      if (callees.symbol) {
        drawn = [graph(callers, `Callers of ${callees.name}`, true), graph(callees, `What ${callees.name} calls`, false)];
        replace(graphs, h("h2", {}, "callers of ", h("code", {}, callees.name), ": ", amount(callees.value, data.unit)), drawn[0].element, h("h2", {}, "callees"), drawn[1].element);
      } else state.symbol = null;
    }
    if (!state.symbol) {
      drawn = [graph(tree(data, state.lines), `Flame graph of ${title}`, state.upward)];
      replace(graphs, drawn[0].element);
    }
    selected = null;
    back.hidden = !state.symbol;
    if (graphs.isConnected) shown();
  };
  const drawList = () => {
    const rows = table(data, state.lines);
    const term = state.term.toLowerCase();
    const shownRows = rows.filter((row) => `${row.name} ${row.file}`.toLowerCase().includes(term));
    const order = { name: (a, b) => (a.name < b.name ? -1 : 1), self: (a, b) => a.self - b.self, total: (a, b) => a.total - b.total }[state.by];
    shownRows.sort((a, b) => (state.down ? order(b, a) : order(a, b)));
    const sort = {
      by: state.by,
      down: state.down,
      change: (by) => {
        state.down = state.by === by ? !state.down : by !== "name";
        state.by = by;
        drawList();
      },
    };
    const marked = (row) => (row.symbol === state.symbol ? "true" : null);
    const cells = shownRows.slice(0, MOST_ROWS).map((row) => [
      h("button", { type: "button", class: "symbol", "aria-current": marked(row), "data-key": `symbol ${row.symbol}`, title: `${row.function} in ${row.file}: callers and callees`, onclick: () => show(row.symbol) }, row.name, h("small", {}, ` ${fileName(row.file)}${row.line ? `:${row.line}` : ""}`)),
      h("span", { title: percent(row.self / data.total) }, amount(row.self, data.unit)),
      h("span", { title: percent(row.total / data.total) }, amount(row.total, data.unit)),
    ]);
    replace(
      list,
      grid("functions", [["function", null, "name"], ["self", "number", "self"], ["total", "number", "total"]], cells, sort),
      shownRows.length > MOST_ROWS && h("p", { class: "note" }, `the first ${MOST_ROWS} of ${shownRows.length}; search for others`),
    );
  };
  const show = (symbol) => {
    state.symbol = symbol;
    state.zoomed = false;
    drawGraphs();
    drawList();
    graphs.scrollIntoView({ block: "nearest" });
  };
  const search = () => {
    const sum = drawn.map((one) => one.search(state.term))[state.symbol ? 1 : 0] ?? 0;
    found.textContent = state.term ? `${amount(sum, data.unit)}, ${percent(sum / data.total)}` : "";
  };
  const shown = () => {
    drawn.forEach((one) => one.draw());
    if (state.term) search();
  };

  const box = (name, label) => {
    const input = h("input", {
      type: "checkbox",
      checked: state[name],
      "data-key": name,
      onchange: () => {
        state[name] = input.checked;
        if (name === "lines") state.symbol = null;
        drawGraphs();
        drawList();
      },
    });
    return h("label", {}, input, ` ${label}`);
  };
  const back = h("button", { type: "button", "data-key": "back", onclick: () => show(null) }, "Whole flame graph");
  const tools = h(
    "div",
    { class: "tools" },
    field("search", h("input", {
      type: "search",
      value: state.term,
      "data-key": "search",
      oninput: (event) => {
        state.term = event.target.value;
        search();
        drawList();
      },
    })),
    found,
    box("lines", "by line"),
    box("upward", "root at the bottom"),
    focus,
    h("button", { type: "button", "data-key": "reset", onclick: () => {
      drawn.forEach((one) => one.reset());
      state.zoomed = false;
    } }, "Show all"),
    back,
  );
  drawGraphs();
  drawList();
  // The graph comes first for the keyboard: the table may have 200 buttons. Where it is seen is the style's.
  return { element: h("div", { class: "profile" }, tools, graphs, list), shown, isAtWork: () => selected !== null };
}
