"""A WebSocket client on PyPI's `websockets`, with the steps of client.mjs."""

import asyncio
import json
import os
import ssl
import sys
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import BEHIND_GATE, CA, COOKIE, TARGET, Step, check_seen  # noqa: E402
from messages import digest, message  # noqa: E402

MESSAGES = int(os.environ.get("MESSAGES", "10000"))
TLS = {"ssl": ssl.create_default_context(cafile=CA)} if TARGET.startswith("https") else {}

FAREWELLS = [
    (1000, ""),
    (1000, "bye"),
    (1001, "going away"),
    (3000, "é€😀"),
    (4401, "sign in again"),
    (4999, "x" * 123),
]


def visit(path, compress=False, protocols=None, headers=None):
    """Opens a path as the visitor."""
    if headers is None:
        headers = {"Cookie": COOKIE} if BEHIND_GATE else {}
    return connect(
        TARGET.replace("http", "ws", 1) + path,
        additional_headers=headers,
        compression="deflate" if compress else None,
        subprotocols=protocols,
        max_size=None,
        proxy=None,
        **TLS,
    )


async def closed(socket):
    """Waits for the end, and says how it came."""
    try:
        raise AssertionError(f"a message instead of the end: {await socket.recv()!r:.100}")
    except ConnectionClosed:
        return socket.close_code, socket.close_reason


async def refusal(path, headers=None):
    try:
        async with visit(path, headers=headers):
            raise AssertionError("was admitted")
    except InvalidStatus as error:
        return error.response


async def admission():
    with Step("without a session the upgrade is refused"):
        response = await refusal("/echo", {})
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert json.loads(response.body)["status"] == 401
    with Step("a foreign site's upgrade is refused"):
        foreign = {"Cookie": COOKIE, "Origin": "https://evil.example"}
        assert (await refusal("/echo", foreign)).status_code == 403
        async with visit("/hello", headers={"Cookie": COOKIE, "Origin": TARGET}) as socket:
            headers = json.loads(await socket.recv())["headers"]
            assert [value for name, value in headers if name.lower() == "origin"] == [TARGET]


async def handshake():
    with Step("what the server says first arrives, and it saw the visitor's token"):
        headers = {"Cookie": COOKIE or "none=1", "Authorization": "Bearer forged"}
        async with visit("/hello", headers=headers) as socket:
            hello = json.loads(await socket.recv())
            check_seen(hello["headers"])
            assert hello["extensions"] == ""
    with Step("the server's choice of subprotocol and extension holds"):
        async with visit("/hello", compress=True, protocols=["other.v2", "echo.v1"]) as socket:
            assert socket.subprotocol == "echo.v1"
            agreed = socket.response.headers["Sec-WebSocket-Extensions"]
            assert agreed.startswith("permessage-deflate")
            assert json.loads(await socket.recv())["extensions"].startswith("permessage-deflate")


async def messages(compress):
    count = MESSAGES // 5 if compress else MESSAGES
    with Step(f"messages come back, {'compressed' if compress else 'as they are'}") as line:
        async with visit("/echo", compress) as socket:
            assert ("Sec-WebSocket-Extensions" in socket.response.headers) == compress
            sent = []

            async def send_all():
                for number in range(count):
                    text, data, fragments = message(number)
                    sent.append(digest(text, data))
                    line["bytes"] = line.get("bytes", 0) + len(data)
                    await socket.send(iter(fragments), text=text)

            async def compare_all():
                for number in range(count):
                    echo = await socket.recv()
                    text = isinstance(echo, str)
                    echo = digest(text, echo.encode() if text else echo)
                    assert echo == sent[number], f"message {number}"

            await asyncio.gather(send_all(), compare_all())
            line["messages"] = count


async def pings():
    with Step("a ping of either side is answered"):
        async with visit("/ping") as socket:
            assert await socket.recv() == "pong: still there?"
            await (await socket.ping("and you?"))


async def end_of(identity):
    async with visit(f"/end-of?id={identity}") as socket:
        end = json.loads(await socket.recv())
        return end["code"], end["reason"]


async def ends():
    with Step("the server's close codes and reasons arrive"):
        for code, reason in FAREWELLS:
            async with visit(f"/close?code={code}&reason={quote(reason)}") as socket:
                assert await closed(socket) == (code, reason)
    with Step("the client's close codes and reasons arrive"):
        for code, reason in FAREWELLS:
            identity = uuid4()
            async with visit(f"/echo?id={identity}") as socket:
                await socket.close(code, reason)
                assert await closed(socket) == (code, reason)
            assert await end_of(identity) == (code, reason)
    with Step("who breaks off is seen to have broken off"):
        async with visit("/vanish") as socket:
            assert await socket.recv() == "going"
            assert (await closed(socket))[0] == 1006
        identity = uuid4()
        async with visit(f"/echo?id={identity}") as socket:
            await socket.send("x")
            assert await socket.recv() == "x"
            socket.transport.abort()
        assert (await end_of(identity))[0] == 1006
    with Step("the app's own refusal arrives"):
        response = await refusal("/nothing-here")
        assert response.status_code == 418
        assert response.headers["X-Reason"] == "tea"
        assert response.body == b"no coffee"


async def main():
    if BEHIND_GATE:
        await admission()
    await handshake()
    await messages(compress=False)
    await messages(compress=True)
    await pings()
    await ends()


asyncio.run(main())
