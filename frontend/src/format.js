// How numbers and times look.

/** A duration in the unit that keeps it short. */
export function time(ns) {
  if (ns === null || ns === undefined) return "";
  const size = Math.abs(ns);
  if (size === 0) return "0";
  if (size < 1e6) return `${(ns / 1e3).toFixed(size < 1e4 ? 1 : 0)} µs`;
  if (size < 1e9) return `${(ns / 1e6).toFixed(size < 1e8 ? 1 : 0)} ms`;
  if (size < 120e9) return `${(ns / 1e9).toFixed(2)} s`;
  return `${Math.floor(ns / 60e9)} min ${Math.round((ns % 60e9) / 1e9)} s`;
}

/** A value of a profile in its unit. */
export function amount(value, unit) {
  if (unit === "nanoseconds") return time(value);
  if (unit === "bytes") return value < 1 << 20 ? `${(value / 1024).toFixed(1)} KiB` : `${(value / (1 << 20)).toFixed(1)} MiB`;
  return many(value, unit);
}

export const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
export const number = (value) => value.toLocaleString("en");
export const many = (value, noun) => `${number(value)} ${value === 1 ? noun : `${noun}s`}`;
export const clock = (ns) => new Date(ns / 1e6).toLocaleTimeString("en-GB");
export const serviceName = (name) => name || "(no service name)";
export const routeName = (name) => name ?? "outside any span";
export const KINDS = { cpu: "CPU time", wall: "wall-clock time" };
