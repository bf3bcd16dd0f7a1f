// What a WebSocket receives, kept from the first frame on: one that comes with the handshake's answer is
// there before whoever opened the socket gets to listen.

/** Keeps what `socket`, not open yet, receives. */
export function keepAll(socket) {
  const kept = [];
  const waiting = [];
  const give = (event) => (waiting.length > 0 ? waiting.shift()(event) : kept.push(event));
  socket.on("message", (data, binary) => give({ data, binary }));
  socket.on("pong", (data) => give({ pong: String(data) }));
  socket.on("close", (code, reason) => give({ code, reason: String(reason) }));
  /** The next message, pong or end. */
  socket.received = async () => kept.shift() ?? new Promise((resolve) => waiting.push(resolve));
  return socket;
}
