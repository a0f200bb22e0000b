"""A model of etcd, as far as the parts use it: keys under leases, one transaction, watches that resume."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.network import Network, Process


@dataclass(eq=False)
class Watch:
    process: Process
    life: int
    prefix: str
    notify: Callable[[str, str, Any], None]
    queue: list[tuple[str, str, Any]] = field(default_factory=list)


class Etcd(Process):
    """Linearisable, and never lost: what is tested here is what the parts do with it."""

    def __init__(self, net: Network) -> None:
        super().__init__(net, "etcd")
        self.keys: dict[str, tuple[Any, int | None]] = {}
        self.expires: dict[int, float] = {}
        self.epoch = 0
        self._leases = 0
        self._watches: list[Watch] = []

    def ask(self, caller: Process, request: Callable[[], Any], answer: Callable[[Any], None]) -> None:
        """One request and its answer, either of which may be lost on the way."""

        def serve() -> None:
            if self.net.split(caller, self):
                return
            result = request()
            caller.soon(self.net.delay(), lambda: None if self.net.split(caller, self) else answer(result))

        if not self.net.split(caller, self):
            self.soon(self.net.delay(), serve)

    def grant(self, ttl: float) -> int:
        self._leases += 1
        lease = self._leases
        self.expires[lease] = self.net.clock.now + ttl
        self.net.clock.after(ttl, lambda: self._expire(lease))
        return lease

    def keep_alive(self, lease: int, ttl: float) -> bool:
        if lease not in self.expires:
            return False
        self.expires[lease] = self.net.clock.now + ttl
        self.net.clock.after(ttl, lambda: self._expire(lease))
        return True

    def _expire(self, lease: int) -> None:
        if lease in self.expires and self.net.clock.now >= self.expires[lease] - 1e-9:
            self.revoke(lease)

    def revoke(self, lease: int) -> None:
        self.expires.pop(lease, None)
        for key in [k for k, (_, owner) in self.keys.items() if owner == lease]:
            del self.keys[key]
            self._changed("delete", key, None)

    def delete(self, key: str) -> None:
        if self.keys.pop(key, None):
            self._changed("delete", key, None)

    def put(self, key: str, value: Any, lease: int | None = None) -> bool:
        if lease is not None and lease not in self.expires:
            return False
        self.keys[key] = (value, lease)
        self._changed("put", key, value)
        return True

    def lead(self, key: str, name: str, lease: int) -> int | None:
        """The transaction of an election: takes the key if it is free, and raises the epoch."""
        if key in self.keys or lease not in self.expires:
            return None
        self.epoch += 1
        self.put(key, (name, self.epoch), lease)
        return self.epoch

    def follow(self, process: Process, prefix: str, notify: Callable[[str, str, Any], None]) -> None:
        """All keys below a prefix now, then every change, in order, each after its own delay."""
        watch = Watch(process, process.life, prefix, notify)
        self._watches.append(watch)
        for key, (value, _) in list(self.keys.items()):
            if key.startswith(prefix):
                self._send(watch, "put", key, value)

    def _changed(self, kind: str, key: str, value: Any) -> None:
        for watch in self._watches:
            if key.startswith(watch.prefix):
                self._send(watch, kind, key, value)
        self._watches = [w for w in self._watches if w.life == w.process.life]

    def _send(self, watch: Watch, kind: str, key: str, value: Any) -> None:
        watch.queue.append((kind, key, value))
        if len(watch.queue) == 1:
            self.net.clock.after(self.net.delay(), lambda: self._deliver(watch))

    def _deliver(self, watch: Watch) -> None:
        if self.net.split(watch.process, self):  # the client resumes once it gets through: nothing is lost
            self.net.clock.after(0.1, lambda: self._deliver(watch))
            return
        change = watch.queue.pop(0)
        watch.process._run(watch.life, lambda: watch.notify(*change))
        if watch.queue:
            self.net.clock.after(self.net.delay() / 10, lambda: self._deliver(watch))
