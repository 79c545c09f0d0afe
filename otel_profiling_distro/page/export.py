"""Puts the page and what it shows into one HTML file, which needs no server: to keep, or to send by mail."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

from otel_profiling_distro.receiver.store import Store

from .assets import Assets
from .profile import Selection, profile
from .services import overview, routes
from .traces import Filter, trace, traces

_MOST_TRACES = 200
"""Newest first; and as many of those that used most CPU time."""

_MOST_ROUTES = 100


def one_file(store: Store, assets: Assets) -> str:
    """Return the page with its data in it, as HTML that may be opened from a disk."""
    script = assets.script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(assets.style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(_answers(store), separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")
    parts = {
        "policy": f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "style": f"<style>{assets.style}</style>",
        # JSON is no script: nothing runs it, and no policy has to allow it.
        "data": f'<script type="application/json" id="kept">{data}</script>',
        "script": f'<script type="module">{script}</script>',
    }
    return re.sub(
        r"<!--(policy|style|data|script)-->.*?<!--/\1-->", lambda found: parts[found[1]], assets.html, flags=re.DOTALL
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _answers(store: Store) -> dict[str, Any]:
    """Return what the page would ask for, by the keys that it asks with: see `keyOf` in the front end's `api.js`."""
    everything = overview(store)
    answers: dict[str, Any] = {key("overview", {}): everything}
    for service in everything["services"]:
        name = service["name"]
        listed = routes(store, name)
        answers[key("routes", {"service": name})] = listed
        for kind in (entry["kind"] for entry in service["kinds"]):
            own = {} if kind == "cpu" else {"kind": kind}
            answers[key("profile", {"service": name, **own})] = profile(store, Selection(service=name, kind=kind)).plain()
            for route in listed["routes"][:_MOST_ROUTES]:
                outside = route["route"] is None
                selection = Selection(service=name, route=route["route"], outside=outside, kind=kind)
                query = {"service": name, **own, **({"outside": "1"} if outside else {"route": route["route"]})}
                answers[key("profile", query)] = profile(store, selection).plain()
        answers[key("traces", {"service": name})] = _keep_traces(store, name, answers)
    return answers


def _keep_traces(store: Store, service: str, answers: dict[str, Any]) -> dict[str, Any]:
    found = traces(store, Filter(service=service, limit=10_000))
    newest = found["traces"][:_MOST_TRACES]
    busiest = sorted(found["traces"], key=lambda entry: -entry["cpu_ns"])[:_MOST_TRACES]
    kept = {entry["trace_id"]: entry for entry in (*newest, *busiest)}
    for trace_id in kept:
        whole = trace(store, trace_id)
        if whole is None:
            continue
        answers[key("trace", {"id": trace_id})] = whole
        answers[key("profile", {"trace": trace_id})] = profile(store, Selection(trace=trace_id)).plain()
        for span in whole["spans"]:
            if span["profile_id"] is not None and span["cpu_ns"]:
                selection = Selection(trace=trace_id, span=span["profile_id"])
                query = {"trace": trace_id, "span": span["profile_id"]}
                answers[key("profile", query)] = profile(store, selection).plain()
    listed = [entry for entry in found["traces"] if entry["trace_id"] in kept]
    return {"found": found["found"], "traces": listed}


def key(view: str, query: dict[str, str]) -> str:
    """Return by what an answer is found: the view and its query, in an order of its own."""
    return json.dumps(
        [view, *sorted([name, value] for name, value in query.items())], separators=(",", ":"), ensure_ascii=False
    )
