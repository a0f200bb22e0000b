"""A schedule is its seed's, and leaves what a fleet cannot do without."""

import pytest

from tests.chaos.fleet import MEMBERS, PARTS, kind_of
from tests.chaos.schedule import REST_S, drawn, majorities, pairs

SEEDS = range(20)


def test_a_seed_is_always_the_same_schedule() -> None:
    assert drawn(7, 600) == drawn(7, 600)
    assert drawn(7, 600) != drawn(8, 600)
    assert drawn(7, 600)[: len(drawn(7, 60))] == drawn(7, 60)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_faults_at_a_time_and_one_of_each_kind_is_left(seed: int) -> None:
    """But for those that take a whole kind away, and then nothing else is hurt."""
    planned = drawn(seed, 600)
    for fault in planned:
        during = [
            it for it in planned if it is not fault and it.at <= fault.at < it.until + REST_S and it.hosts
        ]
        assert sum(it.until > fault.at for it in during) < 2
        if fault.hosts:
            kinds = {kind_of(host) for it in during for host in it.hosts}
            assert kinds.isdisjoint(kind_of(host) for host in fault.hosts)
            assert len(fault.hosts) == 1 or not during
            assert all(len(it.hosts) == 1 for it in during)


def test_all_pairs_that_talk_are_cut_and_each_member_is_parted_with_parts_of_each_kind() -> None:
    cut = {frozenset((*it.hosts, *it.away)) for it in pairs()}
    assert {frozenset((part, member)) for part in PARTS for member in MEMBERS} < cut
    assert frozenset(("worker-4", "frontend-2")) in cut
    assert frozenset(("callers", "frontend-1")) in cut
    splits = [it.hosts for split in majorities() for it in split if it.kind == "each majority"]
    for member in MEMBERS:
        beside = {kind_of(host) for hosts in splits if member in hosts for host in hosts}
        assert beside == {"etcd", "placement", "worker", "frontend"}
