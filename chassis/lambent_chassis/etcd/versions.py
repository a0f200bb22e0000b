"""Which etcd to trust with what. Sources: etcd's change logs, and kill -9 runs in docs/etcd.md."""

import re

Version = tuple[int, int, int]


def parse_version(text: str) -> Version:
    """The first `1.2.3` in a text.

    Raises:
        ValueError: there is none.
    """
    if found := re.search(r"(\d+)\.(\d+)\.(\d+)", text):
        major, minor, patch = found.groups()
        return int(major), int(minor), int(patch)
    raise ValueError(f"no etcd version in {text!r}")


def warning(version: Version) -> str:
    """What is wrong with a release, for people; empty for one that keeps what it acknowledged."""
    name = ".".join(map(str, version))
    advice = "Install etcd 3.5.13 or newer; Debian's etcd-server package (3.4.23 or newer) is sound as well."
    if (3, 5, 0) <= version < (3, 5, 6):
        return (
            f"etcd {name} can lose acknowledged writes when it is killed (kill -9, power loss). "
            f"That is fine on a laptop, not for anything you want to keep. {advice}"
        )
    if version < (3, 4, 22):
        return f"etcd {name} is older than 3.4.22, the first known to keep what it acknowledged. {advice}"
    return ""
