"""A worker does not start where its sandbox reaches less than the operator requires."""

from typing import get_args

import pytest

from lambent.cli import options
from lambent_worker.sandbox.api import LEVELS, PROTECTIONS, Protections
from lambent_worker.sandbox.required import NotIsolated, check_level
from lambent_worker.settings import WorkerSettings


def reaching(*without: str, backend: str = "namespaces") -> Protections:
    why = {name: f"this host has no {name}" for name in without}
    return Protections(backend, frozenset(PROTECTIONS) - why.keys(), why)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_reached_is_enough(level: str) -> None:
    """The level itself, and every weaker one; not the next stronger one."""
    order = list(LEVELS)
    protections = Protections("b", LEVELS[level])
    for required in order[: order.index(protections.level) + 1]:
        check_level(protections, required)
    for required in order[order.index(protections.level) + 1 :]:
        with pytest.raises(NotIsolated):
            check_level(protections, required)


def test_a_stronger_level_is_enough_though_it_lacks_what_a_weaker_one_has() -> None:
    """`namespaces-user` may have no limit of processes, which `landlock` has."""
    check_level(Protections("namespaces", LEVELS["namespaces-user"]), "landlock")


def test_the_message_names_what_is_missing_and_the_way_out() -> None:
    """Only what the required level needs, each with its reason; and how to lower it, on purpose."""
    with pytest.raises(NotIsolated) as refused:
        check_level(reaching("cpu_limit", "memory_limit", "own_kernel"), "namespaces")
    text = str(refused.value)
    assert "the backend namespaces reaches the isolation level namespaces-user on this host" in text
    assert "memory_limit (this host has no memory_limit); cpu_limit (this host has no cpu_limit)" in text
    assert "own_kernel" not in text
    assert "set require_isolation to namespaces-user (--require-isolation namespaces-user)" in text
    assert "`lambent worker doctor`" in text


def test_a_protection_without_a_reason_is_named_all_the_same() -> None:
    """A backend may say nothing of why."""
    with pytest.raises(NotIsolated, match=r"process_limit \(this backend does not give it\)"):
        check_level(Protections("b", frozenset()), "landlock")


def test_everyone_has_the_same_names() -> None:
    """Settings, command line and levels."""
    fields = WorkerSettings.model_fields
    assert get_args(fields["require_isolation"].annotation) == options.LEVELS == tuple(LEVELS)
    assert get_args(fields["sandbox"].annotation) == options.BACKENDS
