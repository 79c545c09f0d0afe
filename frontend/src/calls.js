// Turns a profile, as the server adds it up, into trees of calls and a table of functions. Values are whole numbers and stay exact.

/** The name of a function and where it stands; `lines` tells its lines apart. */
function symbolOf([name, file, line], lines) {
  return lines ? `${name}\u0000${file}\u0000${line}` : `${name}\u0000${file}`;
}

function nodeOf([name, file, line], symbol, lines) {
  return { name: lines ? `${name}:${line}` : name, symbol, function: name, file, line, value: 0, self: 0, lines: new Map(), children: [], below: new Map() };
}

function emptyRoot(name) {
  return { name, symbol: "", function: name, file: "", line: 0, value: 0, self: 0, lines: new Map(), children: [], below: new Map() };
}

function step(node, frame, lines) {
  const symbol = symbolOf(frame, lines);
  let child = node.below.get(symbol);
  if (!child) {
    child = nodeOf(frame, symbol, lines);
    node.below.set(symbol, child);
    node.children.push(child);
  }
  return child;
}

const addLine = (node, line, value) => node.lines.set(line, (node.lines.get(line) ?? 0) + value);

/** Return the tree of all calls, from the outermost. */
export function tree(profile, lines) {
  const root = emptyRoot("all");
  root.value = profile.total;
  root.self = profile.self[0] ?? 0;
  const totals = inclusive(profile);
  const places = [root];
  for (let node = 1; node < profile.parents.length; node++) {
    const frame = profile.frames[profile.frame_of[node]];
    const place = step(places[profile.parents[node]], frame, lines);
    places.push(place);
    place.value += totals[node];
    place.self += profile.self[node];
    addLine(place, frame[2], totals[node]);
  }
  return sorted(root);
}

function inclusive(profile) {
  const totals = profile.self.slice();
  for (let node = totals.length - 1; node > 0; node--) totals[profile.parents[node]] += totals[node];
  return totals;
}

function sorted(root) {
  const waiting = [root];
  while (waiting.length) {
    const node = waiting.pop();
    node.children.sort((a, b) => b.value - a.value || (a.symbol < b.symbol ? -1 : 1));
    waiting.push(...node.children);
  }
  return root;
}

/** Return each function once, with the time in itself and the time until it returned (recursion counts once). */
export function table(profile, lines) {
  const totals = inclusive(profile);
  const rows = new Map();
  const symbols = profile.frames.map((frame) => symbolOf(frame, lines));
  const isBelowItself = (node) => {
    const symbol = symbols[profile.frame_of[node]];
    for (let up = profile.parents[node]; up > 0; up = profile.parents[up]) if (symbols[profile.frame_of[up]] === symbol) return true;
    return false;
  };
  for (let node = 1; node < profile.parents.length; node++) {
    const frame = profile.frames[profile.frame_of[node]];
    const symbol = symbols[profile.frame_of[node]];
    let row = rows.get(symbol);
    if (!row) {
      row = { symbol, name: lines ? `${frame[0]}:${frame[2]}` : frame[0], function: frame[0], file: frame[1], line: frame[2], self: 0, total: 0 };
      rows.set(symbol, row);
    }
    row.line = Math.min(row.line, frame[2]);
    row.self += profile.self[node];
    if (!isBelowItself(node)) row.total += totals[node];
  }
  return [...rows.values()];
}

/** Return what the function calls, and by whom it is called (a tree that begins with it), each with the time of its calls. */
export function sandwich(profile, symbol, lines) {
  const symbols = profile.frames.map((frame) => symbolOf(frame, lines));
  const name = (node) => symbols[profile.frame_of[node]];
  const totals = inclusive(profile);
  const callees = emptyRoot("");
  const callers = emptyRoot("");
  const places = new Array(profile.parents.length).fill(null);
  for (let node = 1; node < profile.parents.length; node++) {
    const frame = profile.frames[profile.frame_of[node]];
    const above = places[profile.parents[node]];
    if (above) {
      const place = step(above, frame, lines);
      places[node] = place;
      place.value += totals[node];
      place.self += profile.self[node];
      addLine(place, frame[2], totals[node]);
    } else if (name(node) === symbol) {
      places[node] = callees;
      for (const root of [callees, callers]) {
        if (!root.symbol) Object.assign(root, nodeOf(frame, symbol, lines), { children: root.children, below: root.below });
        root.value += totals[node];
      }
      callees.self += profile.self[node];
      addLine(callees, frame[2], totals[node]);
      let place = callers;
      for (let up = profile.parents[node]; up > 0; up = profile.parents[up]) {
        const caller = profile.frames[profile.frame_of[up]];
        place = step(place, caller, lines);
        place.value += totals[node];
        addLine(place, caller[2], totals[node]);
      }
    }
  }
  return { callees: sorted(callees), callers: sorted(callers) };
}

/**
 * Return one tree of two profiles: each node has its share of each, `before` and `after`. Its width is the two shares together,
 * so that what has gone and what is new are both there.
 */
export function difference(first, second, lines) {
  const root = emptyRoot("all");
  root.before = root.after = 1;
  const add = (profile, side) => {
    const totals = inclusive(profile);
    const whole = profile.total || 1;
    const places = [root];
    for (let node = 1; node < profile.parents.length; node++) {
      const place = step(places[profile.parents[node]], profile.frames[profile.frame_of[node]], lines);
      places.push(place);
      place[side] = (place[side] ?? 0) + totals[node] / whole;
      place[`${side}Value`] = (place[`${side}Value`] ?? 0) + totals[node];
    }
  };
  add(first, "before");
  add(second, "after");
  root.beforeValue = first.total;
  root.afterValue = second.total;
  const waiting = [root];
  while (waiting.length) {
    const node = waiting.pop();
    node.before ??= 0;
    node.after ??= 0;
    node.beforeValue ??= 0;
    node.afterValue ??= 0;
    // Whole numbers: what children add up to must not be more than their parent by a rounding.
    node.value = Math.max(Math.round((node.before + node.after) * 1e9), node.children.length);
    waiting.push(...node.children);
  }
  return sorted(root);
}

/** Return each function once, with the share of itself in two profiles. */
export function differenceTable(first, second, lines) {
  const rows = new Map();
  for (const [profile, side] of [[first, "before"], [second, "after"]]) {
    for (const row of table(profile, lines)) {
      const one = rows.get(row.symbol) ?? { ...row, before: 0, after: 0 };
      one[side] = row.self / (profile.total || 1);
      rows.set(row.symbol, one);
    }
  }
  return [...rows.values()].map((row) => ({ ...row, change: row.after - row.before }));
}

/** Return only the last part of a path. */
export const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);
