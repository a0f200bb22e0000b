"""What is Ruby's own: its handlers, and its errors."""

import json

import pytest

from tests.integration.worker.scene import Scene, runtimes_here

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif("ruby" not in runtimes_here().by_name, reason="ruby is not on this host"),
]

TILL = (
    'module Shop; class Till; def self.ring(event:, context:) = "#{event} #{context.function_name}"; end; end'
)


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"app.rb": 'def handler(event:, context:) = "#{event} fn"'}, "app.handler"),
        ({"app.rb": TILL}, "app.Shop::Till.ring"),
        ({"lib/app.rb": TILL}, "lib/app.Shop::Till.ring"),
        ({"app.rb": "require 'other'", "other.rb": TILL}, "app.Shop::Till.ring"),
        (
            {"app.rb": "require 'stringio'; def handler(event:, context:) = StringIO.new('\"a fn\"')"},
            "app.handler",
        ),
    ],
)
async def test_handlers(stage: Scene, files: dict[str, str], handler: str) -> None:
    """Methods of the file, of a class in it, in folders; and what can be read is the answer as it is."""
    it = await stage.started(files, handler=handler, runtime="ruby")
    assert (await stage.call(it, "a")).json == "a fn"


@pytest.mark.parametrize(
    ("source", "handler", "error_type"),
    [
        ("", "other.handler", "Init<LoadError>"),
        ("def other; end", "app.handler", "Runtime.HandlerNotFound"),
        ("", "app.No::Class.handler", "Runtime.HandlerNotFound"),
        ("def handler(", "app.handler", "Init<SyntaxError>"),
        ("", "app", "Runtime.MalformedHandlerName"),
    ],
)
async def test_what_cannot_be_initialised(stage: Scene, source: str, handler: str, error_type: str) -> None:
    """Each reason has a name that says whose it is."""
    said = await stage.failed_init({"app.rb": source}, handler=handler, runtime="ruby")
    assert json.loads(said.error)["errorType"] == error_type


async def test_an_exit_ends_the_runtime(stage: Scene) -> None:
    """`exit` is no error to be caught: the process ends with its status."""
    it = await stage.started(
        {"app.rb": "def handler(event:, context:) = exit(5)"}, handler="app.handler", runtime="ruby"
    )
    answer = await stage.call(it)
    assert answer.json["errorMessage"].endswith("exit status 5")


async def test_an_event_that_is_no_json(stage: Scene) -> None:
    """It fails its own call, and no other."""
    it = await stage.started(
        {"app.rb": "def handler(event:, context:) = event"}, handler="app.handler", runtime="ruby"
    )
    assert (await stage.call(it, raw=b"{")).json["errorType"] == "Runtime.UnmarshalError"
    assert (await stage.call(it, "ü")).json == "ü"
