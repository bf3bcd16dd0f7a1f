// A WebSocket of `ws`, opened as `ws` does it.

import { readFileSync } from "node:fs";
import WebSocket from "ws";
import { CA, TARGET } from "../common.mjs";
import { keepAll } from "./inbox.mjs";

const ca = CA && readFileSync(CA);

/** Fails with an error that has `refused` where the answer is another than 101. */
export function openOverHttp1(path, { compress, protocols, headers }) {
  const url = TARGET.replace(/^http/, "ws") + path;
  const options = { headers, ca, perMessageDeflate: compress, maxPayload: 0 };
  const socket = keepAll(new WebSocket(url, protocols, options));
  return new Promise((resolve, reject) => {
    socket.on("open", () => resolve(socket));
    socket.on("error", reject);
    socket.on("unexpected-response", async (_, response) => {
      const connection = response.socket;
      let body = "";
      for await (const part of response) body += part;
      connection.destroy(); // or, kept alive by the other side, it would keep this process alive
      reject(Object.assign(new Error(`refused with ${response.statusCode}`), {
        refused: { status: response.statusCode, headers: response.headers, body },
      }));
    });
  });
}
