"""How much of one streamed answer may be on its way to its caller: the decisions alone.

The caller's frontend gives a window, and room again as its caller takes. While there is none the instance is
not read, so that its function waits in its own write, as it would for a slow disk.
"""


class Flow:
    def __init__(self, window: int) -> None:
        """`window` in bytes."""
        self.heard = True
        """Somebody waits for the parts. Else they are read and dropped: no function is stopped for that."""
        self._room = window

    @property
    def full(self) -> bool:
        """Nothing more shall be read. What one read brought may have gone over the window."""
        return self.heard and self._room <= 0

    def sent(self, size: int) -> None:
        self._room -= size

    def taken(self, size: int) -> None:
        """The caller has taken so much."""
        self._room += size

    def unheard(self) -> None:
        self.heard = False
