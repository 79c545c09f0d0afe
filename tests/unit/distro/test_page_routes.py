"""What a browser, and others who pretend to be one, are answered."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from otel_profiling_distro.page import AssetsError, load_assets, one_file, page_routes
from otel_profiling_distro.page.assets import Assets
from otel_profiling_distro.receiver import Receiver
from otel_profiling_distro.receiver import body as bounds
from otel_profiling_distro.receiver.intake import PUSH_PATH

from .uploads import profile, sample, span, spans

SCRIPT = "// a </script> and a <!-- in it\nlet x = 1;"
HTML = (
    "<head><!--policy--><!--/policy--><!--style--><link><!--/style--></head>"
    "<!--data--><!--/data--><!--script--><script src=page.js></script><!--/script-->"
)
ASSETS = Assets(HTML, SCRIPT, "p { color: red }")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver(hosts=["Profiles.example"])
    receiver.start(page_routes(receiver.store, ASSETS))
    yield receiver
    receiver.stop()


def ask(
    receiver: Receiver, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=5)
    try:
        connection.putrequest(method, path, skip_host="host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {key.lower(): value for key, value in answer.getheaders()}
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css"), ("/api/state", "application/json")],
)
def test_page(receiver: Receiver, path: str, kind: str) -> None:
    """The page's parts have their types, and a policy that lets nothing run but what this server gives."""
    status, _, headers = ask(receiver, path)
    assert status == 200
    assert headers["content-type"].startswith(kind)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/page.js/..", "/static/page.js", "/api/nothing",
     "/api/__class__", "/api/", "/api/profile/x", "//", "/%00", "/page.css%00.html", "/favicon.ico"],
)  # fmt: skip
def test_unknown_path(receiver: Receiver, path: str) -> None:
    """Whatever else is asked for is 404, and nothing of it reaches the file system."""
    status, said, _ = ask(receiver, path)
    assert status == 404
    assert "root:" not in said


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(receiver: Receiver, method: str) -> None:
    """Other methods do nothing anywhere."""
    assert ask(receiver, "/api/state", method, b"")[0] in {404, 405}
    assert ask(receiver, PUSH_PATH, method, b"")[0] in {404, 405}


def own_host(receiver: Receiver) -> str:
    return urlsplit(receiver.url).netloc


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:4040", 200),
        ("shop.localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:4040", 200),
        ("192.168.1.7:4040", 200),
        ("profiles.example", 200),
        ("PROFILES.example:4040", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("evil.example@localhost", 403),
        ("localhost/evil.example", 403),
        ("", 403),
        ("[::1", 403),
        ("localhost:port", 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/overview", "/profiles.html", "/nothing"])
def test_host(receiver: Receiver, host: str, status: int, path: str) -> None:
    """A name that somebody made to mean this machine is refused, whatever is asked for."""
    answered, said, _ = ask(receiver, path, host=host)
    assert answered == (404 if path == "/nothing" and status == 200 else status)
    assert status == 200 or "--allow-host" in said


def test_host_of_an_upload(receiver: Receiver) -> None:
    """Uploads are refused in the same way, and it is remembered."""
    assert ask(receiver, "/v1/traces", "POST", b"", host="evil.example")[0] == 403
    assert [refusal.status for refusal in receiver.refusals()] == [403]
    assert ask(receiver, "/v1/traces", "POST", b"", host="localhost:1")[0] == 200


def test_origin(receiver: Receiver) -> None:
    """Other sites' pages may neither read nor upload; the page itself may read."""
    host = own_host(receiver)
    assert ask(receiver, "/api/state", origin=f"http://{host}")[0] == 200
    for origin in ("http://evil.example", "null", f"https://{host}", "http://127.0.0.1:1", "http://localhost", "http://["):
        assert ask(receiver, "/api/state", origin=origin)[0] == 403
        assert ask(receiver, "/v1/traces", "POST", b"", origin=origin)[0] == 403
    assert all("access-control" not in name for name in ask(receiver, "/api/state")[2])


def test_fetch_metadata(receiver: Receiver) -> None:
    """A picture or a script of another site's page says no origin, but where it is from; a link may lead here."""
    for site in ("cross-site", "same-site"):
        assert ask(receiver, "/profiles.html", sec_fetch_site=site, sec_fetch_mode="no-cors")[0] == 403
        assert ask(receiver, "/", sec_fetch_site=site, sec_fetch_mode="navigate")[0] == 200
    assert ask(receiver, "/page.js", sec_fetch_site="same-origin", sec_fetch_mode="no-cors")[0] == 200
    assert ask(receiver, "/", sec_fetch_site="none", sec_fetch_mode="navigate")[0] == 200


def test_bad_queries(receiver: Receiver) -> None:
    """A query that makes no sense is 400 and says which part."""
    for value in ("x", "-1", "1e9", "٣", "9" * 30):
        status, said, _ = ask(receiver, f"/api/traces?{urlencode({'least_cpu_ns': value})}")
        assert status == 400
        assert "least_cpu_ns" in json.loads(said)["error"]
    assert ask(receiver, "/api/trace?id=nothing")[0] == 404
    assert ask(receiver, "/api/trace")[0] == 404


def test_body_that_grows(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is announced too large is 413 before it is read."""
    monkeypatch.setattr(bounds, "MAX_BODY", 1_000)
    status, said, headers = ask(receiver, PUSH_PATH, "POST", bytes(1_001))
    assert status == 413
    assert "1000 bytes" in said
    assert headers["connection"] == "close"


def test_one_file() -> None:
    """The page as one file has its parts and its data in it; nothing in the data ends the script that it stands in."""
    receiver = Receiver()
    receiver.store.add_profiles([profile(sample("</script><script>alert(1)", span_name="<!--", span_id="s", trace_id="t"))])
    receiver.store.add_spans(spans(span("t", "s", "<!--")))
    html = one_file(receiver.store, ASSETS)
    assert html.count("<script") == 2
    assert html.count("</script>") == 2
    assert "<link>" not in html
    (data,) = re.findall(r'<script type="application/json" id="kept">(.*?)</script>', html, re.DOTALL)
    kept = json.loads(data)
    assert kept['["profile",["service","shop"]]']["total"] == 10_000_000
    assert kept['["profile",["span","s"],["trace","t"]]']["frames"][0][0] == "</script><script>alert(1)"
    assert kept['["trace",["id","t"]]']["spans"][0]["name"] == "<!--"
    policy = re.search(r'content="(default-src[^"]*)"', html)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert policy[1].count("sha256-") == 2


def test_page_that_was_not_built(tmp_path: Path) -> None:
    """Where the front end was not built, the error says how to do it."""
    with pytest.raises(AssetsError, match="make page"):
        load_assets(tmp_path)
