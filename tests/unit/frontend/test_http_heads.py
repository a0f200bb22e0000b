"""Large bodies: whoever sends one says first who they are, and slow ones leave room to others."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import structlog
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambent_frontend.http import limits
from lambent_frontend.http.api import Api
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.gate import Locked
from lambent_frontend.http.messages import Response
from lambent_frontend.http.server import HttpServer
from lambent_proto.access import AccessKey, Rule, new_access_key
from tests.unit.frontend.http_client import Client, connected, listening
from tests.unit.scripted import Known

PATH = "/2015-03-31/functions"
SIZE = 1_000_000
BODY = b'{"FunctionName": "f", "x": "' + b"a" * (SIZE - 30) + b'"}'


def key() -> AccessKey:
    return new_access_key([Rule.parse("*")], "", 0.0)


async def taken(asked: Asked) -> Response:
    return Response(201, str(len(asked.request.body)).encode())


@pytest.fixture
def keys() -> tuple[AccessKey, AccessKey]:
    return key(), key()


@pytest.fixture
async def listens(keys: tuple[AccessKey, AccessKey]) -> AsyncIterator[tuple[HttpServer, int]]:
    async with listening(Api({"CreateFunction": taken}, Locked(Known(*keys)))) as it:
        yield it


def signed(one: AccessKey, secret: str = "", body_sha256: str = "") -> dict[str, str]:
    """The headers that botocore sends with BODY."""
    said = {"X-Amz-Content-SHA256": body_sha256} if body_sha256 else {}
    request = AWSRequest("POST", f"http://here{PATH}", data=BODY, headers=said)
    SigV4Auth(Credentials(one.id, secret or one.secret), "lambda", "us-east-1").add_auth(request)
    return {name.replace("-", "_"): value for name, value in request.headers.items()}


def head(client: Client, headers: Mapping[str, str], size: int = SIZE) -> None:
    """A request whose body is still to come."""
    lines = [f"POST {PATH} HTTP/1.1", "Host: here", f"Content-Length: {size}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    client.send("\r\n".join([*lines, "", ""]).encode())


async def until_held(server: HttpServer, size: int) -> None:
    async with asyncio.timeout(20):
        while server.held != size:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0)


async def test_who_has_no_key_is_refused_by_the_head(listens: tuple[HttpServer, int]) -> None:
    """No byte of the body is taken, nor asked for; the log has its line."""
    with structlog.testing.capture_logs() as logs:
        async with connected(listens[1]) as client:
            head(client, {"Expect": "100-continue"})
            answer = await client.answer()
    assert (answer.status, answer.error) == (403, "MissingAuthenticationTokenException")
    assert listens[0].held == 0
    (line,) = [line for line in logs if line["event"] == "audit"]
    assert (line["action"], line["access_key"], line["outcome"]) == ("CreateFunction", None, "failed")


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        (lambda it: it | {"Authorization": "Bearer a.b"}, 403, "UnrecognizedClientException"),
        (
            lambda it: it | {"Authorization": it["Authorization"].replace("Credential=LA", "Credential=LB")},
            403,
            "UnrecognizedClientException",
        ),
        (lambda it: it | {"Authorization": "AWS4-HMAC-SHA256 no"}, 400, "IncompleteSignatureException"),
        (lambda it: it | {"X_Amz_Date": "20200101T000000Z"}, 403, "InvalidSignatureException"),
        (lambda it: it | {"Origin": "http://there"}, 403, "AccessDeniedException"),
        (
            lambda it: {"Authorization": it["Authorization"], "X_Amz_Date": "yesterday"},
            400,
            "IncompleteSignatureException",
        ),
    ],
)
async def test_what_the_head_shows_is_refused_by_it(
    listens: tuple[HttpServer, int],
    keys: tuple[AccessKey, AccessKey],
    change: Callable[[dict[str, str]], dict[str, str]],
    status: int,
    error: str,
) -> None:
    async with connected(listens[1]) as client:
        head(client, change(signed(keys[0])))
        answer = await client.answer()
    assert (answer.status, answer.error) == (status, error)
    assert listens[0].held == 0


async def test_a_chunked_body_may_be_of_any_size(listens: tuple[HttpServer, int]) -> None:
    async with connected(listens[1]) as client:
        client.send(f"POST {PATH} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n".encode())
        assert (await client.answer()).status == 403


async def test_a_head_with_the_body_s_hash_is_verified_whole(
    listens: tuple[HttpServer, int], keys: tuple[AccessKey, AccessKey]
) -> None:
    """By another secret it is refused before the body; by the right one taken, if the body is that one."""
    digest = hashlib.sha256(BODY).hexdigest()
    async with connected(listens[1]) as client:
        head(client, signed(keys[0], secret="another", body_sha256=digest))
        answer = await client.answer()
        assert (answer.status, answer.error) == (403, "InvalidSignatureException")
    async with connected(listens[1]) as client:
        head(client, signed(keys[0], body_sha256=digest))
        client.send(BODY)
        assert (await client.answer()).status == 201
        head(client, signed(keys[0], body_sha256=digest))
        client.send(b"b" * SIZE)
        assert (await client.answer()).error == "InvalidSignatureException"


async def test_without_the_hash_the_whole_is_verified_in_the_end(
    listens: tuple[HttpServer, int], keys: tuple[AccessKey, AccessKey]
) -> None:
    async with connected(listens[1]) as client:
        head(client, signed(keys[0], secret="another"))
        client.send(BODY)
        assert (await client.answer()).error == "InvalidSignatureException"
        head(client, signed(keys[0]))
        client.send(BODY)
        assert (await client.answer()).status == 201
    assert listens[0].coming[keys[0].id] == 0


async def test_slow_ones_without_a_key_keep_nobody_out(
    listens: tuple[HttpServer, int], keys: tuple[AccessKey, AccessKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: what they may bring unasked is small."""
    server, port = listens
    monkeypatch.setattr(limits, "HELD", SIZE + 20 * limits.UNASKED)
    slow = [connected(port) for _ in range(20)]
    clients = [await it.__aenter__() for it in slow]
    for number, client in enumerate(clients):
        head(client, {}, SIZE if number % 2 else limits.UNASKED)
        client.send(b"a" * (limits.UNASKED - 1))
    await until_held(server, 10 * (limits.UNASKED - 1))
    async with connected(port) as client:
        head(client, signed(keys[0]))
        client.send(BODY)
        assert (await client.answer()).status == 201
    for it in slow:
        await it.__aexit__(None, None, None)


async def test_slow_ones_of_one_key_leave_room_to_another(
    listens: tuple[HttpServer, int], keys: tuple[AccessKey, AccessKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of somebody who knows no more of the key than its id."""
    server, port = listens
    monkeypatch.setattr(limits, "HELD", 2 * SIZE)
    monkeypatch.setattr(limits, "COMING", SIZE)
    async with connected(port) as slow, connected(port) as slower, connected(port) as other:
        head(slow, signed(keys[0], secret="unknown"))
        slow.send(BODY[:-1])
        await until_held(server, SIZE - 1)
        head(slower, signed(keys[0]))
        slower.send(BODY)
        assert (await slower.answer()).status == 503
        head(other, signed(keys[1]))
        other.send(BODY)
        assert (await other.answer()).status == 201
    await until_held(server, 0)
    assert +server.coming == {}


async def test_who_knows_no_more_than_a_key_s_id_leaves_room_to_its_owner(
    listens: tuple[HttpServer, int], keys: tuple[AccessKey, AccessKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever shows that they have the secret, by a signed hash or a token, is not held up by others."""
    server, port = listens
    monkeypatch.setattr(limits, "COMING", 2 * SIZE)
    monkeypatch.setattr(limits, "UNPROVED", SIZE)
    proofs = (
        signed(keys[0], body_sha256=hashlib.sha256(BODY).hexdigest()),
        {"Authorization": f"Bearer {keys[0].id}.{keys[0].secret}"},
    )
    async with connected(port) as slow, connected(port) as second:
        head(slow, signed(keys[0], secret="unknown"))
        slow.send(BODY[:-1])
        await until_held(server, SIZE - 1)
        head(second, signed(keys[0], secret="unknown"))
        second.send(BODY)
        assert (await second.answer()).status == 503
        for proof in proofs:
            async with connected(port) as owner:
                head(owner, proof)
                owner.send(BODY)
                assert (await owner.answer()).status == 201
    await until_held(server, 0)
    assert +server.coming == {}
