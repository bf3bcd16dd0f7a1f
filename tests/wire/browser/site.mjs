// An app for visitor.mjs: server-sent events, each of which waits until the page has said that the one before
// arrived, and a WebSocket that echoes.

import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { listen, pairs } from "../common.mjs";

const EACH = 5; // events in one answer; the browser then asks again
const ALL = 15;

/** Who waits for the page to say that an event arrived, by the event's number. */
const waiting = new Map();
const arrived = (number) => new Promise((resolve) => waiting.set(number, resolve));
/** What each request of the newest page for events looked like. */
let requests = [];

async function events(request, response) {
  const last = Number(request.headers["last-event-id"] ?? 0);
  if (last === 0) requests = [];
  requests.push({ last, headers: pairs(request.rawHeaders) });
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  response.write("retry: 10\n\n");
  for (let number = last + 1; number <= Math.min(last + EACH, ALL); number++) {
    response.write(`id: ${number}\ndata: event ${number}\ndata: of ${ALL}\n\n`);
    await arrived(number);
  }
  if (last + EACH >= ALL) response.write(`event: summary\ndata: ${JSON.stringify(requests)}\n\n`);
  response.end();
}

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://any");
  if (pathname === "/events") return void events(request, response);
  if (pathname === "/arrived") {
    waiting.get(Number(searchParams.get("number")))();
    return void response.writeHead(204).end();
  }
  response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>wire</title>");
});

const sockets = new WebSocketServer({ server, path: "/echo", perMessageDeflate: true });
sockets.on("connection", (socket, request) => {
  socket.send(JSON.stringify(pairs(request.rawHeaders)));
  socket.on("message", (data, binary) => socket.send(data, { binary }));
});
listen(server);
