"""The messages of messages.mjs, byte for byte."""

import hashlib

EDGES = [0, 1, 2, 3, 125, 126, 127, 128, 4095, 4096, 4097]
LARGE = [65_535, 65_536, 65_537]
HUGE = 1 << 20


def message(number):
    """Whether the message is text, its bytes, and the fragments in which it goes."""
    size = size_of(number)
    text = number % 2 == 1
    data = words(number, size) if text else octets(number, size)
    return text, data, thirds(data) if number % 5 == 0 else [data]


def size_of(number):
    if number % 2_499 == 2_498:
        return HUGE
    if number % 101 == 100:
        return LARGE[number // 101 % len(LARGE)]
    if number % 3 == 0:
        return EDGES[number // 3 % len(EDGES)]
    return number * 7_919 % 2_048


def octets(number, size):
    return hashlib.shake_128(str(number).encode()).digest(size)


def words(number, size):
    plain = octets(number, (size + 1) // 2).hex()
    start = "aé€😀".encode() if size >= 10 else b""
    return start + plain[: size - len(start)].encode()


def thirds(data):
    first, second = len(data) // 3, len(data) * 2 // 3
    return [data[:first], data[first:second], data[second:]]


def digest(text, data):
    return hashlib.sha256((b"text" if text else b"binary") + data).hexdigest()
