"""What the Python clients and servers of this directory share; see common.mjs."""

import json
import os
import socket
import sys
import traceback

TARGET = os.environ.get("TARGET", "")
COOKIE = os.environ.get("COOKIE")
BEARER = os.environ.get("BEARER")
CA = os.environ.get("CA")
BEHIND_GATE = COOKIE is not None

_lookup = socket.getaddrinfo


def _getaddrinfo(host, *rest, **more):
    """Every name under example.com is this machine."""
    if isinstance(host, str) and host.endswith(".example.com"):
        host = "127.0.0.1"
    return _lookup(host, *rest, **more)


socket.getaddrinfo = _getaddrinfo


def say(**line):
    print(json.dumps(line), flush=True)


class Step:
    """One step: says what came of it, and ends the client where it failed."""

    def __init__(self, name):
        self.line = {"name": name}

    def __enter__(self):
        return self.line

    def __exit__(self, kind, error, trace):
        if error is None:
            say(**self.line, ok=True)
            return
        text = "".join(traceback.format_exception(kind, error, trace))
        say(**self.line, ok=False, error=text)
        sys.stdout.flush()
        os._exit(1)


def check_seen(headers):
    """What every app behind the gate may rely on, whichever protocol brought the request."""
    if not BEHIND_GATE:
        return
    seen = {}
    for name, value in headers:
        seen.setdefault(name.lower(), []).append(value)
    scheme, host = TARGET.split("://")
    assert seen["authorization"] == [f"Bearer {BEARER}"], seen
    assert seen["x-forwarded-for"] == ["127.0.0.1"], seen
    assert seen["x-forwarded-proto"] == [scheme], seen
    assert seen["x-forwarded-host"] == [host], seen
    assert len(seen["cookie"]) == 1, seen
