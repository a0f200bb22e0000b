"""The shards of the fleet as a frontend sees them: a driver for each, which knows nothing of the others.

So what happens to one shard, its leader and its workers is nothing to the calls of the others.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from lambent_frontend.calls import Answer, Call, Counted, Explained
from lambent_frontend.driver import Driver
from lambent_proto.definition import Definition
from lambent_proto.errors import LambentError
from lambent_proto.ids import FunctionName, RequestId
from lambent_proto.shards import shard_of


class Shards:
    """The `Dispatcher` of the public services: a call goes to the shard of its function."""

    def __init__(self, drivers: Sequence[Driver]) -> None:
        """In the order of their numbers."""
        self._drivers = drivers

    @property
    def counts(self) -> Counter[Counted]:
        """Of all shards together."""
        together: Counter[Counted] = Counter()
        for driver in self._drivers:
            together.update(driver.counts)
        return together

    def submit(self, call: Call, done: Callable[[Answer | LambentError], None]) -> None:
        self._of(call.definition.name).submit(call, done)

    def taken(self, request_id: RequestId, size: int) -> None:
        for driver in self._drivers:  # one of them knows it, if any
            driver.taken(request_id, size)

    def abandon(self, request_id: RequestId) -> None:
        for driver in self._drivers:  # one of them knows it, if any
            driver.abandon(request_id)

    def under_way(self, request_id: RequestId) -> bool:
        return any(driver.under_way(request_id) for driver in self._drivers)

    def explain(self, request_id: RequestId) -> Explained | None:
        found = (driver.explain(request_id) for driver in self._drivers)
        return next((it for it in found if it is not None), None)

    def function_changed(self, name: FunctionName, before: Definition | None, now: Definition | None) -> None:
        """The catalogue's news."""
        self._of(name).function_changed(name, before, now)

    def frontends_counted(self, number: int) -> None:
        for driver in self._drivers:
            driver.frontends_counted(number)

    def concurrency_set(self, concurrency: int) -> None:
        """The fleet's."""
        for driver in self._drivers:
            driver.concurrency_set(concurrency)

    def tick(self) -> None:
        for driver in self._drivers:
            driver.tick()

    def _of(self, function: FunctionName) -> Driver:
        return self._drivers[shard_of(function, len(self._drivers))]
