"""Transport options of every gRPC server and channel of ours, so that a dead peer is noticed on both sides.

Measured with grpcio 1.85: without `ping_timeout_ms` a peer that is stopped (not gone) is not noticed at all;
with it, in 3 to 6 seconds after the ping.
"""

from typing import Final

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""A ZIP of 50 MB in one message, and room for batches of payloads."""

_LINK: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Servers commonly send away a client that pings more often than every 5 s, this one included.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

SERVER: Final = (
    *_LINK,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # Two processes on one port would share its connections without a word; a taken port is an error.
    ("grpc.so_reuseport", 0),
)

SHARING: Final = tuple((name, value or int(name == "grpc.so_reuseport")) for name, value in SERVER)
"""Of a server that is meant to share its port with others."""

CHANNEL: Final = (
    *_LINK,
    # What may have run is not ours to send again.
    ("grpc.enable_retries", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # A part that comes back is met again at once: neither a long pause after a refusal, nor another
    # channel's pause.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    # The machine's proxy is for the way out, and a fleet is inside.
    ("grpc.enable_http_proxy", 0),
)
