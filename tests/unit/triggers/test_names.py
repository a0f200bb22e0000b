"""What sources are called, and where the frontends are told that they are."""

import pytest
from click.testing import CliRunner

from lambent.cli.trigger import named_source, trigger
from lambent_frontend.settings import FrontendSettings
from lambent_frontend.triggers.names import SourceName, kafka_servers, kafka_with, parse_sources, source_named
from lambent_proto.errors import InvalidRequest

WHERE = "us-east-1", "000000000000"


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        ("arn:aws:s3:::bkt", SourceName("s3", "", "", "bkt", "")),
        ("arn:aws:s3:::bkt/in/x", SourceName("s3", "", "", "bkt", "in/x")),
        ("arn:aws:lambent-folder:us-east-1:000000000000:in", SourceName("folder", *WHERE, "in", "")),
        ("arn:aws:lambent-folder:us-east-1:000000000000:in/a", SourceName("folder", *WHERE, "in", "a")),
        ("arn:aws:sqs:us-east-1:000000000000:q.fifo", SourceName("sqs", *WHERE, "q.fifo", "")),
        ("arn:aws:kinesis:us-east-1:000000000000:stream/s", SourceName("kinesis", *WHERE, "s", "")),
        ("arn:aws:mq:us-east-1:000000000000:broker:b:id-1", SourceName("rabbitmq", *WHERE, "b", "")),
        (
            "arn:aws:lambent-redis:us-east-1:000000000000:jobs/a:b/c",
            SourceName("redis", *WHERE, "jobs", "a:b/c"),
        ),
        (
            "arn:aws:lambent-nats:us-east-1:000000000000:bus/ORDERS",
            SourceName("nats", *WHERE, "bus", "ORDERS"),
        ),
    ],
)
def test_arns(arn: str, expected: SourceName) -> None:
    assert source_named(arn) == expected


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "q",
        "arn:aws:sqs:us-east-1:000000000000",
        "arn:aws:sqs:us-east-1:000000000000:a b",
        "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/1",
        "arn:aws:kafka:us-east-1:000000000000:cluster/c/1",
        "arn:aws:lambent-redis:us-east-1:000000000000:jobs",
        "arn:aws:lambent-nats:us-east-1:000000000000:bus/a.>",
    ],
)
def test_what_is_no_source(arn: str) -> None:
    with pytest.raises(InvalidRequest, match="Unrecognized event source"):
        source_named(arn)


def test_where_they_are() -> None:
    given = ["sqs=http://h:1", "jobs=redis://:secret@h:2/0?a=b"]
    assert parse_sources(given) == {"sqs": "http://h:1", "jobs": "redis://:secret@h:2/0?a=b"}
    assert parse_sources([]) == {}


def test_where_a_kafka_is() -> None:
    """Its servers may have been taken apart at their commas, as out of the environment."""
    url = "kafkas://u:p@h:1,i:2/?mechanism=PLAIN"
    assert parse_sources(["sqs=http://h:1", f"bus={url}", "jobs=redis://h"])["bus"] == url
    assert parse_sources(["sqs=http://h:1", *f"bus={url}".split(","), "jobs=redis://h"])["bus"] == url
    assert kafka_servers(url) == ("h:1", "i:2")
    with pytest.raises(ValueError, match="sources"):
        parse_sources(["sqs=http://h:1", "i:2"])


def test_a_kafka_is_known_by_its_servers() -> None:
    """Nobody makes a frontend connect to an address that it was not told of."""
    sources = {"jobs": "redis://h:1", "bus": "kafka://u:secret@h:1,i:2"}
    arn = "arn:aws:lambent-kafka:us-east-1:000000000000:bus"
    assert kafka_with(["i:2"], sources) == kafka_with(["h:1", "i:2"], sources) == arn
    assert source_named(arn) == SourceName("kafka", *WHERE, "bus", "")
    for servers in (["h:2"], ["h:1", "evil:1"]):
        with pytest.raises(InvalidRequest, match="no Kafka with the servers") as error:
            kafka_with(servers, sources)
        assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "given",
    [
        "secret",
        "=redis://secret",
        "a b=redis://secret",
        "sqs=redis://secret",
        "jobs=http://secret",
        "jobs=redis://",
        "jobs=redis://:secret/secret@h:1",
        "mq=amqp://user:secret#secret@h",
        "mq=amqp://user:secret@[h",
        "bus=kafka://user:secret@h",
        "in=file://secret/in",
        "in=file:secret",
        "bus=kafka://user:secret@h:1,i",
    ],
)
def test_a_password_is_never_shown(given: str) -> None:
    with pytest.raises(ValueError, match="sources: ") as error:
        parse_sources([given])
    assert "secret" not in str(error.value)


def test_the_settings_are_checked_at_the_start() -> None:
    with pytest.raises(ValueError, match="sources: jobs is there twice"):
        FrontendSettings(etcd=["h:1"], packages="p", sources=["jobs=redis://a", "jobs=redis://b"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sqs:q", {"source": "arn:aws:sqs:us-east-1:000000000000:q"}),
        ("kinesis:s", {"source": "arn:aws:kinesis:us-east-1:000000000000:stream/s"}),
        ("redis:jobs/s", {"source": "arn:aws:lambent-redis:us-east-1:000000000000:jobs/s"}),
        ("nats:bus/S", {"source": "arn:aws:lambent-nats:us-east-1:000000000000:bus/S"}),
        ("folder:inbox/a", {"source": "arn:aws:lambent-folder:us-east-1:000000000000:inbox/a"}),
        ("s3:bucket/a", {"source": "arn:aws:s3:us-east-1:000000000000:bucket/a"}),
        ("kafka:bus/t", {"source": "arn:aws:lambent-kafka:us-east-1:000000000000:bus", "queue": "t"}),
        (
            "rabbitmq:mq/q",
            {"source": "arn:aws:mq:us-east-1:000000000000:broker:mq:b-0", "queue": "q"},
        ),
        ("arn:aws:sqs:eu-west-1:123456789012:q", {"source": "arn:aws:sqs:eu-west-1:123456789012:q"}),
    ],
)
def test_short_names_on_the_command_line(given: str, expected: dict[str, str]) -> None:
    """Each is the ARN that the frontend reads the same out of."""
    assert named_source(given) == expected
    source_named(expected["source"])


@pytest.mark.parametrize("given", ["q", "sqs:", "rabbitmq:mq", "mqtt:h:1/t"])
def test_what_the_command_line_does_not_take(given: str) -> None:
    done = CliRunner().invoke(trigger, ["create", "f", given])
    assert done.exit_code == 2
    assert "rabbitmq:NAME/QUEUE" in done.output
