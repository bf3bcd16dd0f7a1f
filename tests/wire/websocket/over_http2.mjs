// WebSockets of `ws` over streams of Node's `http2` (RFC 8441), which `ws` itself cannot open or accept.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:http2";
import WebSocket, { PerMessageDeflate, extension } from "ws";
import { CA, TARGET } from "../common.mjs";
import { keepAll } from "./inbox.mjs";

const DEFLATE = PerMessageDeflate.extensionName;
const OPTIONS = { maxPayload: 0, allowSynchronousEvents: true };
let session;

/** Opens one; all of a client share a connection. Fails with an error that has `refused` where the answer is not 200. */
export async function openOverHttp2(path, { compress, protocols, headers }) {
  session ??= await begin();
  const { host, protocol } = new URL(TARGET);
  const deflate = compress && new PerMessageDeflate({ isServer: false, maxPayload: 0 });
  const request = {
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": protocol.slice(0, -1),
    ":authority": host,
    ":path": path,
    "sec-websocket-version": "13",
  };
  if (protocols.length > 0) request["sec-websocket-protocol"] = protocols.join(", ");
  if (deflate) request["sec-websocket-extensions"] = extension.format({ [DEFLATE]: deflate.offer() });
  for (const [name, value] of Object.entries(headers)) request[name.toLowerCase()] = value;
  const stream = session.request(request, { endStream: false });
  const [answer] = await once(stream, "response");
  if (answer[":status"] !== 200) {
    let body = "";
    for await (const part of stream) body += part;
    const refused = { status: answer[":status"], headers: answer, body };
    throw Object.assign(new Error(`refused with ${refused.status}`), { refused });
  }
  assert.equal(answer["sec-websocket-accept"], undefined);

  const agreed = answer["sec-websocket-extensions"];
  if (agreed) deflate.accept(extension.parse(agreed)[DEFLATE]);
  const socket = keepAll(half(false, answer["sec-websocket-protocol"], agreed && deflate));
  socket.begin(stream);
  return socket;
}

/** Accepts one, as a server with these options of `ws`. */
export function acceptOverHttp2(stream, headers, { handleProtocols }) {
  const answer = { ":status": 200 };
  const offers = headers["sec-websocket-extensions"];
  const deflate = offers && new PerMessageDeflate({ isServer: true, maxPayload: 0 });
  if (deflate) {
    deflate.accept(extension.parse(offers)[DEFLATE]);
    answer["sec-websocket-extensions"] = extension.format({ [DEFLATE]: [deflate.params] });
  }
  const names = headers["sec-websocket-protocol"];
  const protocol = names && handleProtocols(new Set(names.split(/, ?/)));
  if (protocol) answer["sec-websocket-protocol"] = protocol;
  stream.respond(answer);
  const socket = half(true, protocol || "", deflate);
  socket.begin(stream);
  return socket;
}

/** What `ws` does behind an HTTP/1.1 handshake. */
function half(isServer, protocol = "", deflate) {
  const socket = new WebSocket(null, undefined, { autoPong: true, closeTimeout: 30_000 });
  socket._isServer = isServer;
  socket._protocol = protocol;
  if (deflate) socket._extensions[DEFLATE] = deflate;
  socket.begin = (stream) => socket.setSocket(stream, Buffer.alloc(0), OPTIONS);
  return socket;
}

async function begin() {
  const session = connect(TARGET, { ca: CA && readFileSync(CA) });
  session.on("error", () => {}); // each stream has one of its own
  const [settings] = await once(session, "remoteSettings");
  assert.equal(settings.enableConnectProtocol, true, "SETTINGS_ENABLE_CONNECT_PROTOCOL");
  return session;
}

export const close = () => session?.close();
