"""Writes each machine's filter from the list of allowed calls, or with --check says whether one is stale.

    python -m lambent_worker.sandbox.seccomp.generate [--check]

A program looks the number of a call up in a binary tree: eight comparisons or so for each call that is made.
"""

import errno
import struct
import sys
from itertools import groupby
from pathlib import Path
from typing import Final

from lambent_worker.sandbox.seccomp.allowed import (
    ABSENT,
    ALLOWED,
    CHECKED,
    MACHINES,
    NEWEST,
    OF_SNAPSHOTS,
    Condition,
    Group,
)

Code = list[tuple[int, int, int, int]]
"""Operation, how many instructions to skip if it is true and if it is false, constant."""

_LOAD, _RETURN, _IF_EQUAL, _IF_AT_LEAST, _IF_BITS = 0x20, 0x06, 0x15, 0x35, 0x45
"""From <linux/bpf_common.h>."""
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data of <linux/seccomp.h>. These machines have an argument's lower half first."""
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
"""SECCOMP_RET_* of the same."""

_ALLOWED: Final[Code] = [(_RETURN, 0, 0, _ALLOW)]
_REFUSED: Final[Code] = [(_RETURN, 0, 0, _ERRNO | errno.EPERM)]
_UNKNOWN: Final[Code] = [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
_KILLED: Final[Code] = [(_RETURN, 0, 0, _KILL)]


KINDS: Final[dict[str, tuple[Group, ...]]] = {"": (), "-snapshot": OF_SNAPSHOTS}
"""By what the names of their files end with: what is allowed besides."""


def program(machine: str, kind: str = "") -> bytes:
    """A call made as another machine's (32 bits, on x86_64) ends the process: its number means another."""
    code: Code = [
        (_LOAD, 0, 0, _MACHINE),
        (_IF_EQUAL, 1, 0, MACHINES[machine]),
        *_KILLED,
        (_LOAD, 0, 0, _NUMBER),
        *_tree(_ranges(_verdicts(machine, (*ALLOWED, *KINDS[kind])))),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _verdicts(machine: str, allowed: tuple[Group, ...]) -> list[Code]:
    """By number: what happens to a call."""
    verdicts = [_REFUSED] * (NEWEST + 1)
    for group in allowed:
        for _, number in group.numbers(machine):
            verdicts[number] = _ALLOWED
    for group in ABSENT:
        for _, number in group.numbers(machine):
            verdicts[number] = _UNKNOWN
    for checked in CHECKED:
        for _, number in checked.group.numbers(machine):
            verdicts[number] = _check(checked.ways)
    return [*verdicts, _UNKNOWN]


def _ranges(verdicts: list[Code]) -> list[tuple[int, Code]]:
    """Where each run of the same verdict begins; the last has no end."""
    runs = groupby(enumerate(verdicts), lambda numbered: numbered[1])
    return [(next(run)[0], verdict) for verdict, run in runs]


def _tree(ranges: list[tuple[int, Code]]) -> Code:
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below = _tree(ranges[:middle])
    return [(_IF_AT_LEAST, len(below), 0, ranges[middle][0]), *below, *_tree(ranges[middle:])]


def _check(ways: tuple[tuple[Condition, ...], ...]) -> Code:
    code = _REFUSED
    for conditions in reversed(ways):
        passed = _ALLOWED
        for condition in reversed(conditions):
            passed = [*_condition(condition, len(passed)), *passed]
        code = [*passed, *code]
    return code


def _condition(condition: Condition, skip: int) -> Code:
    """Goes on behind itself if it holds, and skips as many more instructions if not."""
    load = (_LOAD, 0, 0, _ARGUMENTS + 8 * condition.argument)
    if condition.no_bits:
        return [load, (_IF_BITS, skip, 0, condition.no_bits)]
    values = condition.one_of or condition.none_of
    behind = range(len(values) - 1, -1, -1)
    if condition.none_of:
        return [
            load,
            *((_IF_EQUAL, left + skip, 0, value) for left, value in zip(behind, values, strict=True)),
        ]
    equal = [(_IF_EQUAL, left, 0, value) for left, value in zip(behind, values, strict=True)]
    return [load, *equal[:-1], (_IF_EQUAL, 0, skip, values[-1])]


def stale() -> list[str]:
    """Committed programs that are not what the list says."""
    return [
        machine + kind
        for machine in MACHINES
        for kind in KINDS
        if not _same(_path(machine, kind), program(machine, kind))
    ]


def _path(machine: str, kind: str) -> Path:
    return Path(__file__).with_name(f"{machine}{kind}.bpf")


def _same(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content


def main() -> None:
    if "--check" in sys.argv[1:]:
        if machines := stale():
            sys.exit(f"stale: {', '.join(machines)}; python -m {__spec__.name} renews them")
        return
    for machine in MACHINES:
        for kind in KINDS:
            _path(machine, kind).write_bytes(program(machine, kind))


if __name__ == "__main__":
    main()
