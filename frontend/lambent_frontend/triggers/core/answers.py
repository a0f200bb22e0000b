"""What a function's answer says of a batch, where it reports which records failed."""

import json
from collections.abc import Collection
from typing import Any


def failed_ids(answer: bytes, ids: Collection[str]) -> frozenset[str] | None:
    """The ids that the answer names as failed; None: the whole batch failed.

    By Lambda's rules: no answer, null, an answer without `batchItemFailures`, null or an empty list there
    mean that all succeeded. JSON of any other form, and an identifier that is missing, null, empty or of no
    record of the batch, mean that all failed.
    """
    try:
        said = json.loads(answer) if answer else None
    except (ValueError, RecursionError):
        return None
    if said is None:
        return frozenset()
    if not isinstance(said, dict):
        return None
    items = said.get("batchItemFailures")
    if items is None:
        return frozenset()
    if not isinstance(items, list):
        return None
    failed = [_identifier(item) for item in items]
    known = set(ids)
    return None if any(it not in known for it in failed) else frozenset(it for it in failed if it)


def _identifier(item: Any) -> str:
    """Empty if there is none. Of Kafka it is an object, and stands for what such a record's id is."""
    identifier = item.get("itemIdentifier") if isinstance(item, dict) else None
    if isinstance(identifier, dict):
        partition, offset = identifier.get("partition"), identifier.get("offset")
        return f"{partition}:{offset}" if isinstance(partition, str) and type(offset) is int else ""
    return identifier if isinstance(identifier, str) else ""
