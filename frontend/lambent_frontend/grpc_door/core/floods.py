"""What a client may make a server do for nothing: resets, pings, settings, empty frames."""

from typing import Final

from lambent_frontend.grpc_door.core.wire import Code, ConnectionFault

RESETS: Final = 1_000
"""Streams that a client may cancel, or have refused, in a moment (CVE-2023-44487, CVE-2025-8671): as many as
nghttp2 lets it."""
RESETS_PER_S: Final = 200.0

IDLE_FRAMES: Final = 2_000
"""Frames in a moment that bring nothing: pings, settings, empty data, priorities, unknown ones."""
IDLE_FRAMES_PER_S: Final = 200.0

FORGIVEN: Final = 8
"""Such frames that each message forgives: clients that measure the network ping for each round trip."""

WINDOWS_A_FRAME: Final = 64
"""Streams whose window one setting may change at the price of one such frame: a SETTINGS frame has room for
thousands of settings, each of which changes all."""

CONTINUATIONS: Final = 16
"""Of one header block (CVE-2024-27316)."""


class Budget:
    """Refills with time. `spend` takes the time in seconds, of any clock that does not go back."""

    def __init__(self, what: str, most: int, per_s: float) -> None:
        self._what = what
        self._most = float(most)
        self._per_s = per_s
        self._left = float(most)
        self._at: float | None = None

    def spend(self, now: float, number: int = 1) -> None:
        """Raises ConnectionFault if less is left."""
        if self._at is not None:
            self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < number:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"too many {self._what}")
        self._left -= number

    def give(self, number: int) -> None:
        self._left = min(self._most, self._left + number)
