// The list of traces, and one trace as a waterfall.
import { ask, isKept } from "./api.js";
import { h, later, svg } from "./dom.js";
import { clock, many, number, percent, serviceName, time } from "./format.js";
import { address, empty, field, grid, link } from "./widgets.js";

export async function traces(query) {
  const { service, name = "", id = "", least = "" } = query;
  const asked = { ...(service === undefined ? {} : { service }) };
  if (name) asked.name = name;
  if (id) asked.id = id;
  if (Number(least) > 0) asked.least_cpu_ns = String(Math.round(Number(least) * 1e6));
  const found = await ask("traces", asked);
  const changed = {};
  const apply = later(() => {
    const next = Object.fromEntries(Object.entries({ ...query, ...changed }).filter(([key, value]) => value || key === "service"));
    history.replaceState(null, "", address("traces", next));
    window.dispatchEvent(new Event("refine"));
  }, 250);
  const change = (key, value) => {
    changed[key] = value;
    apply();
  };
  const input = (key, value, properties) => h("input", { type: "search", value, "data-key": `filter ${key}`, oninput: (event) => change(key, event.target.value), ...properties });
  const longest = Math.max(...found.traces.map((trace) => trace.duration_ns), 1);
  const rows = found.traces.map((trace) => [
    h("time", {}, clock(trace.start_ns)),
    link(address("trace", { id: trace.trace_id }), trace.name || "(no name)", { class: trace.failed ? "failed" : null }),
    trace.services.map(serviceName).join(", "),
    time(trace.duration_ns),
    time(trace.cpu_ns),
    time(trace.wait_ns),
    split(trace, longest),
    number(trace.spans),
    h("code", {}, trace.trace_id.slice(0, 8)),
  ]);
  const titles = [["began"], ["trace", "wide"], ["services"], ["duration", "number"], ["CPU", "number"], ["wait", "number"], ["CPU and wait"], ["spans", "number"], ["id"]];
  return {
    title: service === undefined ? "Traces" : `Traces of ${serviceName(service)}`,
    parts: [
      service !== undefined && h("nav", { class: "actions" }, link(address("service", { service }), `routes of ${serviceName(service)}`)),
      h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
        field("name of a span", input("name", name)),
        field("least CPU in ms", input("least", least, { inputmode: "decimal", size: 6 })),
        field("trace id", input("id", id)),
      ),
      found.traces.length
        ? grid("traces", titles, rows)
        : name || id || asked.least_cpu_ns
          ? empty("No trace is like this.")
          : noTraces(),
      found.found > found.traces.length && h("p", { class: "note" }, `the newest ${number(found.traces.length)} of ${number(found.found)}`),
    ],
  };
}

/** What to do where profiles come and traces don't. */
export function noTraces() {
  if (isKept) return h("p", { class: "note" }, "When this file was made, no traces had come.");
  return h("p", { class: "note" }, "No traces have come. They come over HTTP: the application needs ", h("code", {}, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"), " and this receiver's address, with http:// and the port, in ", h("code", {}, "OTEL_EXPORTER_OTLP_ENDPOINT"), ".");
}

/** A trace's CPU time and the time in which it waited, by length. */
function split(trace, longest) {
  const width = (100 * trace.duration_ns) / longest;
  const cpu = Math.min(trace.cpu_ns / (trace.duration_ns || 1), 1) * width;
  return svg("svg", { class: "bar split", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "wait", x: 0, y: 2, width: Math.max(width, 0.6), height: 6 }),
    svg("rect", { class: "share", x: 0, y: 2, width: cpu, height: 6 }));
}

export async function trace({ id = "" }) {
  const found = await ask("trace", { id });
  const whole = found.duration_ns || 1;
  const rows = found.spans.map((span) => {
    const share = span.cpu_ns === null ? null : span.cpu_ns / (span.duration_ns || 1);
    return h(
      "li",
      { class: span.failed ? "failed" : null, style: { "--depth": Math.min(span.depth, 24) } },
      h("span", { class: "name" }, span.profile_id && span.cpu_ns
        ? link(address("profile", { trace: id, span: span.profile_id }), span.name || "(no name)")
        : h("span", {}, span.name || "(no name)"), h("small", {}, serviceName(span.service))),
      svg("svg", { class: "bar waterfall", viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { class: "wait", x: (1000 * span.offset_ns) / whole, y: 1, width: Math.max((1000 * span.duration_ns) / whole, 3), height: 8 }),
        share > 0 && svg("rect", { class: "share", x: (1000 * span.offset_ns) / whole, y: 1, width: Math.max((1000 * span.duration_ns * Math.min(share, 1)) / whole, 3), height: 8 })),
      h("span", { class: "number" }, time(span.duration_ns)),
      h("span", { class: "number" }, share === null ? h("small", { title: "counts for the span above that owns a profile" }, "in its root") : `${time(span.cpu_ns)}, ${percent(share)}`),
    );
  });
  return {
    title: `Trace ${found.spans[0].name}`,
    parts: [
      h("p", { class: "summary" }, h("code", {}, id), ` at ${clock(found.start_ns)}: `, h("b", {}, time(found.duration_ns)), `, of that CPU `, h("b", {}, time(found.cpu_ns)), ` and wait `, h("b", {}, time(found.wait_ns)), `; ${many(found.spans.length + found.more, "span")}`),
      h("nav", { class: "actions" }, found.cpu_ns > 0 && link(address("profile", { trace: id }), "flame graph of the trace"), link(address("traces", { service: found.spans[0].service }), "traces of this service")),
      h("p", { class: "legend" }, h("span", { class: "cpu" }, "CPU, its share of the span's length"), h("span", { class: "wait" }, "wait")),
      h("div", { class: "waterfall head", "aria-hidden": "true" }, h("span", {}, "span"), h("span", {}), h("span", { class: "number" }, "duration"), h("span", { class: "number" }, "CPU")),
      h("ol", { class: "waterfall", "aria-label": "spans: name, duration, CPU time and its share" }, rows),
      found.more > 0 && h("p", { class: "note" }, `and ${many(found.more, "span")} more`),
    ],
  };
}
