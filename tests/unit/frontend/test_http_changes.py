"""Changes over HTTP as boto3 makes them, over a real etcd: in doubt, two at once, in one transaction."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambent_chassis.etcd import Etcd
from tests.unit.frontend.doors import door
from tests.unit.frontend.lost_answers import LosesAnswers

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


def package(source: str = "def handler(event, context): return 1\n") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), source)
    return buffer.getvalue()


def new(name: str = "f", **fields: Any) -> dict[str, Any]:
    given = {"Runtime": "python3.11", "Handler": "app.handler", "Role": "arn:aws:iam::000000000000:role/any"}
    return {"FunctionName": name, "Code": {"ZipFile": package()}, **given, **fields}


async def test_a_change_in_doubt_is_not_sent_again(etcd: Etcd, tmp_path: Path) -> None:
    """AWS's client sends a 503 five times: this one it sends once, and tells its caller why."""
    losing = LosesAnswers(etcd, carried_out=False)
    async with door(losing, tmp_path) as it:  # type: ignore[arg-type]
        with pytest.raises(ClientError, match="look at it before deciding") as raised:
            await it.ask("create_function", **new())
    told = raised.value.response["ResponseMetadata"]
    assert (told["HTTPStatusCode"], told["RetryAttempts"], losing.lost) == (520, 0, 1)
    assert told["HTTPHeaders"]["x-lambent-error"] == "UNCONFIRMED"
