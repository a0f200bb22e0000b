"""One SQLite connection on a thread of its own; what many callers write at one time shares one transaction.

So an event costs a part of an fsync, and the event loop waits for no disk. A batch's writes come before its
reads, and whoever reads sees all that was answered before. Where a batch fails each of its writes is done
alone: one that there is no room for takes no other with it.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from lambent_proto.errors import LambentError, NotReady, QueueFull

MOST_TOGETHER: Final = 512
MOST_BYTES: Final = 4 * 1024 * 1024
"""Jobs and bytes in a transaction, so that the first of them does not wait for long."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class _Job(NamedTuple):
    work: Work[Any]
    writes: bool
    size: int
    done: asyncio.Future[Any]


class GroupCommit:
    def __init__(self, connection: sqlite3.Connection) -> None:
        """`connection` must be one that may change threads, without transactions of its own."""
        self._connection = connection
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="lambent-queue", daemon=True)
        self._thread.start()
        self.commits = 0

    async def write(self, work: Work[T], size: int = 0) -> T:
        """Returns once it is on disk; `size` is how many bytes that are, about. Raises QueueFull, or NotReady
        when SQLite fails.
        """
        return await self._given(work, size, writes=True)

    async def read(self, work: Work[T]) -> T:
        """Raises NotReady when SQLite fails."""
        return await self._given(work, 0, writes=False)

    async def close(self) -> None:
        """What has been given is done first."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _given(self, work: Work[T], size: int, *, writes: bool) -> T:
        done: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, writes, size, done))
        return await done

    # On the thread

    def _run(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._gathered()
            if batch:
                results = self._together([it for it in batch if it.writes])
                results += [(it, self._alone(it)) for it in batch if not it.writes]
                self._loop.call_soon_threadsafe(_tell, results)
        self._connection.close()

    def _gathered(self) -> tuple[list[_Job], bool]:
        """What there is, one job at least, and whether that was all there will ever be."""
        batch: list[_Job] = []
        size = 0
        while (job := self._jobs.get()) is not None:
            batch.append(job)
            size += job.size
            if len(batch) == MOST_TOGETHER or size >= MOST_BYTES or self._jobs.empty():
                return batch, False
        return batch, True

    def _together(self, jobs: list[_Job]) -> list[tuple[_Job, Any]]:
        if len(jobs) > 1:
            try:
                return self._in_one_transaction(jobs)
            except Exception:  # noqa: BLE001 - each has its own chance, and its own error, alone
                self._roll_back()
        return [(job, self._alone(job)) for job in jobs]

    def _in_one_transaction(self, jobs: list[_Job]) -> list[tuple[_Job, Any]]:
        self._connection.execute("BEGIN IMMEDIATE")
        results = [(job, _outcome(job.work, self._connection)) for job in jobs]
        self._connection.execute("COMMIT")
        self.commits += 1
        return results

    def _alone(self, job: _Job) -> Any:
        try:
            return self._in_one_transaction([job])[0][1] if job.writes else job.work(self._connection)
        except sqlite3.Error as error:
            self._roll_back()
            return _ours(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours is its caller's, and the thread lives on
            self._roll_back()
            return error

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _outcome(work: Work[Any], connection: sqlite3.Connection) -> Any:
    """What it returned; a LambentError is raised before anything was changed."""
    try:
        return work(connection)
    except LambentError as error:
        return error


def _ours(error: sqlite3.Error) -> LambentError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return QueueFull(f"the disk of the queue is full, nothing was kept ({error}): make room on it")
    return NotReady(f"the queue's store failed: {error}")


def _tell(results: list[tuple[_Job, Any]]) -> None:
    for job, result in results:
        if job.done.done():
            continue  # whoever waited was cancelled
        if isinstance(result, Exception):
            job.done.set_exception(result)
        else:
            job.done.set_result(result)
