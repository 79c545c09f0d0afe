// Parts that several views are made of.
import { h, svg } from "./dom.js";

/** A table; `columns` are [title, "number" or null, sort key or null], `rows` arrays of cells. */
export function grid(label, columns, rows, sort) {
  const head = columns.map(([title, kind, key]) => {
    const sorted = sort && key && sort.by === key;
    const content = key && sort
      ? h("button", { type: "button", class: "sort", "data-key": `sort ${label} ${key}`, onclick: () => sort.change(key) }, title, sorted ? (sort.down ? " ▾" : " ▴") : "")
      : title;
    return h("th", { scope: "col", class: kind, "aria-sort": sorted ? (sort.down ? "descending" : "ascending") : null }, content);
  });
  const body = rows.map((cells) => h("tr", {}, cells.map((cell, index) => h("td", { class: columns[index][1], "data-title": columns[index][0] }, cell))));
  return h("div", { class: "scroll" }, h("table", { "aria-label": label }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

/** A link to a view. */
export const link = (address, text, properties) => h("a", { href: address, "data-key": address, ...properties }, text);

/** A bar that is `share` of its room long. */
export function bar(share, kind = "") {
  return svg(
    "svg",
    { class: `bar ${kind}`, viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "ground", x: 0, y: 0, width: 100, height: 10 }),
    svg("rect", { class: "share", x: 0, y: 0, width: Math.max(Math.min(share, 1) * 100, share > 0 ? 1 : 0), height: 10 }),
  );
}

/** Values over time, as columns. */
export function columns(values, label, kind = "small") {
  const most = Math.max(...values, 1e-12);
  const width = 100 / (values.length || 1);
  const shapes = values.map((value, index) => {
    const height = (value / most) * 30;
    return svg("rect", { x: index * width, y: 30 - height, width: kind === "small" ? width : width * 0.86, height });
  });
  return svg("svg", { class: `columns ${kind}`, viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": label }, shapes);
}

/** The address of a view. */
export const address = (view, query = {}) => `#/${view}${Object.keys(query).length ? `?${new URLSearchParams(query)}` : ""}`;

export function field(label, input) {
  return h("label", { class: "field" }, h("span", {}, label), input);
}

export const empty = (...lines) => h("div", { class: "empty" }, lines.map((line) => h("p", {}, line)));
