"""Celery with Redis as its broker and for its results."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from loadtest.peers.closed_loop import EVENT, checked, measured
from loadtest.peers.peer import Path, Peer
from loadtest.peers.serving import beside_python, free_port, run, started, until_listening

PEER: Final = Peer(
    name="celery-redis",
    title="Celery with Redis",
    paths=(
        Path(kind="own", name="results", called_with="`send_task`, and `then` of its result, in one thread"),
    ),
    pip=("celery[redis]==5.7.0", "redis==8.1.0"),
    environment="celery",
    programs=("redis-server",),
    runs="`redis-server` without saving, and `celery worker --pool prefork --concurrency N`",
    gives="chains and chords of tasks, brokers of many kinds, calls that need no answer for next to nothing",
    lacks="isolation, a limit of memory that holds during a call, code that is deployed without a restart "
    "of the workers",
)


def application(redis: str) -> Any:
    from celery import Celery

    app = Celery("peers", broker=f"redis://{redis}/0", backend=f"redis://{redis}/1")
    app.conf.update(worker_send_task_events=False, broker_connection_retry_on_startup=True)
    return app


def handler(event: dict[str, str]) -> dict[str, str]:
    return event


if redis := os.environ.get("PEER_REDIS"):
    # What `celery --app` looks for in this module.
    celery = application(redis)
    celery.task(handler, name="echo")


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    port, work = free_port(), os.environ["PEER_WORK"]
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", work)
    with started(["redis-server", *options]) as redis:
        address = until_listening(port, redis)
        app = ("--app", "loadtest.peers.celery_redis", "worker", "--pool", "prefork", "--loglevel", "warning")
        worker = [beside_python("celery"), *app, "--concurrency", str(processes)]
        with started(worker, PEER_REDIS=address) as process:
            control = application(address).control
            while not control.ping(timeout=0.5):
                if process.poll() is not None:
                    raise SystemExit("the worker of Celery ended")
            yield {"results": address}


def call(address: str, in_flight: int) -> None:
    app = application(address)

    def calls(count: int, took_s: list[float]) -> None:
        under_way: dict[str, Any] = {}
        left = count

        def begin() -> None:
            nonlocal left
            left -= 1
            began = time.perf_counter()
            result = app.send_task("echo", (EVENT,))
            under_way[result.id] = result
            result.then(lambda done: end(done, began))

        def end(result: Any, began: float) -> None:
            checked(result.result)
            took_s.append(time.perf_counter() - began)
            del under_way[result.id]
            if left:
                begin()

        for _ in range(min(in_flight, count)):
            begin()
        while under_way:
            next(iter(under_way.values())).get(timeout=30)

    measured(calls)


if __name__ == "__main__":
    run(serve, call)
