"""A gRPC client on PyPI's `grpcio`, with the steps of client.mjs."""

import hashlib
import json
import sys
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import urlsplit
from uuid import uuid4

import grpc

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import BEHIND_GATE, CA, COOKIE, TARGET, Step, check_seen  # noqa: E402
from wire import CODEC, MESSAGE, NO_LIMIT, OCTETS, SERVICE, numbered, of  # noqa: E402

VISITOR = (("cookie", COOKIE),) if BEHIND_GATE else ()
STOP = object()

url = urlsplit(TARGET)
options = [*NO_LIMIT, ("grpc.default_authority", url.netloc)]
address = f"127.0.0.1:{url.port}"
if url.scheme == "https":
    options.append(("grpc.ssl_target_name_override", url.hostname))
    credentials = grpc.ssl_channel_credentials(Path(CA).read_bytes())
    channel = grpc.secure_channel(address, credentials, options)
else:
    channel = grpc.insecure_channel(address, options)

unary = {
    name: channel.unary_unary(f"/{SERVICE}/{name}", **CODEC)
    for name in ("Echo", "Seen", "Fail", "EndOf")
}
stream = {
    name: channel.unary_stream(f"/{SERVICE}/{name}", **CODEC)
    for name in ("Down", "FailLate", "Hang")
}
up = channel.stream_unary(f"/{SERVICE}/Up", **CODEC)
both = channel.stream_stream(f"/{SERVICE}/Both", **CODEC)


def failure(act):
    try:
        act()
    except grpc.RpcError as error:
        return error
    raise AssertionError("no error")


def check_failure(error):
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == MESSAGE, error
    trailing = dict(error.trailing_metadata())
    assert trailing["x-why"] == "because" and trailing["x-why-bin"] == OCTETS, trailing


if BEHIND_GATE:
    with Step("a call without a session is unauthenticated"):
        error = failure(lambda: unary["Echo"](of("x")))
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error

with Step("one message there and back, with metadata before and after"):
    answer, call = unary["Echo"].with_call(of("ping"), metadata=VISITOR)
    assert answer.value == b"ping"
    assert dict(call.initial_metadata())["x-first"] == "one"
    trailing = dict(call.trailing_metadata())
    assert trailing["x-last"] == "because" and trailing["x-last-bin"] == OCTETS, trailing

with Step("the server sees the visitor's token and the deadline"):
    seen = json.loads(unary["Seen"](of(""), timeout=50, metadata=VISITOR).value)
    check_seen(seen["headers"])
    assert seen["deadline"] is True
    assert json.loads(unary["Seen"](of(""), metadata=VISITOR).value)["deadline"] is False

with Step("large messages"):
    for size in (0, 16_384, 65_536, 8 << 20):
        assert unary["Echo"](of(bytes([7]) * size), metadata=VISITOR).value == bytes([7]) * size

with Step("a stream from the server") as line:
    values = [answer.value for answer in stream["Down"](of("1000"), metadata=VISITOR)]
    assert values == [numbered(number) for number in range(1000)]
    line["messages"] = len(values)

with Step("a stream to the server") as line:
    values = [numbered(number) for number in range(1000)]
    answer = json.loads(up(map(of, values), metadata=VISITOR).value)
    assert answer == {"count": 1000, "hash": hashlib.sha256(b"".join(values)).hexdigest()}
    line["messages"] = len(values)

with Step("both ways at once, each message sent after the answer to the last") as line:
    requests = SimpleQueue()
    call = both(iter(requests.get, STOP), metadata=VISITOR)
    for number in range(200):
        requests.put(of(numbered(number)))
        assert next(call).value == numbered(number)
    requests.put(STOP)
    assert next(call, None) is None
    line["messages"] = 200

with Step("an error comes as trailers, alone and behind messages"):
    check_failure(failure(lambda: unary["Fail"](of(""), metadata=VISITOR)))
    values = []
    late = stream["FailLate"](of(""), metadata=VISITOR)
    check_failure(failure(lambda: values.extend(answer.value for answer in late)))
    assert values == [numbered(0), numbered(1), numbered(2)]

with Step("a deadline ends the call on both sides"):
    name = of(str(uuid4()))
    call = stream["Hang"](name, timeout=0.5, metadata=VISITOR)
    assert next(call).value == b"hanging"
    assert failure(lambda: next(call)).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert unary["EndOf"](name, metadata=VISITOR).value == b"given up"

with Step("the server sees that the client gave up"):
    name = of(str(uuid4()))
    call = stream["Hang"](name, metadata=VISITOR)
    assert next(call).value == b"hanging"
    call.cancel()
    assert unary["EndOf"](name, metadata=VISITOR).value == b"given up"

channel.close()
