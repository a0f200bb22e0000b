"""What a client may send and how slow it may be. Sizes in bytes, times in seconds."""

from typing import Final

from lambent_proto.ids import MAX_PAYLOAD_BYTES

HEAD: Final = 64 * 1024
"""Request line and headers. A signed request of an AWS client has one or two thousand, and the largest client
context 3,583 more."""

INVOKE_BODY: Final = MAX_PAYLOAD_BYTES
PACKAGE_BODY: Final = 70_167_211
"""Lambda's own limit for a request with a ZIP in it, which is 52,428,800 bytes in base64 and the rest."""
SMALL_BODY: Final = 1024 * 1024
"""Of what has no package in it: names, an environment of 4 KB, tags."""

CONNECTIONS: Final = 10_000
"""At one time."""

HELD: Final = 512 * 1024 * 1024
"""Of all bodies that are being read and answered, and of answers that are not read. A connection that would
go over it is told to come again."""

SHARE: Final = HELD // 2
"""Of that, what all function URLs together may take, so that strangers leave room to the API."""

UNASKED: Final = 16 * 1024
"""Of a body that is taken before it is known whose it is: of all connections together far less than HELD."""

COMING: Final = HELD // 2
"""Of the bodies that are still coming of one access key, so that its slow ones leave room to others."""

UNPROVED: Final = COMING * 3 // 4
"""The same of one access key and one address, where the head does not prove that its sender has the key:
AWS's clients sign their body's hash and do not send it. Who knows but a key's id leaves a quarter."""

HEAD_S: Final = 20.0
"""From the first byte of a request, or from the beginning of a connection, to the end of the headers."""

IDLE_S: Final = 120.0
"""How long a connection is kept for its next request."""

BODY_S: Final = 20.0
"""What a body may take at least; a larger one more, at BODY_RATE."""

BODY_RATE: Final = 64 * 1024
"""Bytes a second that a body has to bring."""

SEND_S: Final = 60.0
"""How long a client may leave an answer unread that fills its connection."""

LINGER_S: Final = 20.0
"""How long what a refused client still sends is read and dropped, so that it comes to read its answer."""

DROPPED: Final = 128 * 1024 * 1024
"""How much of it is."""
