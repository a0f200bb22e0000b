"""Who a part is: what its certificate calls it, and what it may say it is.

A certificate has two DNS names, `NAME.PART.lambent.internal` for this very part and `PART.lambent.internal`
for where any of its kind will do. Nobody has to resolve them: who connects knows which part it means, and
asks TLS for that name whatever the address was.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

DOMAIN: Final = "lambent.internal"

PARTS: Final = ("frontend", "placement", "worker", "operator")
"""Those that certificates are made for. An operator is a person, or a program such as Prometheus, that may
read what the parts tell of themselves."""


class Identity(NamedTuple):
    part: str
    name: str

    def __str__(self) -> str:
        return f"{self.part} {self.name}"


class NotAllowed(Exception):
    """The peer's certificate is another part's. The message says whose, and whose would do."""


def dns_name(part: str, name: str = "") -> str:
    """Without a name: what all parts of the kind are called."""
    return f"{name}.{part}.{DOMAIN}".lower() if name else f"{part}.{DOMAIN}"


def read(dns_names: Iterable[str]) -> Identity | None:
    """None where they are no part's."""
    for dns in dns_names:
        name, _, part = dns.lower().removesuffix(f".{DOMAIN}").rpartition(".")
        if name and part in PARTS and dns.lower().endswith(f".{DOMAIN}"):
            return Identity(part, name)
    return None


def process_name(name: str, number: int) -> str:
    """What a process of a frontend of several is called. Short enough for a name, however long `name` is."""
    return f"{name[:60]}-{number}"


def _speaks_as(there: Identity, name: str) -> bool:
    """The processes of one frontend have its certificate."""
    if name == there.name:
        return True
    number = name.rpartition("-")[2]
    is_number = number.isascii() and number.isdecimal() and len(number) < 4
    return there.part == "frontend" and is_number and name == process_name(there.name, int(number))


def check(dns_names: Iterable[str] | None, part: str, name: str | None = None) -> None:
    """Whether a peer with these names may speak as this part; `name` where it has to be a certain one.

    None, where there is no TLS between the parts, allows everything. Raises NotAllowed.
    """
    if dns_names is None:
        return
    there = read(dns_names)
    wanted = f"a {part}" if name is None else f"{part} {name.lower() or '(no name)'}"
    if there is None:
        raise NotAllowed(f"a certificate of {wanted} is needed, and this one is no part's of a fleet")
    if there.part != part or not (name is None or _speaks_as(there, name.lower())):
        raise NotAllowed(f"a certificate of {wanted} is needed, and this one is of {there}")


def check_any(dns_names: Iterable[str] | None) -> None:
    """Whether a peer with these names is a part of a fleet, or an operator; as `check`."""
    if dns_names is not None and read(dns_names) is None:
        raise NotAllowed(
            "a certificate of a part or an operator is needed, and this one is no part's of a fleet"
        )
