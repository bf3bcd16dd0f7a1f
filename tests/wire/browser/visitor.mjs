// Chromium as a client of site.mjs: server-sent events and WebSockets, over HTTP/1.1 or, where TARGET is https,
// over HTTP/2. CHROMIUM names the program.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { COOKIE, TARGET, behindGate, checkSeen, step } from "../common.mjs";

const { CHROMIUM = "/usr/bin/chromium" } = process.env;
const secure = TARGET.startsWith("https:");
const directory = await mkdtemp(join(tmpdir(), "foregate-wire-"));
const netLog = join(directory, "net-log.json");

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.example.com 127.0.0.1",
    `--log-net-log=${netLog}`,
  ],
});
// What the certificate is worth the other clients find out.
const context = await browser.newContext({ ignoreHTTPSErrors: true });
if (behindGate) {
  const cookies = COOKIE.split("; ").map((pair) => pair.split(/=(.*)/s));
  await context.addCookies(
    cookies.map(([name, value]) => ({ name, value, domain: ".example.com", path: "/" })),
  );
}
const page = await context.newPage();

await step("the page loads", async () => {
  const answer = await page.goto(`${TARGET}/`);
  assert.equal(answer.status(), 200);
  const protocol = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
  assert.equal(protocol, secure && behindGate ? "h2" : "http/1.1");
  return { protocol };
});

await step("each event arrives before the next is sent, and none twice after a reconnection", async () => {
  const { events, summary } = await page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const source = new EventSource("/events");
        const events = [];
        source.onmessage = async ({ data, lastEventId }) => {
          events.push([lastEventId, data]);
          const answer = await fetch(`/arrived?number=${lastEventId}`, { method: "POST" });
          if (answer.status !== 204) reject(new Error(`said arrived: ${answer.status}`));
        };
        source.onerror = () => source.readyState === EventSource.CLOSED && reject(new Error("closed"));
        source.addEventListener("summary", ({ data }) => {
          source.close();
          resolve({ events, summary: JSON.parse(data) });
        });
      }),
  );
  const wanted = Array.from({ length: 15 }, (_, at) => [String(at + 1), `event ${at + 1}\nof 15`]);
  assert.deepEqual(events, wanted);
  assert.deepEqual(summary.map(({ last }) => last), [0, 5, 10]);
  for (const { headers } of summary) checkSeen(headers);
  return { events: events.length };
});

await step("a page's WebSocket echoes", async () => {
  const { seen, extensions, texts, sizes, end } = await page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`${location.origin.replace("http", "ws")}/echo`);
        socket.binaryType = "arraybuffer";
        const [texts, sizes] = [[], []];
        let seen;
        socket.onmessage = ({ data }) => {
          if (!seen) {
            seen = JSON.parse(data);
            for (let number = 0; number < 500; number++) {
              socket.send(`é€😀 ${number}`);
              socket.send(new Uint8Array(number * 100));
            }
            return;
          }
          if (typeof data === "string") texts.push(data);
          else sizes.push(data.byteLength);
          if (sizes.length === 500) socket.close(4401, "enough");
        };
        socket.onclose = ({ code, reason, wasClean }) =>
          resolve({ seen, extensions: socket.extensions, texts, sizes, end: { code, reason, wasClean } });
        socket.onerror = () => reject(new Error("the WebSocket failed"));
      }),
  );
  checkSeen(seen);
  assert.match(extensions, /^permessage-deflate/);
  const numbers = Array.from({ length: 500 }, (_, number) => number);
  assert.deepEqual(texts, numbers.map((number) => `é€😀 ${number}`));
  assert.deepEqual(sizes, numbers.map((number) => number * 100));
  assert.deepEqual(end, { code: 4401, reason: "enough", wasClean: true });
  return { messages: 1000 };
});

await browser.close();
await step("the browser's own log tells by which protocol the WebSocket went", async () => {
  const extended = (await readFile(netLog, "utf8")).includes(":protocol: websocket");
  assert.equal(extended, secure && behindGate);
});
await rm(directory, { recursive: true });
