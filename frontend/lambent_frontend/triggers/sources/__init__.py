"""The kinds of sources. What one needs is imported when the first trigger of its kind starts."""

from collections.abc import Mapping

from lambent_frontend.triggers.names import source_named
from lambent_frontend.triggers.sources.base import Kept, QueueSource, SourceFailed, StreamSource
from lambent_proto.triggers import Trigger


async def source_of(
    trigger: Trigger,
    urls: Mapping[str, str],
    kept: Kept,
) -> QueueSource | StreamSource:
    """`urls` are those of the setting `sources`.

    Raises SourceFailed if nobody says where the source is.
    """
    match trigger.kind:
        case "sqs":
            from lambent_frontend.triggers.sources.sqs import Sqs

            return Sqs(trigger, urls.get("sqs", ""))
        case "kinesis":
            from lambent_frontend.triggers.sources.kinesis import Kinesis

            return Kinesis(trigger, urls.get("kinesis", ""), await kept.places(), kept.place)
        case "kafka":
            from lambent_frontend.triggers.sources.kafka import Kafka

            return Kafka(trigger, _url(trigger, urls), await kept.places(), kept.place)
        case "folder":
            from lambent_frontend.triggers.sources.folder import Folder

            return Folder(trigger, _url(trigger, urls), kept)
        case "s3":
            from lambent_frontend.triggers.sources.s3 import Bucket

            return Bucket(trigger, urls.get("s3", ""), kept)
        case "redis":
            from lambent_frontend.triggers.sources.redis_streams import RedisStream

            return RedisStream(trigger, _url(trigger, urls))
        case "nats":
            from lambent_frontend.triggers.sources.jetstream import JetStream

            return JetStream(trigger, _url(trigger, urls))
        case "rabbitmq":
            from lambent_frontend.triggers.sources.rabbitmq import RabbitQueue

            return RabbitQueue(trigger, _url(trigger, urls))
        case _:
            raise SourceFailed(f"this frontend knows no sources of the kind {trigger.kind!r}: is it older?")


_SCHEMES = {
    "folder": ("file",),
    "kafka": ("kafka", "kafkas"),
    "redis": ("redis", "rediss"),
    "nats": ("nats", "tls"),
    "rabbitmq": ("amqp", "amqps"),
}


def _url(trigger: Trigger, urls: Mapping[str, str]) -> str:
    name = source_named(trigger.source).name
    url = urls.get(name, "")
    if url.partition("://")[0] not in _SCHEMES[trigger.kind]:
        raise SourceFailed(
            f"the setting `sources` of the frontends has no {name}={_SCHEMES[trigger.kind][0]}://..."
        )
    return url
