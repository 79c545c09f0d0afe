// Two profiles as one flame graph: red where the second spends more of its time, blue where it spends less.
import { ask } from "./api.js";
import { difference as merged, differenceTable, fileName } from "./calls.js";
import { h } from "./dom.js";
import { colourOfChange, flame } from "./flame.js";
import { amount, percent } from "./format.js";
import { selectionOf, titlesOf } from "./selection.js";
import { address, empty, grid, link } from "./widgets.js";

const MOST_ROWS = 100;

/** A selection as an address has it, which somebody may have cut short. */
function parsed(text) {
  try {
    return selectionOf(JSON.parse(text));
  } catch {
    throw new Error("This address names no two profiles.");
  }
}

export async function difference({ a, b }) {
  const [before, after] = [a, b].map(parsed);
  const [first, second] = await Promise.all([ask("profile", before), ask("profile", after)]);
  const [one, other] = titlesOf(before, after);
  const title = `Difference: ${one} and ${other}`;
  const nav = h("nav", { class: "actions" }, link(address("profile", before), one), link(address("profile", after), other), link(address("difference", { a: b, b: a }), "the other way round"));
  if (!first.total || !second.total) return { title, parts: [nav, empty("One of the two has no samples.")] };
  let zoomed = false;
  let selected = false;
  const change = (value) => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${percent(Math.abs(value))}`;
  const graph = flame({
    root: merged(first, second, false),
    label: title,
    upward: false,
    colour: colourOfChange,
    describe: (node) =>
      `${node.name} · ${percent(node.before)} (${amount(node.beforeValue, first.unit)}) and ${percent(node.after)} (${amount(node.afterValue, second.unit)}): ${change(node.after - node.before)}`,
    onSelect: (node) => {
      selected = node !== null;
    },
    onZoom: () => {
      zoomed = true;
    },
  });
  const rows = differenceTable(first, second, false)
    .sort((x, y) => Math.abs(y.change) - Math.abs(x.change))
    .slice(0, MOST_ROWS)
    .map((row) => [h("span", { class: "symbol" }, row.name, h("small", {}, ` ${fileName(row.file)}`)), percent(row.before), percent(row.after), h("span", { class: row.change > 0 ? "more" : row.change < 0 ? "less" : null }, change(row.change))]);
  return {
    title,
    parts: [
      nav,
      h("p", { class: "summary" }, one, " ", h("b", {}, amount(first.total, first.unit)), "; ", other, " ", h("b", {}, amount(second.total, second.unit)), ". Shares of each are compared."),
      h("p", { class: "legend" }, h("span", { class: "more" }, "more in the second"), h("span", { class: "less" }, "less in the second")),
      h("div", { class: "profile" }, h("div", { class: "graphs" }, graph.element), h("div", { class: "list" }, grid("functions: share in itself", [["function"], ["first", "number"], ["second", "number"], ["change", "number"]], rows))),
    ],
    shown: graph.draw,
    busy: () => zoomed || selected,
  };
}
