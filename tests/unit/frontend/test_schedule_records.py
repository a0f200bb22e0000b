"""Schedules and how far they have come, written down and read."""

import pytest

from lambent_frontend.schedules import records
from lambent_frontend.schedules.records import Progress, Unreadable
from lambent_frontend.schedules.schedule import Misfire, Overlap, Schedule


def test_records_come_back_as_they_were() -> None:
    schedule = Schedule(
        name="s", function="f:1", expression="e", overlap=Overlap.REPLACE, misfire=Misfire.ALL, made_at=1.5
    )
    assert records.decode(records.encode(schedule)) == schedule
    progress = Progress(decided_until=2.0, request_id="r", queued=False, running=True)
    assert Progress.decode(progress.encode()) == progress


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x01", b"\x81\xa4name\x01", b"\x81\xadecided_until"])
def test_what_is_no_record_is_said_to_be_none(value: bytes) -> None:
    for decode in (records.decode, Progress.decode):
        if value != b"\x81\xa4name\x01" or decode is records.decode:
            with pytest.raises(Unreadable):
                decode(value)
