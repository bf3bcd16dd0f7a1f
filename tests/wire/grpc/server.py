"""A gRPC server on PyPI's `grpcio`. Plain, or with TLS where CERT and KEY name files."""

import hashlib
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import say  # noqa: E402
from wire import MESSAGE, NO_LIMIT, OCTETS, SERVER_CODEC, SERVICE, numbered, of  # noqa: E402

ends = {}


def end(name):
    """What the client's giving up sets, by the name of its call."""
    return ends.setdefault(name, threading.Event())


def trailing(name):
    return ((name, "because"), (f"{name}-bin", OCTETS))


def fail(context):
    context.set_trailing_metadata(trailing("x-why"))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, MESSAGE)


def echo(request, context):
    context.send_initial_metadata((("x-first", "one"),))
    context.set_trailing_metadata(trailing("x-last"))
    return request


def seen(_, context):
    headers = [(key, value) for key, value in context.invocation_metadata() if isinstance(value, str)]
    # Without a deadline some centuries remain.
    return of(json.dumps({"headers": headers, "deadline": context.time_remaining() < 3600}))


def down(request, _):
    for number in range(int(request.value)):
        yield of(numbered(number))


def up(requests, _):
    values = [request.value for request in requests]
    digest = hashlib.sha256(b"".join(values)).hexdigest()
    return of(json.dumps({"count": len(values), "hash": digest}))


def both(requests, _):
    yield from requests


def fail_now(_, context):
    fail(context)


def fail_late(_, context):
    for number in range(3):
        yield of(numbered(number))
    fail(context)


def hang(request, context):
    given_up = end(request.value)
    context.add_callback(given_up.set)
    yield of("hanging")
    given_up.wait()


def tell_end(request, _):
    end(request.value).wait()
    return of("given up")


UNARY = grpc.unary_unary_rpc_method_handler
STREAM = grpc.unary_stream_rpc_method_handler
METHODS = {
    "Echo": UNARY(echo, **SERVER_CODEC),
    "Seen": UNARY(seen, **SERVER_CODEC),
    "Down": STREAM(down, **SERVER_CODEC),
    "Up": grpc.stream_unary_rpc_method_handler(up, **SERVER_CODEC),
    "Both": grpc.stream_stream_rpc_method_handler(both, **SERVER_CODEC),
    "Fail": UNARY(fail_now, **SERVER_CODEC),
    "FailLate": STREAM(fail_late, **SERVER_CODEC),
    "Hang": STREAM(hang, **SERVER_CODEC),
    "EndOf": UNARY(tell_end, **SERVER_CODEC),
}

server = grpc.server(ThreadPoolExecutor(8), options=NO_LIMIT)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, METHODS),))
if "CERT" in os.environ:
    pair = (Path(os.environ["KEY"]).read_bytes(), Path(os.environ["CERT"]).read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
say(port=port)
server.wait_for_termination()
