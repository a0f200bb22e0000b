"""The adapters there are, by the kind of destination that each is for."""

from collections.abc import Mapping

from lambent_frontend.queue.destinations import Adapter
from lambent_frontend.queue.webhook import Webhooks


def adapters() -> Mapping[str, Adapter]:
    webhooks = Webhooks()
    return {"http": webhooks.deliver, "https": webhooks.deliver}
