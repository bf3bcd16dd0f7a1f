// A WebSocket server on npm's `ws`, with the paths that client.mjs and client.py ask for. It speaks HTTP/2 in the clear
// where SPEAK is "h2c", else HTTP/1.1.

import { createServer as createHttp1 } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { WebSocketServer } from "ws";
import { listen, pairs } from "../common.mjs";
import { thirds } from "./messages.mjs";
import { acceptOverHttp2 } from "./over_http2.mjs";

const server = new WebSocketServer({
  noServer: true,
  maxPayload: 0,
  perMessageDeflate: true,
  handleProtocols: (offered) => (offered.has("echo.v1") ? "echo.v1" : false),
});

/** How connections with an `id` ended: a promise for each, and who fulfils it. */
const ends = new Map();
function end(id) {
  if (!ends.has(id)) {
    const end = {};
    end.told = new Promise((resolve) => (end.tell = resolve));
    ends.set(id, end);
  }
  return ends.get(id);
}

const paths = {
  /** Echoes; what has an odd length goes back in three fragments. */
  "/echo": (socket) =>
    socket.on("message", (data, binary) => {
      if (data.length % 2 === 0) return socket.send(data, { binary });
      thirds(data).forEach((part, at) => socket.send(part, { binary, fin: at === 2 }));
    }),
  /** Speaks first: what the handshake looked like. */
  "/hello": (socket, _, request) =>
    socket.send(JSON.stringify({ headers: pairs(request.rawHeaders), extensions: socket.extensions })),
  "/close": (socket, query) => socket.close(Number(query.get("code")), query.get("reason")),
  /** Breaks off without a word of farewell. */
  "/vanish": (socket) => socket.send("going", () => socket.terminate()),
  "/ping": (socket) => {
    socket.on("pong", (data) => socket.send(`pong: ${data}`));
    socket.ping("still there?");
  },
  /** Tells how another connection ended, once it has. */
  "/end-of": async (socket, query) => socket.send(JSON.stringify(await end(query.get("id")).told)),
};

const teapot = { "x-reason": "tea", "content-length": "9" };

function serve(socket, request, pathname, query) {
  socket.on("error", () => {}); // `close` follows and says what is to be said
  socket.on("close", (code, reason) => {
    if (pathname !== "/end-of" && query.has("id")) end(query.get("id")).tell({ code, reason: String(reason) });
  });
  paths[pathname](socket, query, request);
}

function overHttp1() {
  const http = createHttp1((_, response) => response.writeHead(404).end());
  http.on("upgrade", (request, stream, head) => {
    const { pathname, searchParams } = new URL(request.url, "http://any");
    if (pathname in paths) {
      server.handleUpgrade(request, stream, head, (socket) => serve(socket, request, pathname, searchParams));
      return;
    }
    const lines = Object.entries(teapot).map(([name, value]) => `${name}: ${value}\r\n`);
    stream.end(`HTTP/1.1 418 I'm a teapot\r\n${lines.join("")}\r\nno coffee`);
  });
  return http;
}

/** Extended CONNECT (RFC 8441), which `ws` itself does not know. */
function overHttp2() {
  const http = createHttp2({ settings: { enableConnectProtocol: true } });
  http.on("stream", (stream, headers, _, rawHeaders) => {
    const { pathname, searchParams } = new URL(headers[":path"], "http://any");
    if (headers[":protocol"] !== "websocket" || !(pathname in paths)) {
      stream.respond({ ":status": 418, ...teapot });
      stream.end("no coffee");
      return;
    }
    const socket = acceptOverHttp2(stream, headers, server.options);
    serve(socket, { rawHeaders }, pathname, searchParams);
  });
  return http;
}

listen(process.env.SPEAK === "h2c" ? overHttp2() : overHttp1());
