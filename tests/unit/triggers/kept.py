"""What is kept of a trigger, in the place of etcd."""


class InMemory:
    def __init__(
        self, places: dict[str, str] | None = None, failures: dict[str, bytes] | None = None
    ) -> None:
        """Both are written into."""
        self.kept_places = {} if places is None else places
        self.kept_failures = {} if failures is None else failures

    async def places(self) -> dict[str, str]:
        return dict(self.kept_places)

    async def place(self, line: str, at: str) -> None:
        self.kept_places[line] = at

    async def failures(self) -> dict[str, bytes]:
        return dict(self.kept_failures)

    async def keep_failures(self, line: str, failures: bytes) -> None:
        self.kept_failures[line] = failures
