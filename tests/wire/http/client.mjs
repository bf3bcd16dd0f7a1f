// Node's `fetch` (HTTP/1.1). Over TLS it needs the CA's file in NODE_EXTRA_CA_CERTS, too.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { COOKIE, TARGET, behindGate, checkSeen, step } from "../common.mjs";

const SIZE = 5_000_000;
const visit = (path, { headers, ...options } = {}) =>
  fetch(TARGET + path, { headers: { ...(behindGate && { cookie: COOKIE }), ...headers }, ...options });
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const body = randomBytes(SIZE);

if (behindGate) {
  await step("without a session", async () => {
    const response = await fetch(`${TARGET}/seen`);
    assert.equal(response.status, 401);
    assert.equal(response.headers.get("content-type"), "application/problem+json");
    assert.equal((await response.json()).status, 401);
  });
}

await step("GET", async () => {
  const response = await visit("/seen?a=1&a=%20", { headers: { authorization: "Bearer forged", "x-own": "é" } });
  const { method, url, headers } = await response.json();
  assert.deepEqual([response.status, method, url], [200, "GET", "/seen?a=1&a=%20"]);
  assert.deepEqual(headers.filter(([name]) => name === "x-own"), [["x-own", "é"]]);
  checkSeen(headers);
});

await step("POST of JSON", async () => {
  const sent = { text: "é€😀", list: [1, 2.5, null] };
  const headers = { "content-type": "application/json" };
  const response = await visit("/json", { method: "POST", body: JSON.stringify(sent), headers });
  assert.deepEqual(await response.json(), { got: sent });
});

await step("uploads, with a length and in chunks", async () => {
  const whole = await (await visit("/upload", { method: "POST", body })).json();
  assert.deepEqual([whole.bytes, whole.sha256, whole.announced], [SIZE, sha256(body), String(SIZE)]);
  const stream = new Blob([body]).stream();
  const chunked = await (await visit("/upload", { method: "PUT", body: stream, duplex: "half" })).json();
  assert.deepEqual([chunked.bytes, chunked.sha256, chunked.announced], [SIZE, sha256(body), null]);
  return { bytes: 2 * SIZE };
});

await step("downloads, with a length and in chunks", async () => {
  const whole = await visit(`/download?bytes=${SIZE}`);
  assert.equal(whole.headers.get("content-length"), String(SIZE));
  const hash = sha256(Buffer.from(await whole.arrayBuffer()));
  assert.equal(hash, whole.headers.get("x-sha256"));
  const chunked = await visit(`/download?bytes=${SIZE}&chunked`);
  assert.equal(chunked.headers.get("content-length"), null);
  assert.equal(sha256(Buffer.from(await chunked.arrayBuffer())), hash);
  return { bytes: 2 * SIZE };
});

await step("twenty at once", async () => {
  const answers = await Promise.all(
    Array.from({ length: 20 }, async (_, number) => {
      const response = await visit(`/download?bytes=${number * 10_001}`);
      return sha256(Buffer.from(await response.arrayBuffer())) === response.headers.get("x-sha256");
    }),
  );
  assert.ok(answers.every(Boolean));
});

await step("answers without a body", async () => {
  const head = await visit(`/download?bytes=${SIZE}`, { method: "HEAD" });
  assert.deepEqual([head.status, head.headers.get("content-length")], [200, String(SIZE)]);
  const none = await visit("/no-content");
  assert.deepEqual([none.status, none.headers.get("x-kind"), await none.text()], [204, "none", ""]);
  const known = await visit("/tagged", { headers: { "if-none-match": '"v1"' } });
  assert.deepEqual([known.status, known.headers.get("etag"), await known.text()], [304, '"v1"', ""]);
  assert.equal(await (await visit("/tagged")).text(), "version 1");
});

await step("cookies and redirects of the app", async () => {
  const cookies = await visit("/cookies");
  assert.deepEqual(cookies.headers.getSetCookie(), ["a=1; Path=/", "b=2; Path=/; HttpOnly"]);
  const moved = await visit("/moved");
  assert.equal(moved.url, `${TARGET}/seen?moved`);
  assert.equal((await moved.json()).url, "/seen?moved");
});
