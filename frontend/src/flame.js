// A flame graph that can be used by mouse and by keyboard. Drawing and zooming are d3-flame-graph's: it is light (the whole page has
// 145 kB, licences included), is kept up, and needs no framework; what is asked of it besides (keys, sums, colours) is here.
import flamegraph from "d3-flame-graph";
import { select } from "d3-selection";
import { h } from "./dom.js";

const ROW = 18;

/**
 * Return a flame graph.
 *
 * options: root (a tree of calls), describe(node) (one line of text), colour(node), label (for screen readers), upward (callers grow
 * up), height (most pixels), onSelect(node), onZoom().
 */
export function flame(options) {
  const details = h("p", { class: "details", "aria-live": "polite" }, "");
  const area = h("div", {
    class: "graph",
    tabindex: "0",
    role: "application",
    "data-key": `graph ${options.label}`,
    "aria-label": `${options.label}. Arrow keys move, Enter zooms, Escape shows all.`,
  });
  const holder = h("div", { class: "flame" }, area, details);
  let chart = null;
  let current = null;
  let width = 0;

  const tell = (node) => {
    details.textContent = node ? options.describe(node.data) : "";
  };
  const show = (node) => {
    current = node;
    tell(node);
    for (const frame of area.querySelectorAll("g.frame")) frame.classList.toggle("current", frame.__data__ === node);
    area.querySelector("g.current")?.scrollIntoView({ block: "nearest" });
    options.onSelect?.(node ? node.data : null);
  };

  // The library lets new frames grow for a quarter of a second, whatever duration it is told. Nobody waits for that here.
  const settle = () => {
    const root = select(area).datum();
    const scale = width / (root.x1 - root.x0);
    const frames = select(area).selectAll("g.frame");
    frames.select("rect").interrupt().attr("width", (node) => (node.x1 - node.x0) * scale);
    frames.select("foreignObject div").interrupt().text((node) => node.data.name);
  };

  const draw = () => {
    if (!area.isConnected || area.clientWidth === 0) return;
    width = area.clientWidth;
    area.replaceChildren();
    chart = flamegraph()
      .width(width)
      .cellHeight(ROW)
      .minFrameSize(width < 600 ? 1 : 0.5)
      .transitionDuration(0)
      .inverted(!options.upward)
      .setLabelHandler((node) => options.describe(node.data))
      .setDetailsHandler(() => {})
      .setSearchMatch((node, term) => Boolean(term) && `${node.data.name} ${node.data.file}`.toLowerCase().includes(term.toLowerCase()))
      .setSearchHandler(() => {})
      .setColorMapper((node) => (node.highlight ? "var(--found)" : options.colour(node.data)))
      .onClick((node) => {
        settle();
        show(node);
        options.onZoom?.();
      });
    select(area).datum(options.root).call(chart);
    settle();
    current = null;
  };

  // What is under the mouse is told at once; a browser's own tooltip takes a second.
  area.addEventListener("mouseover", (event) => tell(event.target.closest?.("g.frame")?.__data__ ?? current));
  area.addEventListener("mouseleave", () => tell(current));
  area.addEventListener("keydown", (event) => {
    const root = select(area).datum();
    if (!root) return;
    const node = current ?? root;
    const inward = options.upward ? "ArrowUp" : "ArrowDown";
    const outward = options.upward ? "ArrowDown" : "ArrowUp";
    // Only what is drawn can be gone to.
    const shown = (one) => one && one.value > 0 && one.x1 > one.x0;
    const beside = (by) => {
      const all = (node.parent?.children ?? []).filter(shown);
      return all[all.indexOf(node) + by];
    };
    const keys = {
      [inward]: () => (current ? node.children?.filter(shown)[0] : root),
      [outward]: () => node.parent,
      ArrowRight: () => beside(1),
      ArrowLeft: () => beside(-1),
      Home: () => root,
    };
    if (event.key in keys) {
      const next = keys[event.key]();
      if (next) show(next);
    } else if (event.key === "Enter" && current) {
      chart.zoomTo(current);
      show(current);
    } else if (event.key === "Escape") {
      chart.resetZoom();
      settle();
      show(null);
    } else return;
    event.preventDefault();
  });
  new ResizeObserver(() => {
    if (area.clientWidth !== width) draw();
  }).observe(area);

  return {
    element: holder,
    draw,
    reset() {
      chart?.resetZoom();
      show(null);
      if (chart) settle();
    },
    /** Colour what has `term` in its name or file; returns the sum of the outermost of them. */
    search(term) {
      if (!chart) return 0;
      if (term) chart.search(term);
      else chart.clear();
      settle();
      return term ? sumOf(options.root, term.toLowerCase()) : 0;
    },
  };
}

function sumOf(root, term) {
  let sum = 0;
  const waiting = [root];
  while (waiting.length) {
    const node = waiting.pop();
    if (`${node.name} ${node.file}`.toLowerCase().includes(term)) sum += node.value;
    else waiting.push(...node.children);
  }
  return sum;
}

/** A colour by the file that a function stands in, the same each time. */
export function colourOf(node) {
  if (!node.symbol) return "var(--frame-root)";
  let hash = 0;
  for (const letter of node.file) hash = (hash * 31 + letter.codePointAt(0)) % 3600;
  return `hsl(${hash / 10} 62% 74%)`;
}

/** Red for what has become more, blue for what has become less, the stronger the more; nearly the same is nearly grey. */
export function colourOfChange(node) {
  const most = Math.max(node.before, node.after);
  const change = most ? (node.after - node.before) / most : 0;
  // Chance alone changes a share by some percent.
  if (Math.abs(change) < 0.02) return "var(--frame-root)";
  const strength = Math.round(100 * Math.min(0.15 + 0.85 * Math.abs(change), 1));
  return `color-mix(in srgb, var(${change >= 0 ? "--more" : "--less"}) ${strength}%, var(--frame-root))`;
}
