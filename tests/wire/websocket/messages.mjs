// The messages of the echo test: all sizes at which a frame's head changes, the same in every run.

import { createHash } from "node:crypto";

const EDGES = [0, 1, 2, 3, 125, 126, 127, 128, 4095, 4096, 4097];
const LARGE = [65_535, 65_536, 65_537];
const HUGE = 1 << 20;

/** The `number`th message. */
export function message(number) {
  const size = sizeOf(number);
  const text = number % 2 === 1;
  const data = text ? words(number, size) : bytes(number, size);
  // Every fifth goes in three fragments.
  return { text, data, fragments: number % 5 === 0 ? thirds(data) : [data] };
}

function sizeOf(number) {
  if (number % 2_499 === 2_498) return HUGE;
  if (number % 101 === 100) return LARGE[Math.floor(number / 101) % LARGE.length];
  if (number % 3 === 0) return EDGES[Math.floor(number / 3) % EDGES.length];
  return (number * 7_919) % 2_048;
}

const bytes = (number, size) =>
  size === 0
    ? Buffer.alloc(0)
    : createHash("shake128", { outputLength: size }).update(String(number)).digest();

/** UTF-8 with characters of every length, which fragments cut in two. */
function words(number, size) {
  const plain = bytes(number, Math.ceil(size / 2)).toString("hex").slice(0, size);
  const start = size >= 10 ? "aé€😀" : "";
  return Buffer.from(start + plain.slice(0, size - Buffer.byteLength(start)));
}

export function thirds(data) {
  const [first, second] = [Math.floor(data.length / 3), Math.floor((data.length * 2) / 3)];
  return [data.subarray(0, first), data.subarray(first, second), data.subarray(second)];
}

export const digest = (text, data) =>
  createHash("sha256").update(text ? "text" : "binary").update(data).digest("hex");
