"""The committed system call filters are what the list of allowed calls says, instruction by instruction."""

import errno
import itertools
import re
import struct
from pathlib import Path

import pytest

from lambent_worker.sandbox.seccomp import allowed, generate, program

ALLOW = 0x7FFF0000
KILL = 0x80000000
REFUSED = 0x50000 | errno.EPERM
ABSENT = 0x50000 | errno.ENOSYS

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
GROUPS = (*allowed.ALLOWED, *allowed.ABSENT, *(checked.group for checked in allowed.CHECKED))
machines = pytest.mark.parametrize("machine", allowed.MACHINES)


def verdict(code: bytes, machine: int, number: int, *arguments: int) -> int:
    """What the kernel would make of a call."""
    arguments += (0,) * (6 - len(arguments))
    data = struct.pack("<IIQ6Q", number, machine, 0, *arguments)
    at = loaded = 0
    while True:
        operation, true, false, constant = struct.unpack_from("<HBBI", code, 8 * at)
        at += 1
        match operation:
            case 0x20:
                (loaded,) = struct.unpack_from("<I", data, constant)
            case 0x06:
                return int(constant)
            case 0x15:
                at += true if loaded == constant else false
            case 0x35:
                at += true if loaded >= constant else false
            case 0x45:
                at += true if loaded & constant else false
            case _:
                pytest.fail(f"unknown instruction {operation:#x}")


def test_the_programs_are_fresh() -> None:
    """`python -m lambent_worker.sandbox.seccomp.generate` renews them."""
    assert generate.stale() == []


def test_an_unknown_machine_has_none() -> None:
    with pytest.raises(LookupError, match="riscv64"):
        program("riscv64")


@machines
def test_every_number_has_its_verdict(machine: str) -> None:
    """What is on the list is allowed; what is not is refused; what is newer than the list is absent."""
    code, audit = program(machine), allowed.MACHINES[machine]
    special = {number for checked in allowed.CHECKED for _, number in checked.group.numbers(machine)}
    listed = {number for group in allowed.ALLOWED for _, number in group.numbers(machine)}
    absent = {number for group in allowed.ABSENT for _, number in group.numbers(machine)}
    assert not special & listed
    for number in itertools.chain(range(allowed.NEWEST + 200), (1 << 30, (1 << 30) + 1, (1 << 32) - 1)):
        if number not in special:
            new = number in absent or number > allowed.NEWEST
            expected = ALLOW if number in listed else ABSENT if new else REFUSED
            assert verdict(code, audit, number) == expected, number


@machines
def test_arguments_are_looked_at(machine: str) -> None:
    """The upper half, which the kernel ignores, changes nothing."""
    numbers = dict(pair for checked in allowed.CHECKED for pair in checked.group.numbers(machine))

    def call(name: str, *arguments: int) -> bool:
        code, audit = program(machine), allowed.MACHINES[machine]
        plain = verdict(code, audit, numbers[name], *arguments)
        assert plain == verdict(code, audit, numbers[name], *(each | 1 << 40 for each in arguments))
        assert plain in (ALLOW, REFUSED)
        return plain == ALLOW

    assert call("clone", 0x3D0F00)  # a thread
    assert call("clone", 0x1200011)  # a fork
    for namespace in (0x20000, *(1 << bit for bit in range(25, 31))):
        assert not call("clone", namespace | 17)
    assert [family for family in range(64) if call("socket", family, 1, 0)] == [1, 2, 10, 16]
    assert [protocol for protocol in range(32) if call("socket", 16, 3, protocol)] == [0]
    assert [family for family in range(64) if call("socketpair", family, 1, 0)] == [1]
    assert [bit for bit in range(32) if call("personality", 1 << bit)] == [3, 17]
    assert call("personality", 0xFFFFFFFF)
    assert [request for request in range(0x5400, 0x5500) if not call("ioctl", 0, request)] == [0x5412, 0x541C]


@machines
def test_calls_of_another_machine_end_the_process(machine: str) -> None:
    """On x86_64 a call number of 32 bits means another call."""
    assert verdict(program(machine), 0x40000003, 1) == KILL


@machines
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    """As far as the headers of this host go."""
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed (linux-libc-dev)")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    numbers = {name: int(number) for name, number in defined} | (
        {"fstat": 80, "newfstatat": 79} if machine == "aarch64" else {}
    )
    ours = dict(pair for group in GROUPS for pair in group.numbers(machine))
    assert {name: numbers[name] for name in ours if name in numbers} == {
        name: number for name, number in ours.items() if name in numbers
    }
    assert all(ours[name] > 450 for name in ours.keys() - numbers)
