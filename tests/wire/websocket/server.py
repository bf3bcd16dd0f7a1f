"""A WebSocket server on PyPI's `websockets`, with the paths of server.mjs."""

import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import say  # noqa: E402
from messages import thirds  # noqa: E402

ends = {}


def end_of(identity):
    return ends.setdefault(identity, asyncio.get_running_loop().create_future())


async def echo(socket, _):
    async for message in socket:
        data = message.encode() if isinstance(message, str) else message
        fragments = [data] if len(data) % 2 == 0 else thirds(data)
        await socket.send(iter(fragments), text=isinstance(message, str))


async def hello(socket, _):
    extensions = socket.response.headers.get("Sec-WebSocket-Extensions", "")
    headers = list(socket.request.headers.raw_items())
    await socket.send(json.dumps({"headers": headers, "extensions": extensions}))
    await socket.wait_closed()


async def close(socket, query):
    await socket.close(int(query["code"]), query.get("reason", ""))


async def vanish(socket, _):
    await socket.send("going")
    socket.transport.abort()


async def ping(socket, _):
    await (await socket.ping("still there?"))
    await socket.send("pong: still there?")
    await socket.wait_closed()


async def tell_end(socket, query):
    await socket.send(json.dumps(await end_of(query["id"])))
    await socket.wait_closed()


PATHS = {
    "/echo": echo,
    "/hello": hello,
    "/close": close,
    "/vanish": vanish,
    "/ping": ping,
    "/end-of": tell_end,
}


def refuse(_, request):
    if urlsplit(request.path).path in PATHS:
        return None
    headers = Headers({"Content-Length": "9", "X-Reason": "tea"})
    return Response(418, "I'm a teapot", headers, b"no coffee")


def choose(_, offered):
    return "echo.v1" if "echo.v1" in offered else None


async def serve_one(socket):
    url = urlsplit(socket.request.path)
    query = {key: values[0] for key, values in parse_qs(url.query).items()}
    try:
        await PATHS[url.path](socket, query)
    except ConnectionClosed:
        pass
    if url.path != "/end-of" and "id" in query:
        await socket.wait_closed()
        end_of(query["id"]).set_result({"code": socket.close_code, "reason": socket.close_reason})


async def main():
    options = {"process_request": refuse, "select_subprotocol": choose, "max_size": None}
    async with serve(serve_one, "127.0.0.1", 0, **options) as server:
        say(port=server.sockets[0].getsockname()[1])
        await server.serve_forever()


asyncio.run(main())
