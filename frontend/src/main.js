// The page: shows the view that the address asks for, and again when something has come in.
import { follow, isKept } from "./api.js";
import { h, replace } from "./dom.js";
import { difference } from "./view_difference.js";
import { profile } from "./view_profile.js";
import { service, services } from "./view_services.js";
import { trace, traces } from "./view_traces.js";
import { address, empty, link } from "./widgets.js";
// Last, so that its rules win over the library's.
import "./page.css";

const VIEWS = { "": services, service, traces, trace, profile, difference };

const content = document.getElementById("content");
const header = document.getElementById("top");
const news = document.getElementById("news");

let following = true;
let number = 0;
/** The view that is shown; may have `busy()`, which says that somebody is at work in it, and `leave()`. */
let shown = null;

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { view: path, query: Object.fromEntries(new URLSearchParams(query)) };
}

async function show({ moved }) {
  const mine = ++number;
  const { view, query } = place();
  let next;
  try {
    next = await (VIEWS[view] ?? services)(query, moved ? null : shown);
  } catch (error) {
    next = { title: "Not there", parts: [empty(error.message)] };
  }
  // Somebody has gone elsewhere meanwhile.
  if (mine !== number) return;
  const places = moved ? [] : scrolled();
  shown = next;
  document.title = `${next.title} – span profiles`;
  if (next.parts) replace(content, h("h1", {}, next.title), ...next.parts);
  next.shown?.();
  for (const [selector, left, top] of places) document.querySelector(selector)?.scrollTo(left, top);
  if (moved) {
    window.scrollTo(0, 0);
    content.focus({ preventScroll: true });
  }
  say("");
}

/** What can be scrolled, and how far it is: new parts begin at their top. */
function scrolled() {
  const found = ["html", ".graph", ".list"].map((selector) => [selector, document.querySelector(selector)]);
  return found.filter(([, element]) => element).map(([selector, element]) => [selector, element.scrollLeft, element.scrollTop]);
}

function say(text, button) {
  replace(news, text && h("span", {}, text), button);
}

function drawHeader() {
  const box = h("input", {
    type: "checkbox",
    checked: following,
    onchange: () => {
      following = box.checked;
      if (following) show({ moved: false });
    },
  });
  replace(
    header,
    link(address(""), "span profiles", { class: "home" }),
    isKept
      ? h("span", { class: "kept" }, "kept in a file")
      : [h("label", {}, box, " follow what comes in"), h("a", { href: "profiles.html", download: "profiles.html" }, "keep as a file")],
  );
}

window.addEventListener("hashchange", () => show({ moved: true }));
// The same view with another filter: whoever types goes on typing.
window.addEventListener("refine", () => show({ moved: false }));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});

drawHeader();
show({ moved: true });
follow(async (error) => {
  if (error) say(error.message);
  else if (!following) return;
  // A zoomed graph is not pulled from under somebody's hands.
  else if (shown?.busy?.()) say("More has come in.", h("button", { type: "button", onclick: () => show({ moved: false }) }, "Show it"));
  else await show({ moved: false });
});

