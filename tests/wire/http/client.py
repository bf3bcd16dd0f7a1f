"""PyPI's `requests` (HTTP/1.1), or `httpx` with HTTP/2 over TLS where OVER is "h2"."""

import hashlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import BEHIND_GATE, CA, COOKIE, TARGET, Step, check_seen  # noqa: E402

SIZE = 5_000_000
BODY = os.urandom(SIZE)
OVER_HTTP2 = os.environ.get("OVER") == "h2"

if OVER_HTTP2:
    import ssl

    import httpx

    def session():
        tls = ssl.create_default_context(cafile=CA)
        return httpx.Client(http2=True, verify=tls, trust_env=False, timeout=60)

    REDIRECTS = "follow_redirects"
    UPLOAD = "content"
else:
    import requests

    def session():
        made = requests.Session()
        made.trust_env = False
        made.verify = CA
        return made

    REDIRECTS = "allow_redirects"
    UPLOAD = "data"

stranger, visitor = session(), session()
if BEHIND_GATE:
    for pair in COOKIE.split("; "):
        name, value = pair.split("=", 1)
        visitor.cookies.set(name, value, domain=".example.com")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def check(response, status=200):
    assert response.status_code == status, (response.status_code, response.text[:200])
    assert not OVER_HTTP2 or response.http_version == "HTTP/2"
    return response


if BEHIND_GATE:
    with Step("without a session"):
        refused = check(stranger.get(f"{TARGET}/seen"), 401)
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json()["status"] == 401
        page = {"headers": {"Accept": "text/html"}, REDIRECTS: False}
        to_login = check(stranger.get(f"{TARGET}/seen?x=1", **page), 302)
        assert to_login.headers["Location"].startswith("https://auth.example.com/login?callbackUrl=")

with Step("GET"):
    headers = {"Authorization": "Bearer forged", "X-Own": "own"}
    seen = check(visitor.get(f"{TARGET}/seen?a=1&a=%20", headers=headers)).json()
    assert (seen["method"], seen["url"]) == ("GET", "/seen?a=1&a=%20")
    assert ["x-own", "own"] in seen["headers"]
    check_seen(seen["headers"])

with Step("POST of JSON and of a form"):
    sent = {"text": "é€😀", "list": [1, 2.5, None]}
    assert check(visitor.post(f"{TARGET}/json", json=sent)).json() == {"got": sent}
    form = check(visitor.post(f"{TARGET}/upload", data={"a": "1", "b": "é"})).json()
    assert form["sha256"] == sha256(b"a=1&b=%C3%A9")

with Step("uploads, with a length and in chunks") as line:
    whole = check(visitor.post(f"{TARGET}/upload", **{UPLOAD: BODY})).json()
    assert (whole["bytes"], whole["sha256"], whole["announced"]) == (SIZE, sha256(BODY), str(SIZE))
    parts = (BODY[at : at + 70_000] for at in range(0, SIZE, 70_000))
    chunked = check(visitor.put(f"{TARGET}/upload", **{UPLOAD: parts})).json()
    assert (chunked["bytes"], chunked["sha256"]) == (SIZE, sha256(BODY))
    assert chunked["announced"] is None
    line["bytes"] = 2 * SIZE

with Step("downloads, with a length and in chunks") as line:
    whole = check(visitor.get(f"{TARGET}/download?bytes={SIZE}"))
    assert whole.headers["Content-Length"] == str(SIZE)
    assert sha256(whole.content) == whole.headers["X-Sha256"]
    chunked = check(visitor.get(f"{TARGET}/download?bytes={SIZE}&chunked"))
    assert "Content-Length" not in chunked.headers
    assert chunked.content == whole.content
    line["bytes"] = 2 * SIZE

with Step("answers without a body"):
    head = check(visitor.head(f"{TARGET}/download?bytes={SIZE}"))
    assert head.headers["Content-Length"] == str(SIZE) and head.content == b""
    assert check(visitor.get(f"{TARGET}/no-content"), 204).headers["X-Kind"] == "none"
    known = {"If-None-Match": '"v1"'}
    assert check(visitor.get(f"{TARGET}/tagged", headers=known), 304).headers["ETag"] == '"v1"'
    assert check(visitor.get(f"{TARGET}/tagged")).text == "version 1"

with Step("cookies and redirects of the app"):
    check(visitor.get(f"{TARGET}/cookies"))
    moved = check(visitor.get(f"{TARGET}/moved", **{REDIRECTS: True})).json()
    assert moved["url"] == "/seen?moved"
    cookies = "; ".join(value for name, value in moved["headers"] if name == "cookie").split("; ")
    assert {"a=1", "b=2"} <= set(cookies), cookies
