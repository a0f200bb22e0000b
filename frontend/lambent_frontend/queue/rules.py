"""What is configured for an event: how often it is tried again, and where its record goes."""

from lambent_frontend.catalogue import Catalogue
from lambent_frontend.queue.core import verdict
from lambent_frontend.queue.core.verdict import Condition, Policy
from lambent_frontend.queue.destinations import lane_of_dead_letter, lane_of_record
from lambent_frontend.queue.store import Asked
from lambent_proto.definition import LATEST
from lambent_proto.event_invoke import EventInvoke


class Rules:
    """Read anew for each event: a change counts for those that wait as well."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def policy(self, asked: Asked) -> Policy:
        found = self._configured(asked)
        return Policy(
            verdict.RETRIES if found.retries is None else found.retries,
            verdict.MOST_AGE_S if found.most_age_s is None else found.most_age_s,
            found.delays_s or verdict.DELAYS_S,
        )

    def targets(self, asked: Asked, condition: Condition) -> tuple[str, ...]:
        """Lanes of the destinations that an event's record goes to."""
        found = self._configured(asked)
        if condition is Condition.SUCCESS:
            return (lane_of_record(found.on_success),) if found.on_success else ()
        definition = self._catalogue.resolve(asked.function, asked.qualifier, 0.0)
        dead_letter = definition.dead_letter if definition else ""
        return (
            *((lane_of_record(found.on_failure),) if found.on_failure else ()),
            *((lane_of_dead_letter(dead_letter),) if dead_letter else ()),
        )

    def _configured(self, asked: Asked) -> EventInvoke:
        configured = self._catalogue.deployed(asked.function).event_invoke
        return configured.get(asked.qualifier or LATEST) or EventInvoke()
