// The service of wire.proto, for server and client.

import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const definition = loader.loadSync(new URL("wire.proto", import.meta.url).pathname, { defaults: true });
export const Wire = grpc.loadPackageDefinition(definition).wire.Wire;

export const of = (value) => ({ value: Buffer.from(value) });

/** The `number`th message of a stream. */
export const numbered = (number) => Buffer.from(`${number}:`.padEnd(1 + (number % 7) * 1_000, "x"));

export const NO_LIMIT = { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 };
export const MESSAGE = "no é€😀 100% 'way'\nat all";
export const CODE = grpc.status.FAILED_PRECONDITION;
