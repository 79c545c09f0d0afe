// Where the data comes from: the server that gave the page, or, in a page that was kept, the page itself.

const element = document.getElementById("kept");
const kept = element ? JSON.parse(element.textContent) : null;

export const isKept = kept !== null;

/** By what an answer is found in a page that was kept. */
function keyOf(view, query) {
  return JSON.stringify([view, ...Object.entries(query).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))]);
}

/** Return the data of a view; throws an Error whose message says what is wrong. */
export async function ask(view, query = {}) {
  if (kept) {
    const answer = view === "traces" ? keptTraces(query) : kept[keyOf(view, query)];
    if (!answer) throw new Error("This was not kept in the file.");
    return answer;
  }
  let response;
  try {
    response = await fetch(`api/${view}?${new URLSearchParams(query)}`);
  } catch {
    throw new Error("The server does not answer. Is otel-profiling still running?");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function keptTraces(query) {
  const all = kept[keyOf("traces", { service: query.service })] ?? { found: 0, traces: [] };
  const name = (query.name ?? "").toLowerCase();
  const spans = (trace) => kept[keyOf("trace", { id: trace.trace_id })]?.spans ?? [];
  const found = all.traces.filter(
    (trace) =>
      trace.trace_id.startsWith((query.id ?? "").toLowerCase()) &&
      trace.cpu_ns >= Number(query.least_cpu_ns ?? 0) &&
      (!name || spans(trace).some((span) => span.name.toLowerCase().includes(name))),
  );
  return { found: found.length, traces: found };
}

/** Call `news` whenever something has come in since; returns nothing, goes on for ever. */
export function follow(news) {
  if (kept) return;
  let known = null;
  const look = async () => {
    try {
      const { generation } = await ask("state");
      if (generation !== known) {
        const first = known === null;
        known = generation;
        if (!first) await news(null);
      }
    } catch (error) {
      known = known === null ? null : -1;
      await news(error);
    }
    setTimeout(look, document.hidden ? 10_000 : 2_000);
  };
  look();
}
