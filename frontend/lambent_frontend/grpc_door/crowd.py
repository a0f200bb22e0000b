"""Who may still connect: how many connections there are, of all and of each address."""

from collections import Counter


class Crowd:
    """Of at most so many connections, of which one address may have half."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all = 0
        self._of: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def enter(self, host: str) -> bool:
        """Counts one, which has to leave in any case; False if there were enough."""
        self._all += 1
        self._of[host] += 1
        if self._all <= self._most and self._of[host] <= self._most // 2:
            return True
        self._refused[host] += 1
        return False

    def leave(self, host: str) -> None:
        self._all -= 1
        self._of[host] -= 1
        if not self._of[host]:
            del self._of[host]

    def refused(self) -> dict[str, object]:
        """For the log: how many, and who most often, since it was last asked; empty if nobody was."""
        if not self._refused:
            return {}
        (most, _), *_rest = self._refused.most_common(1)
        said = {"count": self._refused.total(), "most_of": most, "open": self._all}
        self._refused.clear()
        return said
