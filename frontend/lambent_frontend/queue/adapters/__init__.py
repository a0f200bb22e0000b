"""The adapters there are, by the kind of destination that each is for.

Each takes one record to its destination, and raises whatever says that it was not taken. Libraries are
loaded for the first record of their kind.
"""

from collections.abc import Mapping

from lambent_frontend.queue.adapters.nats import NatsSubjects
from lambent_frontend.queue.adapters.rabbitmq import RabbitQueues
from lambent_frontend.queue.adapters.redis import RedisStreams
from lambent_frontend.queue.adapters.sqs import SqsQueues
from lambent_frontend.queue.adapters.webhook import Webhooks
from lambent_frontend.queue.destinations import Adapter


def adapters(sources: Mapping[str, str]) -> Mapping[str, Adapter]:
    """`sources` are the URLs of brokers by the names that ARNs call them."""
    webhooks = Webhooks()
    return {
        "http": webhooks,
        "https": webhooks,
        "sqs": SqsQueues(sources),
        "lambent-nats": NatsSubjects(sources),
        "lambent-redis": RedisStreams(sources),
        "lambent-rabbitmq": RabbitQueues(sources),
    }
