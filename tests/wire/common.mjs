// What the clients and servers of this directory share. Clients read from the environment: TARGET, the origin
// that is asked (http://app.example.com:8080); CA, a PEM file; COOKIE, a session; BEARER, the token that the app
// must get for it. Without COOKIE a client speaks with the server itself, and skips what only a gate can show.

import assert from "node:assert/strict";
import dns from "node:dns";

export const { TARGET, COOKIE, BEARER, CA } = process.env;
export const behindGate = COOKIE !== undefined;

// Every name under example.com is this machine.
const lookup = dns.lookup;
dns.lookup = (host, ...rest) => lookup(host.endsWith(".example.com") ? "127.0.0.1" : host, ...rest);

/** Does one step and prints a line of JSON about it; the first that fails ends the client. */
export async function step(name, act) {
  const line = { name, ok: true };
  const late = setTimeout(() => finish(new Error("took too long")), 60_000);
  const finish = (error) => {
    if (error) Object.assign(line, { ok: false, error: [error.stack ?? error, error.cause].join(" ") });
    console.log(JSON.stringify(line));
    if (error) process.exit(1);
  };
  try {
    Object.assign(line, await act());
    finish();
  } catch (error) {
    finish(error);
  } finally {
    clearTimeout(late);
  }
}

/** Listens on any free port of loopback and says which. */
export function listen(server) {
  server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
}

/** What every app behind the gate may rely on, whichever protocol brought the request. */
export function checkSeen(headers) {
  if (!behindGate) return;
  const seen = (wanted) => headers.filter(([name]) => name.toLowerCase() === wanted).map(([, value]) => value);
  const { host, protocol } = new URL(TARGET);
  assert.deepEqual(seen("authorization"), [`Bearer ${BEARER}`]);
  assert.deepEqual(seen("x-forwarded-for"), ["127.0.0.1"]);
  assert.deepEqual(seen("x-forwarded-proto"), [protocol.slice(0, -1)]);
  assert.deepEqual(seen("x-forwarded-host"), [host]);
  assert.equal(seen("cookie").length, 1);
}

/** Node's flat list of names and values, as pairs. */
export const pairs = (raw) =>
  raw.flatMap((name, at) => (at % 2 === 0 ? [[name, raw[at + 1]]] : []));
