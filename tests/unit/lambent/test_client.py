"""The Python client against a real server: values, errors as classes, gathering, lost connections."""

import asyncio
import base64
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import grpc.aio
import pytest

from lambent import Client, Invocation, SyncClient
from lambent_chassis import grpc_options
from lambent_frontend.calls import Answer, Call
from lambent_frontend.core.call import Priority
from lambent_frontend.guard import Guard
from lambent_proto.access import Rule, new_access_key
from lambent_proto.errors import (
    DeadlinePassed,
    InvalidRequest,
    LambentError,
    LostWithWorker,
    NotReady,
    Throttled,
    UnknownFunction,
    UnknownKey,
)
from lambent_proto.status import leaves
from lambent_proto.sticky import NO_KEY, sticky_of
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc
from tests.unit.scripted import Known, ScriptedDispatcher, serving


@pytest.fixture
def dispatcher() -> ScriptedDispatcher:
    return ScriptedDispatcher()


@pytest.fixture
async def client(dispatcher: ScriptedDispatcher) -> AsyncIterator[Client]:
    async with serving(dispatcher) as address, Client(address) as connected:
        yield connected


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (b"\x00raw", b"\x00raw"),
        ({"a": [1, None]}, b'{"a": [1, null]}'),
        ("text", b'"text"'),
        (None, b"null"),
        (b"", b"{}"),
    ],
)
async def test_bytes_go_as_they_are_and_values_as_json(client: Client, payload: object, sent: bytes) -> None:
    """Both ways, unary and over a stream."""
    done = await client.invoke("echo", payload)
    assert done.payload == sent
    async with client.stream() as stream:
        assert (await stream.invoke("echo", payload)).payload == sent


async def test_an_answer_has_all_its_parts(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """Payload as JSON, log, version, request id, explanation."""
    done = await client.invoke(
        "echo", {"a": 1}, tail=True, timeout_s=5, client_context={"custom": {"k": "v"}}
    )
    assert done.json() == {"a": 1}
    assert (done.function_error, done.tail, done.executed_version) == ("", b"END", "$LATEST")
    assert (done.explanation.start, done.explanation.running_ms) == ("warm", 2.0)
    call = dispatcher.calls[0]
    assert (done.request_id, call.deadline_s) == (call.request_id, 5)
    assert json.loads(base64.b64decode(call.client_context)) == {"custom": {"k": "v"}}


async def test_a_call_is_given_a_priority_and_a_tenant(
    client: Client, dispatcher: ScriptedDispatcher
) -> None:
    """Unary and over a stream; without them it is a normal one of nobody in particular."""
    async with client.stream() as stream:
        for invoke in (client.invoke, stream.invoke):
            await invoke("echo", priority="high", tenant="a")
            await invoke("echo", priority="low", tenant="b")
            await invoke("echo")
    given = [(Priority.HIGH, "a"), (Priority.LOW, "b"), (Priority.NORMAL, "")]
    assert [(call.priority, call.tenant) for call in dispatcher.calls] == 2 * given


async def test_a_call_is_given_a_sticky_key(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """Unary and over a stream, as the number that stands for it; without one as none."""
    async with client.stream() as stream:
        for invoke in (client.invoke, stream.invoke):
            await invoke("echo", sticky_key="user 7")
            await invoke("echo")
    assert [call.sticky for call in dispatcher.calls] == 2 * [sticky_of("user 7"), NO_KEY]


async def test_a_priority_that_is_none_is_refused_here(
    client: Client, dispatcher: ScriptedDispatcher
) -> None:
    """With the names that there are; nothing is sent, and the stream is whole."""
    wrong: Any = "urgent"
    async with client.stream() as stream:
        for invoke in (client.invoke, stream.invoke):
            with pytest.raises(ValueError, match="'urgent' is none of high, normal, low"):
                await invoke("echo", priority=wrong)
        assert dispatcher.calls == []
        assert (await stream.invoke("echo", b"x")).payload == b"x"


async def test_a_function_s_failure_is_no_exception(client: Client) -> None:
    """It is an answer with function_error set."""
    done = await client.invoke("failing")
    assert (done.function_error, done.json()) == ("Unhandled", {"errorType": "E"})


@pytest.mark.parametrize("leaf", leaves())
async def test_errors_come_back_as_their_classes(
    client: Client, dispatcher: ScriptedDispatcher, leaf: type[LambentError]
) -> None:
    """With message and request id, unary and over a stream."""
    dispatcher.errors["f"] = leaf("what happened")
    async with client.stream() as stream:
        for invoke in (client.invoke, stream.invoke):
            with pytest.raises(leaf, match="what happened") as raised:
                await invoke("f")
            assert raised.value.request_id == dispatcher.calls[-1].request_id


async def test_concurrent_calls_share_messages(dispatcher: ScriptedDispatcher) -> None:
    """A thousand calls begun at once go in few messages, and each gets its own answer."""
    counted = CountingInvocations()
    server = grpc.aio.server(options=grpc_options.SERVER)
    invoke_pb2_grpc.add_InvocationsServicer_to_server(counted, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client(f"127.0.0.1:{port}") as client, client.stream() as stream:
        answers = await asyncio.gather(*(stream.invoke("echo", b"%d" % n) for n in range(1000)))
    await server.stop(0)
    assert [answer.payload for answer in answers] == [b"%d" % n for n in range(1000)]
    assert counted.messages <= 10


class CountingInvocations(invoke_pb2_grpc.InvocationsServicer):
    """Echoes a stream, message for message, and counts them."""

    def __init__(self) -> None:
        self.messages = 0

    def Invoke(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    InvokeWithResponseStream = Invoke  # type: ignore[assignment]

    async def InvokeStream(
        self, request_iterator: AsyncIterator[invoke_pb2.InvokeStreamRequest], context: object
    ) -> AsyncIterator[invoke_pb2.InvokeStreamResponse]:
        async for message in request_iterator:
            self.messages += 1
            response = invoke_pb2.InvokeStreamResponse()
            for item in message.invocations:
                response.results.add(id=item.id).response.payload = item.request.payload
            yield response


async def test_large_payloads_over_a_stream(client: Client) -> None:
    """Forty of 6 MB at once: no message grows too large for the transport."""
    payloads = [bytes([n]) * 6_000_000 for n in range(40)]
    async with client.stream() as stream:
        answers = await asyncio.gather(*(stream.invoke("echo", payload) for payload in payloads))
    assert [answer.payload for answer in answers] == payloads


async def test_small_events_need_not_wait_for_large_ones(
    client: Client, dispatcher: ScriptedDispatcher
) -> None:
    """Twenty of 6 MB run, which is more than a stream takes, and a small one is answered meanwhile."""
    payloads = [bytes([n]) * 6_000_000 for n in range(20)]
    large = [asyncio.create_task(client.invoke("held", payload)) for payload in payloads]
    await dispatcher.until(lambda: len(dispatcher.held) == len(large))
    async with asyncio.timeout(20):
        assert (await client.invoke("echo", b"1")).payload == b"1"
    for payload in payloads:
        dispatcher.release(payload)
    assert [done.payload for done in await asyncio.gather(*large)] == payloads


async def test_a_dry_run(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """It says what would run, or why nothing would, and runs nothing."""
    assert await client.dry_run("echo") == "$LATEST"
    with pytest.raises(UnknownFunction):
        await client.dry_run("unknown")
    assert dispatcher.calls == []


async def test_a_value_without_json_form_harms_nobody_else(client: Client) -> None:
    """It is refused here, and nothing half made is sent."""
    async with client.stream() as stream:
        with pytest.raises(TypeError):
            await stream.invoke("echo", object())
        assert (await stream.invoke("echo", b"x")).payload == b"x"


async def test_giving_up_leaves_the_stream_whole(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """A cancelled call is no longer waited for at the frontend either; others go on."""
    async with client.stream() as stream:
        waiting = asyncio.create_task(stream.invoke("held", b"1"))
        await dispatcher.until(lambda: len(dispatcher.held) == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await dispatcher.until(lambda: dispatcher.abandoned == list(dispatcher.held))
        assert (await stream.invoke("echo", b"2")).payload == b"2"


async def test_leaving_a_stream_waits_for_its_answers(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """What was begun is answered before the block is left."""
    stream = client.stream()
    waiting = asyncio.create_task(stream.invoke("held", b"1"))
    await dispatcher.until(lambda: len(dispatcher.held) == 1)
    leaving = asyncio.create_task(stream.__aexit__(None, None, None))
    await client.invoke("echo")  # a whole round trip, in which leaving could have ended the stream
    assert not leaving.done()
    dispatcher.release(b"1")
    await leaving
    assert (await waiting).payload == b"1"
    with pytest.raises(NotReady, match="closed"):
        await stream.invoke("echo")


async def test_an_exception_ends_the_stream_at_once(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """Nobody waits for a held call then; who does hears that it may have run."""

    async def fail_amid() -> None:
        async with client.stream() as stream:
            held.append(asyncio.create_task(stream.invoke("held", b"1")))
            await dispatcher.until(lambda: len(dispatcher.held) == 1)
            raise KeyError

    held: list[asyncio.Task[Invocation]] = []
    with pytest.raises(KeyError):
        await fail_amid()
    (waiting,) = held
    with pytest.raises(LostWithWorker, match="may have run"):
        await waiting
    await dispatcher.until(lambda: len(dispatcher.abandoned) == 1)


async def test_a_lost_frontend_is_not_asked_again() -> None:
    """Calls under way may have run: the client says so, unary and over a stream, and sends nothing twice."""
    dispatcher = ScriptedDispatcher()
    async with serving(dispatcher) as address:
        client = await Client(address).__aenter__()
        stream = client.stream()
        waiting = [
            asyncio.create_task(client.invoke("held", b"1")),
            asyncio.create_task(stream.invoke("held", b"2")),
        ]
        await dispatcher.until(lambda: len(dispatcher.held) == 2)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LostWithWorker, LostWithWorker]
    with pytest.raises(NotReady):
        await stream.invoke("echo")
    await stream.close()
    await client.__aexit__(None, None, None)
    assert len(dispatcher.calls) == 2


class CutOff(invoke_pb2_grpc.InvocationsServicer):
    """Answers the first call; then something in between ends the stream, as a server that stops does."""

    def __init__(self) -> None:
        self.came: list[bytes] = []

    def Invoke(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    InvokeWithResponseStream = Invoke  # type: ignore[assignment]

    async def InvokeStream(self, _: object, context: Any) -> None:  # type: ignore[override]
        while (message := await context.read()) is not grpc.aio.EOF:
            for item in message.invocations:
                self.came.append(item.request.payload)
                if len(self.came) > 1:
                    await context.abort(grpc.StatusCode.CANCELLED, "it took too long")
                answer = invoke_pb2.InvokeResponse(payload=item.request.payload)
                result = invoke_pb2.StreamedResult(id=item.id, response=answer)
                await context.write(invoke_pb2.InvokeStreamResponse(results=[result]))


async def test_a_stream_that_was_answered_and_is_cut_off_may_have_run_the_rest() -> None:
    cut_off, server = CutOff(), grpc.aio.server()
    invoke_pb2_grpc.add_InvocationsServicer_to_server(cut_off, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Client(f"127.0.0.1:{port}") as client:
            assert (await client.invoke("f", b"1")).payload == b"1"
            with pytest.raises(LostWithWorker):
                await client.invoke("f", b"2")
        assert cut_off.came == [b"1", b"2"]
    finally:
        await server.stop(0)


async def test_nobody_there_is_not_ready() -> None:
    """It certainly never ran."""
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(NotReady, match="nobody answers"):
            await client.invoke("f")
        stream = client.stream()
        with pytest.raises(NotReady):
            await stream.invoke("f")
        await stream.close()


async def test_a_frontend_that_says_nothing_is_given_up(
    client: Client, dispatcher: ScriptedDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment after the caller's own deadline."""
    monkeypatch.setattr("lambent.invocation_stream.GRACE_S", 0.1)
    with pytest.raises(DeadlinePassed):
        await client.invoke("held", timeout_s=0.1)
    stream = client.stream()
    with pytest.raises(DeadlinePassed, match="may have run"):
        await stream.invoke("held", timeout_s=0.1)
    await stream.abort()


async def test_the_endpoint_comes_from_the_environment(
    dispatcher: ScriptedDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The argument first, then LAMBENT_ENDPOINT, then the default."""
    monkeypatch.delenv("LAMBENT_ENDPOINT", raising=False)
    assert Client().endpoint == "127.0.0.1:50051"
    async with serving(dispatcher) as address:
        monkeypatch.setenv("LAMBENT_ENDPOINT", address)
        async with Client() as client:
            done: Invocation = await client.invoke("echo", 1)
    assert done.json() == 1
    assert Client("other:1").endpoint == "other:1"


@pytest.mark.parametrize("token", ["ü.ü", "a.b\nc", "a.\0"])
def test_an_access_key_that_can_be_none_is_refused_here(token: str) -> None:
    """gRPC would end the call with words of its own, and one in a stream as if it may have run."""
    with pytest.raises(UnknownKey, match="characters"):
        Client(access_key=token)


async def test_an_access_key_may_be_what_a_file_holds() -> None:
    """With the end of its line."""
    one = new_access_key([Rule.parse("*")], "tests", 0.0)
    async with (
        serving(ScriptedDispatcher(), guard=Guard(Known(one))) as address,
        Client(address, access_key=f"{one.token}\n") as client,
    ):
        assert (await client.invoke("echo", [1])).json() == [1]


async def test_a_bad_request_names_its_fault(client: Client) -> None:
    """Errors of the caller's side are CallerErrors of the right kind."""
    with pytest.raises(UnknownFunction, match="there is no function 'unknown'"):
        await client.invoke("unknown")
    with pytest.raises(InvalidRequest, match="3583"):
        await client.invoke("echo", client_context={"k": "x" * 4000})


class Failing(ScriptedDispatcher):
    """Fails the first calls with the errors given, then does as usual."""

    def __init__(self, *first: LambentError) -> None:
        super().__init__()
        self._first = list(first)

    def submit(self, call: Call, done: Callable[[Answer | LambentError], None]) -> None:
        if self._first:
            self.calls.append(call)
            done(self._first.pop(0))
        else:
            super().submit(call, done)


async def test_what_never_ran_is_sent_again() -> None:
    """Twice, and with what is left of the caller's time."""
    dispatcher = Failing(NotReady("not yet"), NotReady("not yet"))
    async with serving(dispatcher) as address, Client(address) as client:
        assert (await client.invoke("echo", [1], timeout_s=9)).json() == [1]
    first, second, third = [call.deadline_s for call in dispatcher.calls]
    assert 9 == first > second > third > 8


async def test_after_its_retries_a_call_fails_as_the_last_one_did() -> None:
    dispatcher = Failing(*(NotReady(f"{number}") for number in range(9)))
    async with serving(dispatcher) as address, Client(address, retries=1) as client:
        with pytest.raises(NotReady, match="1"):
            await client.invoke("echo")
        with pytest.raises(NotReady, match="2"):
            await client.invoke("echo", timeout_s=0.01)  # no time for another try
    assert len(dispatcher.calls) == 3


@pytest.mark.parametrize("error", [LostWithWorker(""), DeadlinePassed(""), Throttled(""), InvalidRequest("")])
async def test_what_may_have_run_or_was_decided_is_not_sent_again(error: LambentError) -> None:
    dispatcher = Failing(error)
    async with serving(dispatcher) as address, Client(address) as client:
        with pytest.raises(type(error)):
            await client.invoke("echo")
    assert len(dispatcher.calls) == 1


async def test_a_client_outlives_its_frontend() -> None:
    """One that comes back is used again; what was in flight as the first one left may have run."""
    first = ScriptedDispatcher()
    async with serving(first) as address:
        client = await Client(address).__aenter__()
        lost = asyncio.create_task(client.invoke("held", b"1"))
        await first.until(lambda: len(first.held) == 1)
    with pytest.raises((LostWithWorker, NotReady)) as raised:
        await lost
    assert type(raised.value) is not NotReady or "not sent" not in str(raised.value)
    async with serving(ScriptedDispatcher(), address=address):
        assert (await client.invoke("echo", b"2")).payload == b"2"
        await client.__aexit__(None, None, None)


async def test_a_map_keeps_order_and_takes_no_more_than_it_may(
    client: Client, dispatcher: ScriptedDispatcher
) -> None:
    taken = []

    def payloads() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    got = []
    async for done in client.map("echo", payloads(), in_flight=4):
        got.append(done.json())
        assert len(taken) - len(got) < 4
    assert got == list(range(50))


async def test_a_map_fails_where_its_call_did_and_gives_up_the_rest(
    client: Client, dispatcher: ScriptedDispatcher
) -> None:
    dispatcher.errors["limited"] = Throttled("full")
    with pytest.raises(Throttled):
        async for _ in client.map("limited", range(3)):
            pass
    async with aclosing(client.map("held", range(3), in_flight=2)) as answers:
        asking = asyncio.create_task(anext(answers))
        await dispatcher.until(lambda: len(dispatcher.held) == 2)
        dispatcher.release(b"0")
        assert (await asking).json() == 0
    await dispatcher.until(lambda: len(dispatcher.abandoned) >= 1)


async def test_without_asyncio_it_is_the_same(dispatcher: ScriptedDispatcher) -> None:
    """From several threads at one time, with a map, and with errors as their classes."""
    dispatcher.errors["limited"] = Throttled("full")

    def program(address: str) -> list[object]:
        with SyncClient(address) as client:
            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(lambda number: client.invoke("echo", number).json(), range(100)))
            answers += [done.json() for done in client.map("echo", range(100, 200), in_flight=7)]
            with pytest.raises(Throttled):
                client.invoke("limited")
            stopped = client.map("echo", range(1000))
            assert next(stopped).json() == 0
            stopped.close()
            return answers

    async with serving(dispatcher) as address:
        assert await asyncio.to_thread(program, address) == list(range(200))
    assert not [thread for thread in threading.enumerate() if thread.name == "lambent-client"]


@pytest.mark.parametrize("entered", [False, True])
def test_outside_of_its_block_a_sync_client_says_so(entered: bool) -> None:
    """Instead of waiting for a thread that does not run."""
    client = SyncClient("127.0.0.1:1")
    if entered:
        with client:
            pass
        with pytest.raises(RuntimeError, match="entered once"):
            client.__enter__()
    with pytest.raises(RuntimeError, match="within its `with` block"):
        client.invoke("echo")


async def test_whoever_waits_hears_that_a_sync_client_was_left() -> None:
    begun, outcomes = threading.Event(), []

    async def long(_: Client) -> None:
        begun.set()
        await asyncio.Event().wait()

    def wait(client: SyncClient) -> None:
        with pytest.raises(LostWithWorker, match="was left"):
            client.run(long)
        outcomes.append("heard")

    def program() -> None:
        with SyncClient("127.0.0.1:1") as client:
            waiting = threading.Thread(target=wait, args=(client,), daemon=True)
            waiting.start()
            assert begun.wait(20)
        waiting.join(20)

    await asyncio.to_thread(program)
    assert outcomes == ["heard"]


async def test_payloads_cannot_call_the_sync_client_that_asks_for_them(
    dispatcher: ScriptedDispatcher,
) -> None:
    def program(address: str) -> None:
        with SyncClient(address) as client, pytest.raises(RuntimeError, match="own thread"):
            next(client.map("echo", (client.invoke("echo", number).json() for number in range(3))))

    async with serving(dispatcher) as address, asyncio.timeout(20):
        await asyncio.to_thread(program, address)


class Interrupted(SyncClient):
    """Ctrl-C comes while the first step of a map is waited for, once `ready` has returned."""

    ready: Callable[[], None] | None = None

    def _begin(self, work: Coroutine[Any, Any, Any]) -> Any:
        pending: Any = super()._begin(work)
        ready, self.ready = self.ready, None
        if ready is not None:

            def interrupted() -> None:
                ready()
                raise KeyboardInterrupt

            pending.result = interrupted
        return pending


async def test_ctrl_c_in_a_map_is_ctrl_c_and_gives_up_its_calls(dispatcher: ScriptedDispatcher) -> None:
    loop = asyncio.get_running_loop()

    def ready() -> None:
        held = dispatcher.until(lambda: len(dispatcher.held) == 2)
        asyncio.run_coroutine_threadsafe(held, loop).result()

    def program(address: str) -> None:
        with Interrupted(address) as client:
            client.ready = ready
            with pytest.raises(KeyboardInterrupt):
                next(client.map("held", range(3), in_flight=2))

    async with serving(dispatcher) as address:
        await asyncio.to_thread(program, address)
        await dispatcher.until(lambda: len(dispatcher.abandoned) == 2)


async def test_a_program_ends_that_leaves_neither_its_sync_client_nor_its_map(
    dispatcher: ScriptedDispatcher,
) -> None:
    program = (
        "import sys; from lambent import SyncClient; client = SyncClient(sys.argv[1]).__enter__(); "
        "answers = client.map('echo', range(100)); print(next(answers).json())"
    )
    async with serving(dispatcher) as address:
        ended = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, address, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            async with asyncio.timeout(20):
                said, complained = await ended.communicate()
        finally:
            if ended.returncode is None:
                ended.kill()
    assert (ended.returncode, said.strip()) == (0, b"0")
    assert b"Traceback" not in complained


async def test_an_answer_in_parts(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """As it comes, and what is known at its beginning and at its end."""

    async def play() -> None:
        await dispatcher.until(lambda: bool(dispatcher.held))
        dispatcher.begin("text/html")
        dispatcher.write(b"one")

    async with asyncio.timeout(20):
        playing = asyncio.create_task(play())
        async with client.invoke_with_response_stream("held:7", {"a": 1}, tail=True, tenant="t") as answer:
            assert await anext(answer) == b"one"
            assert (answer.content_type, answer.executed_version) == ("text/html", "7")
            assert answer.request_id == dispatcher.calls[0].request_id
            dispatcher.write(b"two")
            dispatcher.end()
            assert [part async for part in answer] == [b"two"]
            assert (answer.function_error, answer.error, answer.tail) == ("", b"", b"END")
            assert answer.explanation.instance == "i-1"
            assert [part async for part in answer] == []
        await playing
    (call,) = dispatcher.calls
    assert (call.payload, call.tenant, call.tail) == (b'{"a": 1}', "t", True)


async def test_an_error_in_the_middle_of_an_answer(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """Behind the parts that came, with its class and its request id."""

    async def play() -> None:
        await dispatcher.until(lambda: bool(dispatcher.held))
        dispatcher.begin()
        dispatcher.write(b"one")
        dispatcher.end(Throttled("as if"))

    async with asyncio.timeout(20):
        playing = asyncio.create_task(play())
        async with client.invoke_with_response_stream("held") as answer:
            assert await anext(answer) == b"one"
            with pytest.raises(Throttled, match="as if") as raised:
                await anext(answer)
            assert raised.value.request_id == answer.request_id
        await playing


async def test_who_leaves_an_answer_gives_it_up(client: Client, dispatcher: ScriptedDispatcher) -> None:
    async def play() -> None:
        await dispatcher.until(lambda: bool(dispatcher.held))
        dispatcher.begin()
        dispatcher.write(b"one")

    async with asyncio.timeout(20):
        playing = asyncio.create_task(play())
        async with client.invoke_with_response_stream("held") as answer:
            assert await anext(answer) == b"one"
        await playing
    await dispatcher.until(lambda: bool(dispatcher.abandoned))
    assert dispatcher.abandoned == [answer.request_id]


async def test_an_answer_that_never_begins(dispatcher: ScriptedDispatcher) -> None:
    """Its error is raised as it is entered; what certainly never ran is sent again first."""
    async with serving(dispatcher) as address, Client(address) as client:
        with pytest.raises(UnknownFunction):
            async with client.invoke_with_response_stream("unknown"):
                pytest.fail("it was entered")
        dispatcher.errors["f"] = NotReady("not yet")
        async with Client(address, retries=1) as patient:
            with pytest.raises(NotReady, match="not yet"):
                async with patient.invoke_with_response_stream("f"):
                    pytest.fail("it was entered")
    assert len(dispatcher.calls) == 2


async def test_an_answer_that_waits_for_a_frontend_comes_with_the_next_try(
    client: Client, dispatcher: ScriptedDispatcher
) -> None:
    """Within the caller's time, of which less is left then."""
    dispatcher.errors["echo"] = NotReady("not yet")

    async def recover() -> None:
        await dispatcher.until(lambda: bool(dispatcher.calls))
        del dispatcher.errors["echo"]

    recovering = asyncio.create_task(recover())
    async with client.invoke_with_response_stream("echo", {"a": 1}, timeout_s=5) as answer:
        assert b"".join([part async for part in answer]) == b'{"a": 1}'
    await recovering
    first, last = dispatcher.calls[0], dispatcher.calls[-1]
    assert first.request_id != last.request_id == answer.request_id
    assert last.deadline_s < first.deadline_s <= 5


async def test_a_slow_reader_of_an_answer_is_waited_for(
    client: Client, dispatcher: ScriptedDispatcher
) -> None:
    """Nothing more is taken of the worker's than gRPC itself holds."""

    async def play() -> None:
        await dispatcher.until(lambda: bool(dispatcher.held))
        dispatcher.begin()
        dispatcher.write(*[b"x" * 65_536] * 1000)
        dispatcher.end()

    async with asyncio.timeout(40):
        playing = asyncio.create_task(play())
        async with client.invoke_with_response_stream("held") as answer:
            assert len(await anext(answer)) == 65_536
            for _ in range(20):
                await client.invoke("echo")
            assert dispatcher.taken_bytes < 500 * 65_536
            assert sum([len(part) async for part in answer]) == 999 * 65_536
        await playing


async def test_an_answer_in_parts_without_asyncio(dispatcher: ScriptedDispatcher) -> None:
    def program(address: str) -> None:
        with SyncClient(address) as client:
            with client.invoke_with_response_stream("echo", {"a": 1}) as answer:
                assert b"".join(answer) == b'{"a": 1}'
            assert (answer.function_error, answer.error, answer.tail) == ("", b"", b"")
            assert (answer.content_type, answer.executed_version) == ("application/json", "$LATEST")
            assert answer.explanation.start == "warm"
            assert len(answer.request_id) == 36
            with client.invoke_with_response_stream("failing") as answer:
                assert list(answer) == []
            assert (answer.function_error, answer.error) == ("Unhandled", b'{"errorType":"E"}')
            with pytest.raises(UnknownFunction), client.invoke_with_response_stream("unknown"):
                pytest.fail("it was entered")

    async with serving(dispatcher) as address:
        await asyncio.to_thread(program, address)
