"""What a function sees of its runtime, and what its callers see when it fails: Lambda's words and shapes."""

import json
import re
from typing import Any

import pytest

from lambent_proto.ids import MAX_PAYLOAD_BYTES
from tests.integration.worker.scene import Answer, Scene

pytestmark = pytest.mark.integration


async def test_the_event_arrives_decoded_and_the_result_leaves_as_compact_utf8_json(stage: Scene) -> None:
    """A handler gets objects, and what it returns is JSON without blanks, in UTF-8 rather than escapes."""
    it = await stage.started(
        "def handler(event, context):\n    return {'got': event['a'], 'word': 'größe ✓'}"
    )
    answer = await stage.call(it, {"a": [1, None, "x"]})
    assert not answer.failed
    assert answer.body.decode() == '{"got":[1,null,"x"],"word":"größe ✓"}'


async def test_a_handler_that_returns_nothing_answers_null(stage: Scene) -> None:
    it = await stage.started("def handler(event, context):\n    pass")
    assert (await stage.call(it, {})).body == b"null"


async def test_a_decimal_is_a_number(stage: Scene) -> None:
    """Lambda's clients write decimal.Decimal, which boto3 returns from DynamoDB, as a number."""
    it = await stage.started("from decimal import Decimal\ndef handler(e, c):\n    return [Decimal('1.5')]")
    assert (await stage.call(it, {})).body == b"[1.5]"


async def test_the_state_of_the_module_is_kept_between_calls(stage: Scene) -> None:
    it = await stage.started("n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n")
    assert [(await stage.call(it)).json for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("handler", ["pkg/mod.run", "pkg.mod.run"])
async def test_a_handler_may_be_in_a_package(stage: Scene, handler: str) -> None:
    """Lambda takes both a path and a dotted name."""
    it = await stage.started(
        {"pkg/__init__.py": "", "pkg/mod.py": "def run(e, c):\n    return __name__"}, handler=handler
    )
    assert (await stage.call(it)).json == "pkg.mod"


CONTEXT = """
import os
def handler(event, context):
    client = context.client_context
    return {
        "names": [context.function_name, context.function_version, context.memory_limit_in_mb,
                  context.log_group_name, context.aws_request_id, context.invoked_function_arn],
        "stream": context.log_stream_name,
        "left": context.get_remaining_time_in_millis(),
        "client": client and [client.client.app_title, client.client.installation_id,
                              client.custom, client.env],
        "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
        "tenant": context.tenant_id,
    }
"""


async def test_the_context_has_all_of_lambdas_names(stage: Scene) -> None:
    """Names, types and values are Lambda's; the memory is a text, and the time left is that of the call."""
    it = await stage.started(CONTEXT, memory_mb=256)
    client = {"client": {"app_title": "shop"}, "custom": {"k": "v"}, "env": {"e": "1"}}
    answer = await stage.call(
        it,
        arn="arn:aws:lambda:us-east-1:000000000000:function:fn:live",
        timeout_s=5.0,
        client_context=json.dumps(client),
    )
    seen = answer.json
    assert seen["names"] == [
        "fn",
        "$LATEST",
        "256",
        "/aws/lambda/fn",
        answer.request_id,
        "arn:aws:lambda:us-east-1:000000000000:function:fn:live",
    ]
    assert seen["stream"].endswith(f"/[$LATEST]{it}")
    assert 0 < seen["left"] <= 5_000
    assert seen["client"] == ["shop", None, {"k": "v"}, {"e": "1"}]
    assert seen["identity"] == [None, None]
    assert seen["tenant"] is None
    assert (await stage.call(it)).json["client"] is None


ENVIRONMENT = "import os, sys\ndef handler(e, c):\n    return [dict(os.environ), os.getcwd(), sys.path[0]]"


async def test_the_environment_is_lambdas_and_nothing_is_inherited(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reserved names win over the function's own; the worker's environment stays with the worker."""
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "x")
    it = await stage.started(
        ENVIRONMENT, environment={"TABLE": "orders", "TZ": "Asia/Tokyo", "AWS_LAMBDA_FUNCTION_NAME": "no"}
    )
    seen, folder, first_on_path = (await stage.call(it)).json
    assert seen["TABLE"] == "orders"
    assert seen["TZ"] == "Asia/Tokyo"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "fn"
    assert seen["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.11"
    assert seen["_HANDLER"] == "app.handler"
    assert seen["LAMBDA_TASK_ROOT"] == folder == first_on_path
    assert "SECRET_OF_THE_WORKER" not in seen


async def test_each_instance_has_its_own_tmp_which_goes_with_it(stage: Scene) -> None:
    """tempfile uses it, the next instance does not see it, and it is removed after the exit."""
    source = (
        "import tempfile, os\ndef handler(e, c):\n    open(tempfile.gettempdir() + '/mine', 'a').close()\n"
    )
    source += "    return [tempfile.gettempdir(), os.listdir(tempfile.gettempdir())]"
    first, second = await stage.started(source), await stage.started(source)
    one, two = (await stage.call(first)).json, (await stage.call(second)).json
    assert one[0] != two[0]
    assert one[1] == two[1] == ["mine"]


async def test_only_standard_descriptors_and_the_channel_are_open(stage: Scene) -> None:
    it = await stage.started("import os\ndef handler(e, c):\n    return sorted(os.listdir('/proc/self/fd'))")
    # The last is the listing's own.
    assert (await stage.call(it)).json == ["0", "1", "2", "3", "4"]


FAILING_IMPORTS = [
    pytest.param(
        {"app.py": "import nowhere"},
        "app.handler",
        {
            "errorMessage": "Unable to import module 'app': No module named 'nowhere'",
            "errorType": "Runtime.ImportModuleError",
            "requestId": "",
            "stackTrace": [],
        },
        id="import",
    ),
    pytest.param(
        {"app.py": ""},
        "other.handler",
        {
            "errorMessage": "Unable to import module 'other': No module named 'other'",
            "errorType": "Runtime.ImportModuleError",
            "requestId": "",
            "stackTrace": [],
        },
        id="no such module",
    ),
    pytest.param(
        {"app.py": "x = 1"},
        "app.handler",
        {
            "errorMessage": "Handler 'handler' missing on module 'app'",
            "errorType": "Runtime.HandlerNotFound",
            "requestId": "",
            "stackTrace": [],
        },
        id="no such function",
    ),
    pytest.param(
        {"app.py": "x = 1"},
        "handler",
        {
            "errorMessage": "Bad handler 'handler': not enough values to unpack (expected 2, got 1)",
            "errorType": "Runtime.MalformedHandlerName",
            "requestId": "",
            "stackTrace": [],
        },
        id="no dot",
    ),
    pytest.param(
        {"app.py": "x = 1"},
        "sys.exit",
        {
            "errorMessage": "Cannot use built-in module sys as a handler module",
            "errorType": "Runtime.BuiltInModuleConflict",
            "requestId": "",
            "stackTrace": [],
        },
        id="built-in",
    ),
]


@pytest.mark.parametrize(("files", "handler", "error"), FAILING_IMPORTS)
async def test_a_function_that_cannot_be_loaded(
    stage: Scene, files: dict[str, str], handler: str, error: dict[str, Any]
) -> None:
    """It ends with Lambda's error, byte for byte, and is reaped."""
    said = await stage.failed_init(files, handler=handler)
    assert said.reason == "init_error"
    assert json.loads(said.error) == error


async def test_a_syntax_error_names_file_and_line(stage: Scene) -> None:
    said = await stage.failed_init("x = 1\ndef handler(:\n    pass")
    error = json.loads(said.error)
    assert error["errorType"] == "Runtime.UserCodeSyntaxError"
    assert error["errorMessage"] == "Syntax error in module 'app': invalid syntax (app.py, line 2)"
    assert error["stackTrace"][0].endswith('app.py" Line 2\n    def handler(:\n')


async def test_an_exception_at_import_is_the_functions_own(stage: Scene) -> None:
    said = await stage.failed_init("print('before')\nraise KeyError('TABLE')")
    error = json.loads(said.error)
    assert (error["errorType"], error["errorMessage"]) == ("KeyError", "'TABLE'")
    assert error["requestId"] == ""
    [frame] = error["stackTrace"]
    assert frame.endswith("app.py\", line 2, in <module>\n    raise KeyError('TABLE')\n")
    lines = [line.text async for batch in stage.logs.read("fn", follow=False) for line in batch]
    assert lines[0] == "before"
    assert lines[-1].startswith("INIT_REPORT Init Duration: ")
    assert lines[-1].endswith("\tPhase: init\tStatus: error")


@pytest.mark.parametrize(
    ("leave", "how"),
    [
        pytest.param("sys.exit(3)", "Runtime exited with error: exit status 3", id="exit"),
        pytest.param("os._exit(0)", "Runtime exited without providing a reason", id="exit 0"),
        pytest.param("os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed", id="kill"),
        pytest.param("os.abort()", "Runtime exited with error: signal: aborted", id="abort"),
    ],
)
async def test_a_runtime_that_exits(stage: Scene, leave: str, how: str) -> None:
    """In a call, the call fails with Lambda's words, and the next is served; in init, the instance ends."""
    source = "import os, sys\ndef handler(e, c):\n    if e:\n        return e\n"
    it = await stage.started(f"{source}    print('bye')\n    {leave}")
    answer = await stage.call(it)
    assert answer.failed
    assert answer.json == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {answer.request_id} Error: {how}",
    }
    assert b"\nbye\n" in answer.tail
    assert (await stage.call(it, "next")).json == "next"

    said = await stage.failed_init(f"import os, sys\n{leave}")
    assert said.reason == "init_error"
    assert json.loads(said.error)["errorMessage"] == f"RequestId:  Error: {how}"


RAISING = """
class Refused(Exception):
    pass

def deeper():
    raise Refused("no: größe")

def handler(event, context):
    deeper()
"""


async def test_an_exception_of_the_handler(stage: Scene) -> None:
    """Lambda's four fields, with the frames of the function alone, and the same in the log; it lives on."""
    it = await stage.started(RAISING)
    answer = await stage.call(it)
    assert answer.failed
    root = answer.json["stackTrace"][0].split('"')[1]
    assert answer.json == {
        "errorMessage": "no: größe",
        "errorType": "Refused",
        "requestId": answer.request_id,
        "stackTrace": [
            f'  File "{root}", line 9, in handler\n    deeper()\n',
            f'  File "{root}", line 6, in deeper\n    raise Refused("no: größe")\n',
        ],
    }
    assert list(answer.json) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert "[ERROR] Refused: no: größe\nTraceback (most recent call last):\n".encode() in answer.tail
    assert (await stage.call(it)).failed


@pytest.mark.parametrize(
    ("source", "raw", "error_type", "message"),
    [
        pytest.param(
            "return {1, 2}",
            b"{}",
            "Runtime.MarshalError",
            "Unable to marshal response: Object of type set is not JSON serializable",
            id="not JSON",
        ),
        pytest.param(
            "return 1",
            b"{no json",
            "Runtime.UnmarshalError",
            "Unable to unmarshal input: Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1)",
            id="event not JSON",
        ),
        pytest.param(
            "return '\\ud800'",
            b"{}",
            "Runtime.MarshalError",
            "Unable to marshal response: 'utf-8' codec can't encode character '\\ud800' in position 1: "
            "surrogates not allowed",
            id="not UTF-8",
        ),
    ],
)
async def test_what_is_not_json(stage: Scene, source: str, raw: bytes, error_type: str, message: str) -> None:
    it = await stage.started(f"def handler(e, c):\n    {source}")
    answer = await stage.call(it, raw=raw)
    assert answer.failed
    assert answer.json == {
        "errorMessage": message,
        "errorType": error_type,
        "requestId": answer.request_id,
        "stackTrace": [],
    }


async def test_a_client_context_that_is_not_json_fails_the_call(stage: Scene) -> None:
    it = await stage.started("def handler(e, c):\n    return 1")
    answer = await stage.call(it, client_context="{")
    assert answer.json["errorType"] == "Runtime.LambdaContextUnmarshalError"
    assert not (await stage.call(it)).failed


async def test_the_largest_answer_passes_and_one_byte_more_does_not(stage: Scene) -> None:
    """Lambda's limit, to the byte, with Lambda's words; the event may be as large as the answer."""
    it = await stage.started("def handler(e, c):\n    return 'x' * e if isinstance(e, int) else len(e)")
    whole = await stage.call(it, MAX_PAYLOAD_BYTES - 2)
    assert not whole.failed
    assert len(whole.body) == MAX_PAYLOAD_BYTES
    over = await stage.call(it, MAX_PAYLOAD_BYTES - 1)
    assert over.failed
    assert over.json == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert (await stage.call(it, "y" * (MAX_PAYLOAD_BYTES - 2))).json == MAX_PAYLOAD_BYTES - 2


async def test_an_error_message_that_is_too_long_is_cut(stage: Scene) -> None:
    it = await stage.started("def handler(e, c):\n    raise ValueError('z' * 10_000_000)")
    answer = await stage.call(it)
    assert answer.failed
    assert answer.json["errorType"] == "ValueError"
    assert 1_000 < len(answer.json["errorMessage"]) < MAX_PAYLOAD_BYTES


async def test_exceptions_that_cannot_be_printed_are_answers_too(stage: Scene) -> None:
    source = "class Bad(Exception):\n    def __str__(self):\n        raise RuntimeError\n"
    it = await stage.started(source + "def handler(e, c):\n    raise Bad")
    answer = await stage.call(it)
    assert (answer.json["errorType"], answer.failed) == ("Bad", True)


LOGGING = """
import logging
logger = logging.getLogger()
logger.setLevel(logging.INFO)
logging.basicConfig(format="not used")
logger.info("at import")
def handler(event, context):
    logger.info("order %s", 7)
    logging.getLogger("lib").debug("too fine")
    return type(logging).__name__, logging.__spec__.name
"""


async def test_log_records_arrive_as_on_lambda(stage: Scene) -> None:
    """`logger.info` needs no set-up: level, UTC time, request and message, once, with tabs between."""
    it = await stage.started(LOGGING)
    answer = await stage.call(it)
    assert answer.json == ["module", "logging"]
    _, record, end, *_ = answer.tail.decode().split("\n")
    level, at, request, message = record.split("\t")
    assert (level, request, message) == ("[INFO]", answer.request_id, "order 7")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
    assert end.startswith("END ")


async def test_a_fork_that_returns_from_the_handler_does_not_answer(stage: Scene) -> None:
    """One call has one answer, the parent's."""
    source = "import os\ndef handler(e, c):\n    pid = os.fork()\n    if pid:\n        os.waitpid(pid, 0)\n"
    it = await stage.started(source + "    return bool(pid)")
    assert [(await stage.call(it)).json for _ in range(3)] == [True, True, True]


async def test_a_function_may_close_or_replace_its_output(stage: Scene) -> None:
    source = "import sys\ndef handler(e, c):\n    if e == 1:\n        sys.stdout.close()\n"
    it = await stage.started(
        source + "    else:\n        sys.stdout = sys.stderr = None\n    raise ValueError(e)"
    )
    for event in (1, 2):
        assert isinstance(answer := await stage.call(it, event), Answer)
        assert answer.json["errorMessage"] == str(event)
