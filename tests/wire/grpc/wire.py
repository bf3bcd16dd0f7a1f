"""The service of wire.proto, for server and client."""

from google.protobuf.wrappers_pb2 import BytesValue

SERVICE = "wire.Wire"
NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
MESSAGE = "no é€😀 100% 'way'\nat all"
OCTETS = bytes([0, 1, 254, 255])

CODEC = {
    "request_serializer": BytesValue.SerializeToString,
    "response_deserializer": BytesValue.FromString,
}
SERVER_CODEC = {
    "request_deserializer": BytesValue.FromString,
    "response_serializer": BytesValue.SerializeToString,
}


def of(value):
    return BytesValue(value=value if isinstance(value, bytes) else value.encode())


def numbered(number):
    """The `number`th message of a stream."""
    return f"{number}:".ljust(1 + (number % 7) * 1_000, "x").encode()
