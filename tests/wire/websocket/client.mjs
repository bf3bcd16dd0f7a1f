// A WebSocket client on npm's `ws`: over HTTP/1.1, or over HTTP/2 (RFC 8441) where OVER is "h2".
// Needs TARGET to be server.mjs or server.py, or a gate in front of one.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { COOKIE, TARGET, behindGate, checkSeen, step } from "../common.mjs";
import { digest, message } from "./messages.mjs";
import { openOverHttp1 } from "./over_http1.mjs";
import { close, openOverHttp2 } from "./over_http2.mjs";

const { OVER = "http/1.1", MESSAGES = "10000" } = process.env;
const open = OVER === "h2" ? openOverHttp2 : openOverHttp1;

/** Opens a path as the visitor. Fails with `refused`, status and body, where there is no WebSocket. */
const visit = (path, { compress = false, protocols = [], headers } = {}) =>
  open(path, { compress, protocols, headers: headers ?? (behindGate ? { Cookie: COOKIE } : {}) });

const text = async (socket) => {
  const { data, binary, ...other } = await socket.received();
  assert.deepEqual([binary, other], [false, {}]);
  return String(data);
};
/** Closes, as a client does that has no more to say. */
const leave = async (socket, code = 1000, reason = "") => {
  socket.close(code, reason);
  assert.deepEqual(await socket.received(), { code, reason });
};
const refusal = async (path, headers) => {
  const error = await visit(path, { headers }).then(() => assert.fail("was admitted"), (error) => error);
  assert.ok(error.refused, error);
  return error.refused;
};

if (behindGate) {
  await step("without a session the upgrade is refused", async () => {
    const { status, headers, body } = await refusal("/echo", {});
    assert.equal(status, 401);
    assert.equal(headers["www-authenticate"], "Bearer");
    assert.equal(JSON.parse(body).status, 401);
  });

  await step("a foreign site's upgrade is refused", async () => {
    const headers = { Cookie: COOKIE, Origin: "https://evil.example" };
    assert.equal((await refusal("/echo", headers)).status, 403);
    const same = { Cookie: COOKIE, Origin: TARGET };
    const socket = await visit("/hello", { headers: same });
    const { headers: seen } = JSON.parse(await text(socket));
    assert.deepEqual(seen.find(([name]) => name.toLowerCase() === "origin")?.[1], TARGET);
    await leave(socket);
  });
}

await step("what the server says first arrives, and it saw the visitor's token", async () => {
  const headers = { Cookie: COOKIE ?? "none=1", Authorization: "Bearer forged" };
  const socket = await visit("/hello", { headers });
  const hello = JSON.parse(await text(socket));
  checkSeen(hello.headers);
  assert.equal(hello.extensions, "");
  await leave(socket);
});

await step("the server's choice of subprotocol and extension holds", async () => {
  const socket = await visit("/hello", { compress: true, protocols: ["other.v2", "echo.v1"] });
  assert.equal(socket.protocol, "echo.v1");
  assert.equal(socket.extensions, "permessage-deflate");
  assert.match(JSON.parse(await text(socket)).extensions, /^permessage-deflate/);
  await leave(socket);
});

for (const compress of [false, true]) {
  await step(`messages come back, ${compress ? "compressed" : "as they are"}`, async () => {
    const count = compress ? MESSAGES / 5 : Number(MESSAGES);
    const socket = await visit("/echo", { compress });
    assert.equal(socket.extensions, compress ? "permessage-deflate" : "");
    const sent = [];
    let bytes = 0;
    const sendAll = async () => {
      for (let number = 0; number < count; number++) {
        const { text, data, fragments } = message(number);
        sent.push(digest(text, data));
        bytes += data.length;
        for (const [at, part] of fragments.entries()) {
          const options = { binary: !text, compress, fin: at === fragments.length - 1 };
          const written = new Promise((resolve) => socket.send(part, options, resolve));
          if (socket.bufferedAmount > 1 << 20) await written;
        }
      }
    };
    const compareAll = async () => {
      for (let number = 0; number < count; number++) {
        const { data, binary, code } = await socket.received();
        assert.equal(code, undefined, `closed after ${number} messages`);
        assert.equal(digest(!binary, data), sent[number], `message ${number}`);
      }
    };
    await Promise.all([sendAll(), compareAll()]);
    await leave(socket);
    return { messages: count, bytes };
  });
}

await step("a ping of either side is answered", async () => {
  const socket = await visit("/ping");
  assert.equal(await text(socket), "pong: still there?");
  socket.ping("and you?");
  assert.deepEqual(await socket.received(), { pong: "and you?" });
  await leave(socket);
});

const FAREWELLS = [
  [1000, ""],
  [1000, "bye"],
  [1001, "going away"],
  [3000, "é€😀"],
  [4401, "sign in again"],
  [4999, "x".repeat(123)],
];

await step("the server's close codes and reasons arrive", async () => {
  for (const [code, reason] of FAREWELLS) {
    const socket = await visit(`/close?code=${code}&reason=${encodeURIComponent(reason)}`);
    assert.deepEqual(await socket.received(), { code, reason });
  }
});

const endOf = async (id) => {
  const socket = await visit(`/end-of?id=${id}`);
  const end = JSON.parse(await text(socket));
  await leave(socket);
  return end;
};

await step("the client's close codes and reasons arrive", async () => {
  for (const [code, reason] of FAREWELLS) {
    const id = randomUUID();
    const socket = await visit(`/echo?id=${id}`);
    await leave(socket, code, reason);
    assert.deepEqual(await endOf(id), { code, reason });
  }
});

await step("a close without a code is one", async () => {
  const id = randomUUID();
  const socket = await visit(`/echo?id=${id}`);
  socket.close();
  assert.equal((await socket.received()).code, 1005);
  assert.equal((await endOf(id)).code, 1005);
});

await step("who breaks off is seen to have broken off", async () => {
  const left = await visit("/vanish");
  assert.equal(await text(left), "going");
  assert.equal((await left.received()).code, 1006);

  const id = randomUUID();
  const leaving = await visit(`/echo?id=${id}`);
  leaving.send("x");
  assert.equal(await text(leaving), "x");
  leaving.terminate();
  assert.equal((await endOf(id)).code, 1006);
});

await step("the app's own refusal arrives", async () => {
  const { status, headers, body } = await refusal("/nothing-here");
  assert.equal(status, 418);
  assert.equal(headers["x-reason"], "tea");
  assert.equal(body, "no coffee");
});

close();
