// A gRPC server on npm's `@grpc/grpc-js`. Plain, or with TLS where CERT and KEY name files.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import { CODE, MESSAGE, NO_LIMIT, Wire, numbered, of } from "./wire.mjs";

const trailing = (name) => {
  const metadata = new grpc.Metadata();
  metadata.set(name, "because");
  metadata.set(`${name}-bin`, Buffer.from([0, 1, 254, 255]));
  return metadata;
};
const failure = () => ({ code: CODE, details: MESSAGE, metadata: trailing("x-why") });

/** What the client's giving up fulfils, by the name of its call. */
const ends = new Map();
function end(name) {
  if (!ends.has(name)) {
    const end = {};
    end.told = new Promise((resolve) => (end.tell = resolve));
    ends.set(name, end);
  }
  return ends.get(name);
}

const methods = {
  Echo(call, answer) {
    const initial = new grpc.Metadata();
    initial.set("x-first", "one");
    call.sendMetadata(initial);
    answer(null, call.request, trailing("x-last"));
  },
  Seen(call, answer) {
    const headers = Object.entries(call.metadata.toHttp2Headers())
      .flatMap(([name, values]) => [values].flat().map((value) => [name, value]));
    const deadline = Number.isFinite(Number(call.getDeadline()));
    answer(null, of(JSON.stringify({ headers, deadline })));
  },
  async Down(call) {
    for (let number = 0; number < Number(call.request.value); number++)
      if (!call.write({ value: numbered(number) }))
        await new Promise((resolve) => call.once("drain", resolve));
    call.end();
  },
  async Up(call, answer) {
    const hash = createHash("sha256");
    let count = 0;
    for await (const { value } of call) {
      hash.update(value);
      count += 1;
    }
    answer(null, of(JSON.stringify({ count, hash: hash.digest("hex") })));
  },
  Both(call) {
    call.on("data", (message) => call.write(message));
    call.on("end", () => call.end());
  },
  Fail: (_, answer) => answer(failure()),
  FailLate(call) {
    for (let number = 0; number < 3; number++) call.write({ value: numbered(number) });
    call.emit("error", failure());
  },
  Hang(call) {
    call.on("cancelled", () => end(String(call.request.value)).tell());
    call.write(of("hanging"));
  },
  async EndOf(call, answer) {
    await end(String(call.request.value)).told;
    answer(null, of("given up"));
  },
};

const { CERT, KEY } = process.env;
const credentials = CERT
  ? grpc.ServerCredentials.createSsl(null, [
      { cert_chain: readFileSync(CERT), private_key: readFileSync(KEY) },
    ])
  : grpc.ServerCredentials.createInsecure();
const server = new grpc.Server(NO_LIMIT);
server.addService(Wire.service, methods);
server.bindAsync("127.0.0.1:0", credentials, (error, port) => {
  if (error) throw error;
  console.log(JSON.stringify({ port }));
});
