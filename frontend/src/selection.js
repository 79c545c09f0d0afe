// What a profile is of: the words for it, and the baseline that another one may be compared with.
import { KINDS, routeName, serviceName } from "./format.js";

/** Only those parts of a query that select samples. */
export function selectionOf(query) {
  const names = ["service", "route", "outside", "trace", "span", "kind"];
  return Object.fromEntries(names.filter((name) => query[name] !== undefined).map((name) => [name, query[name]]));
}

export function titleOf(selection) {
  const kind = selection.kind && selection.kind !== "cpu" ? `, ${KINDS[selection.kind] ?? selection.kind}` : "";
  if (selection.span) return `Span ${selection.span}${kind}`;
  if (selection.trace) return `Trace ${selection.trace.slice(0, 8)}${kind}`;
  if (selection.outside) return `${routeName(null)}, ${serviceName(selection.service)}${kind}`;
  if (selection.route !== undefined) return `${selection.route}${kind}`;
  return `${serviceName(selection.service ?? "all services")}${kind}`;
}

/** The titles of two selections, with their services where they could be taken for each other. */
export function titlesOf(...both) {
  const titles = both.map(titleOf);
  const same = both[0].service === both[1].service;
  return same ? titles : titles.map((title, index) => (both[index].route === undefined ? title : `${title} of ${serviceName(both[index].service)}`));
}

let chosen = null;
export const baseline = {
  get: () => chosen,
  set: (selection) => {
    chosen = selection;
  },
};
