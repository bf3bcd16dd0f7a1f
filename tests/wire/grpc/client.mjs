// A gRPC client on npm's `@grpc/grpc-js`. TARGET is a server, or a gate in front of one.

import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import { CA, COOKIE, TARGET, behindGate, checkSeen, step } from "../common.mjs";
import { CODE, MESSAGE, NO_LIMIT, Wire, numbered, of } from "./wire.mjs";

const { host, hostname, port, protocol } = new URL(TARGET);
const credentials =
  protocol === "https:" ? grpc.credentials.createSsl(readFileSync(CA)) : grpc.credentials.createInsecure();
const client = new Wire(`127.0.0.1:${port}`, credentials, {
  ...NO_LIMIT,
  "grpc.default_authority": host,
  ...(protocol === "https:" && { "grpc.ssl_target_name_override": hostname }),
});

const visitor = () => {
  const metadata = new grpc.Metadata();
  if (behindGate) metadata.set("cookie", COOKIE);
  return metadata;
};
/** A call with one answer: the answer, its status, and the metadata in front. */
const unary = (method, value, { metadata = visitor(), deadline } = {}) =>
  new Promise((resolve) => {
    const seen = {};
    const call = client[method](of(value), metadata, { deadline }, (error, answer) => {
      Object.assign(seen, { error, value: answer?.value });
    });
    call.on("metadata", (initial) => (seen.initial = initial));
    call.on("status", (status) => resolve(Object.assign(seen, { status })));
  });
const isFailure = ({ code, details, metadata }) => {
  assert.equal(code, CODE);
  assert.equal(details, MESSAGE);
  assert.deepEqual(metadata.get("x-why"), ["because"]);
  assert.deepEqual(metadata.get("x-why-bin"), [Buffer.from([0, 1, 254, 255])]);
};
const failed = async (call) => (await once(call, "error"))[0];

if (behindGate) {
  await step("a call without a session is unauthenticated", async () => {
    const { status } = await unary("Echo", "x", { metadata: new grpc.Metadata() });
    assert.equal(status.code, grpc.status.UNAUTHENTICATED, status.details);
  });
}

await step("one message there and back, with metadata before and after", async () => {
  const { error, value, initial, status } = await unary("Echo", "ping");
  assert.ifError(error);
  assert.equal(String(value), "ping");
  assert.deepEqual(initial.get("x-first"), ["one"]);
  assert.deepEqual(status.metadata.get("x-last"), ["because"]);
  assert.deepEqual(status.metadata.get("x-last-bin"), [Buffer.from([0, 1, 254, 255])]);
});

await step("the server sees the visitor's token and the deadline", async () => {
  const { value } = await unary("Seen", "", { deadline: Date.now() + 50_000 });
  const { headers, deadline } = JSON.parse(value);
  checkSeen(headers);
  assert.equal(deadline, true);
  assert.equal(JSON.parse((await unary("Seen", "")).value).deadline, false);
});

await step("large messages", async () => {
  for (const size of [0, 16_384, 65_536, 8 << 20]) {
    const { error, value } = await unary("Echo", Buffer.alloc(size, 7));
    assert.ifError(error);
    assert.ok(value.equals(Buffer.alloc(size, 7)), `${size} bytes`);
  }
});

await step("a stream from the server", async () => {
  let number = 0;
  for await (const { value } of client.Down(of("1000"), visitor()))
    assert.ok(value.equals(numbered(number)), `message ${number++}`);
  assert.equal(number, 1000);
  return { messages: number };
});

await step("a stream to the server", async () => {
  const hash = createHash("sha256");
  const answer = new Promise((resolve, reject) => {
    const call = client.Up(visitor(), (error, answer) => (error ? reject(error) : resolve(answer)));
    for (let number = 0; number < 1000; number++) {
      hash.update(numbered(number));
      call.write({ value: numbered(number) });
    }
    call.end();
  });
  assert.deepEqual(JSON.parse((await answer).value), { count: 1000, hash: hash.digest("hex") });
  return { messages: 1000 };
});

await step("both ways at once, each message sent after the answer to the last", async () => {
  const call = client.Both(visitor());
  const answers = call[Symbol.asyncIterator]();
  for (let number = 0; number < 200; number++) {
    call.write({ value: numbered(number) });
    assert.ok((await answers.next()).value.value.equals(numbered(number)), `message ${number}`);
  }
  call.end();
  assert.equal((await answers.next()).done, true);
  return { messages: 200 };
});

await step("an error comes as trailers, alone and behind messages", async () => {
  isFailure((await unary("Fail", "")).status);
  const call = client.FailLate(of(""), visitor());
  const values = [];
  call.on("data", ({ value }) => values.push(value));
  isFailure(await failed(call));
  assert.deepEqual(values, [numbered(0), numbered(1), numbered(2)]);
});

await step("a deadline ends the call on both sides", async () => {
  const name = randomUUID();
  const call = client.Hang(of(name), visitor(), { deadline: Date.now() + 500 });
  assert.equal(String((await once(call, "data"))[0].value), "hanging");
  assert.equal((await failed(call)).code, grpc.status.DEADLINE_EXCEEDED);
  assert.equal(String((await unary("EndOf", name)).value), "given up");
});

await step("the server sees that the client gave up", async () => {
  const name = randomUUID();
  const call = client.Hang(of(name), visitor());
  assert.equal(String((await once(call, "data"))[0].value), "hanging");
  call.cancel();
  assert.equal((await failed(call)).code, grpc.status.CANCELLED);
  assert.equal(String((await unary("EndOf", name)).value), "given up");
});

client.close();
