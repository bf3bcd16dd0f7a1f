// An app on Node's own servers, for all the HTTP clients of this directory. It speaks as SPEAK says: "http/1.1", "h2c",
// "https" (HTTP/2 or HTTP/1.1, as is agreed; CERT and KEY name its files) or "unix" (HTTP/1.1 at the path SOCKET).

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import { listen, pairs } from "../common.mjs";

const { SPEAK = "http/1.1", CERT, KEY, SOCKET } = process.env;

const json = (response, value) => {
  const body = JSON.stringify(value);
  response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  response.end(body);
};
const read = async (request) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
};
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

const paths = {
  "/seen": (request, response) =>
    json(response, {
      method: request.method,
      url: request.url,
      headers: pairs(request.rawHeaders).map(([name, value]) => [name.toLowerCase(), value]),
    }),
  "/json": async (request, response) => json(response, { got: JSON.parse(await read(request)) }),
  "/upload": async (request, response) => {
    const body = await read(request);
    json(response, {
      bytes: body.length,
      sha256: sha256(body),
      announced: request.headers["content-length"] ?? null,
      trailers: pairs(request.rawTrailers).map(([name, value]) => [name.toLowerCase(), value]),
    });
  },
  /** So many bytes, with their hash in the head; or without a length, and with the hash behind them. */
  "/download": (_, response, query) => {
    const size = Number(query.get("bytes"));
    const body = createHash("shake128", { outputLength: size }).update("download").digest();
    if (!query.has("chunked")) {
      response.writeHead(200, { "content-length": size, "x-sha256": sha256(body) });
      response.end(body);
      return;
    }
    response.writeHead(200, { trailer: "x-sha256" });
    for (let at = 0; at < size; at += 100_000) response.write(body.subarray(at, at + 100_000));
    response.addTrailers({ "x-sha256": sha256(body) });
    response.end();
  },
  "/no-content": (_, response) => response.writeHead(204, { "x-kind": "none" }).end(),
  "/tagged": (request, response) => {
    const known = request.headers["if-none-match"] === '"v1"';
    response.writeHead(known ? 304 : 200, { etag: '"v1"' }).end(known ? undefined : "version 1");
  },
  "/cookies": (_, response) =>
    response.writeHead(200, { "set-cookie": ["a=1; Path=/", "b=2; Path=/; HttpOnly"] }).end("set"),
  "/moved": (_, response) => response.writeHead(307, { location: "/seen?moved" }).end(),
};

async function serve(request, response) {
  const { pathname, searchParams } = new URL(request.url, "http://any");
  const act = paths[pathname];
  if (!act) return void response.writeHead(404).end();
  try {
    await act(request, response, searchParams);
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
}

// Node ends an HTTP/2 connection that holds more than 10 MB of answers unless it is told otherwise.
const roomy = { maxSessionMemory: 1_000 };
const server = {
  "http/1.1": () => http.createServer(serve),
  unix: () => http.createServer(serve),
  h2c: () => http2.createServer(roomy, serve),
  https: () => {
    const pair = { cert: readFileSync(CERT), key: readFileSync(KEY) };
    return http2.createSecureServer({ ...roomy, ...pair, allowHTTP1: true }, serve);
  },
}[SPEAK]();

if (SPEAK === "unix") server.listen(SOCKET, () => console.log(JSON.stringify({ port: 0 })));
else listen(server);
