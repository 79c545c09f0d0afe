// All services, and one service with its routes.
import { ask, isKept } from "./api.js";
import { h } from "./dom.js";
import { KINDS, clock, many, number, percent, routeName, serviceName, time } from "./format.js";
import { noTraces } from "./view_traces.js";
import { address, bar, columns, empty, grid, link } from "./widgets.js";

export async function services(query) {
  const overview = await ask("overview");
  if (overview.services.length === 0) return { title: "Nothing has come yet", parts: [nothing()] };
  // With one service there is nothing to choose.
  if (overview.services.length === 1) return service({ ...query, service: overview.services[0].name });
  const whole = overview.services.reduce((sum, one) => sum + one.cpu_ns, 0) || 1;
  const rows = overview.services.map((one) => [
    link(address("service", { service: one.name }), serviceName(one.name)),
    time(one.cpu_ns),
    h("span", { class: "share" }, bar(one.cpu_ns / whole), percent(one.cpu_ns / whole)),
    number(one.samples),
    number(one.traces),
    number(one.spans),
    h("span", { class: "pair" }, link(address("profile", { service: one.name }), "flame graph", { "aria-label": `flame graph of ${one.name}` }), link(address("traces", { service: one.name }), "traces", { "aria-label": `traces of ${one.name}` })),
  ]);
  const titles = [["service", "wide"], ["CPU", "number"], ["share"], ["samples", "number"], ["traces", "number"], ["spans", "number"], ["", "links"]];
  return { title: "Services", parts: [grid("services", titles, rows), gone(overview)] };
}

function gone(overview) {
  return overview.dropped > 0 && h("p", { class: "note" }, "The oldest data has gone, to stay within the bounds of age and size.");
}

function nothing() {
  if (isKept) return empty("When this file was made, nothing had come.");
  const here = location.origin;
  return h(
    "div",
    { class: "empty" },
    h("p", {}, "Profiles come a few seconds after an application has begun to work. Start one here:"),
    h("pre", {}, "otel-profiling run -- python app.py"),
    h("p", {}, "or let one that is started elsewhere send to this address:"),
    h("pre", {}, `export OTEL_SERVICE_NAME=my-service\nexport OTEL_PROFILING_SERVER_ADDRESS=${here}\nexport OTEL_EXPORTER_OTLP_ENDPOINT=${here}\nexport OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nopentelemetry-instrument python app.py`),
    h("p", {}, "This page shows it as soon as it is there."),
  );
}

export async function service({ service: name }) {
  const [overview, found] = await Promise.all([ask("overview"), ask("routes", { service: name })]);
  const own = overview.services.find((one) => one.name === name);
  if (!own) return { title: serviceName(name), parts: [empty("Nothing of this service is kept.")] };
  const rows = found.routes.map((route) => {
    const selection = route.route === null ? { service: name, outside: "1" } : { service: name, route: route.route };
    return [
      link(address("profile", selection), routeName(route.route), { class: route.route === null ? "outside" : null }),
      time(route.cpu_ns),
      h("span", { class: "share" }, bar(route.share), percent(route.share)),
      route.route === null ? "" : number(route.spans),
      time(route.cpu_per_span_ns),
      route.over_time.length ? columns(route.over_time, `CPU over time of ${routeName(route.route)}`) : "",
      h("ol", { class: "hot" }, route.hottest.map((hot) => h("li", {}, h("b", {}, percent(route.cpu_ns ? hot.cpu_ns / route.cpu_ns : 0)), ` ${hot.function} `, h("small", {}, hot.file)))),
      route.route === null ? "" : link(address("traces", { service: name, name: route.route }), "traces", { "aria-label": `traces of ${route.route}` }),
    ];
  });
  const titles = [["route", "wide"], ["CPU", "number"], ["share"], ["spans", "number"], ["CPU/span", "number"], ["over time"], ["hottest functions", "wide"], ["", "links"]];
  const most = Math.max(...found.total_over_time, 0);
  return {
    title: serviceName(name),
    parts: [
      h("p", { class: "summary" }, h("b", {}, time(found.cpu_ns)), ` of CPU time in ${many(own.samples, "sample")}, ${many(own.spans, "span")} in ${many(own.traces, "trace")}`),
      h("nav", { class: "actions", "aria-label": "of this service" }, own.kinds.map(({ kind }) => link(address("profile", kind === "cpu" ? { service: name } : { service: name, kind }), kind === "cpu" ? "flame graph" : `flame graph of ${KINDS[kind] ?? kind}`)), link(address("traces", { service: name }), "traces"), overview.services.length > 1 && link(address(""), "all services")),
      found.total_over_time.length > 0 &&
        h("figure", {}, columns(found.total_over_time, "CPU over time", "large"), h("figcaption", {}, h("span", {}, clock(found.start_ns)), h("span", {}, `CPU over time, at most ${most.toFixed(2)} cores`), h("span", {}, clock(found.end_ns)))),
      own.traces === 0 && noTraces(),
      grid("routes", titles, rows),
      found.more > 0 && h("p", { class: "note" }, `and ${many(found.more, "route")} with less CPU time`),
      gone(overview),
    ],
  };
}
