// Makes elements. Whatever comes from the network goes in as text, never as markup: there is no other way in here.

const SVG = "http://www.w3.org/2000/svg";

/** Return an element; `properties` are attributes, or listeners where a name begins with "on"; null and false leave one out. */
export function h(name, properties, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** The same for SVG. */
export function svg(name, properties, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.entries(value).forEach(([key, one]) => element.style.setProperty(key, one));
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Put `children` in place of what `parent` has, and the focus back to the element with the same data-key. */
export function replace(parent, ...children) {
  const former = parent.contains(document.activeElement) ? document.activeElement : null;
  const { selectionStart, selectionEnd } = former ?? {};
  parent.replaceChildren(...children.flat().filter(Boolean));
  const key = former?.dataset.key;
  const same = key && [...parent.querySelectorAll("[data-key]")].find((element) => element.dataset.key === key);
  if (!same) return;
  same.focus({ preventScroll: true });
  if (same.type !== "search") return;
  // What has been typed since the new parts were made is not lost.
  same.value = former.value;
  same.setSelectionRange(selectionStart, selectionEnd);
}

/** Return `act`, but called at most once in so many milliseconds, with the last arguments. */
export function later(act, milliseconds) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...values), milliseconds);
  };
}
