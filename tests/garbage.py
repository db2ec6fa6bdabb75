"""Frames that are not valid: as websocket, as Engine.IO, as Socket.IO."""

from tests.wires import BINARY, CLOSE, PING, frame

MAX_PAYLOAD = 131_072
DEEP = "[" * 5000 + "]" * 5000


def two(first: str, second: bytes | str) -> bytes:
    """A text frame, and a binary one behind it (another text if `second` is text)."""
    opcode = BINARY if isinstance(second, bytes) else 1
    return frame(first) + frame(second, opcode)


# What ends a connection in any state, and what ends one that is in namespace `/`.
WEBSOCKET: dict[str, bytes] = {
    "reserved bit 1": frame("3", reserved=4),
    "reserved bit 2": frame("3", reserved=2),
    "reserved bit 3": frame("3", reserved=1),
    "unknown opcode 3": frame("3", 3),
    "unknown opcode 11": frame("3", 11),
    "fragmented control frame": frame("", PING, final=False),
    "control frame of 126 bytes": frame("x" * 126, PING),
    "continuation of nothing": frame("3", 0),
    "text inside a fragmented text": frame("4", final=False) + frame("3"),
    "one byte as close code": frame(b"\x03", CLOSE),
    "close code out of range": frame((999).to_bytes(2, "big"), CLOSE),
    "larger than maxPayload": frame("4" + "x" * MAX_PAYLOAD),
    "fragments larger than maxPayload": frame("4" + "x" * 70_000, final=False)
    + frame("x" * 70_000, 0),
    "length of 2^63": b"\x81\xff" + (2**63).to_bytes(8, "big") + b"mask",
    "not a websocket at all": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}
ENGINE: dict[str, bytes] = {
    "empty text": frame(""),
    "client's ping of Engine.IO 3": frame("2"),
    "opening from a client": frame('0{"sid":"x"}'),
    "unknown type 7": frame("7"),
    "unknown type x": frame("x"),
    "only the message type": frame("4"),
    "bad UTF-8": frame(b"4\xff\xfe"),
    "bad UTF-8 in a name": frame(b'42["\xc3\x28"]'),
    "overlong UTF-8": frame(b'42["\xc0\xaf"]'),
    "unexpected binary": frame(b"\x00\x01", BINARY),
    "empty binary": frame(b"", BINARY),
}
SOCKET: dict[str, bytes] = {
    "event without an array": frame("42"),
    "event with only an id": frame("421"),
    "truncated JSON": frame('42["presence:ping",{"t":1'),
    "trailing text": frame('42["presence:ping"]x'),
    "event that is an object": frame('42{"0":"presence:ping"}'),
    "empty event": frame("42[]"),
    "name is a number": frame("42[1]"),
    "name is null": frame("42[null]"),
    "name is a list": frame('42[["presence:ping"]]'),
    "reserved name connect": frame('42["connect"]'),
    "reserved name disconnect": frame('42["disconnect",{}]'),
    "reserved name connect_error": frame('421["connect_error"]'),
    "negative id": frame('42-1["presence:ping"]'),
    "id of 17 digits": frame("42" + "9" * 17 + '["presence:ping"]'),
    "id in Arabic digits": frame('42\u0661["presence:ping"]'),
    "raw NUL in a text": frame('42["presence:ping",{"t":"\x00"}]'),
    "5000 levels deep": frame('42["presence:ping",' + DEEP + "]"),
    "5000 levels deep in an object": frame('42["x",' + '{"a":' * 5000 + "1" + "}" * 5001 + "]"),
    "unknown packet 7": frame("47"),
    "unknown packet 9": frame('49["x"]'),
    "connect_error from a client": frame('44{"message":"x"}'),
    "ack that is no array": frame('431{"a":1}'),
    "ack with broken JSON": frame("431[1"),
    "event of a namespace not joined": frame('42/other,["presence:ping"]'),
    "ack of a namespace not joined": frame("43/other,1[]"),
    "17 attachments": frame('4517-["presence:ping",{}]'),
    "a million attachments": frame('451000000-["presence:ping",{}]'),
    "12 digits of attachments": frame('45999999999999-["presence:ping",{}]'),
    "attachments without JSON": two("451-", b"x"),
    "placeholder out of range": two('451-["x",{"_placeholder":true,"num":1}]', b"x"),
    "placeholder far out of range": two('451-["x",{"_placeholder":true,"num":1e300}]', b"x"),
    "placeholder is text": two('451-["x",{"_placeholder":true,"num":"0"}]', b"x"),
    "name is an attachment": two('451-[{"_placeholder":true,"num":0}]', b"presence:ping"),
    "reserved name with an attachment": two('451-["connect",{"_placeholder":true,"num":0}]', b"x"),
    "text where an attachment is due": two('451-["x",{"_placeholder":true,"num":0}]', "42/,[1]"),
    "more attachments than announced": two('450-["presence:ping"]', b"x"),
}

UNREADABLE: dict[str, str] = {
    "NaN": '{"t":NaN}',
    "Infinity": '{"t":-Infinity}',
    "1e999": '{"t":1e999}',
    "lone surrogate": '{"t":"\\ud800"}',
    "surrogates in the wrong order": '{"t":"\\udc00\\ud800"}',
    "lone surrogate as a name": '{"\\udfff":1}',
}
"""Payloads that are JSON by their form only: JavaScript and Python write some of them."""
