"""A fact that whoever comes first writes down, and that holds for all who come later."""

from collections.abc import Sequence

from lambent_chassis.etcd import Compare, Etcd, Put


async def settled(etcd: Etcd, key: str, value: bytes, only_before: Sequence[str]) -> bytes | None:
    """What the key holds, which is `value` if there was nothing yet.

    None, and nothing is written, if there is nothing yet although something is under one of the prefixes
    `only_before`: it is too late to settle it. Whoever writes there has to settle the fact before.
    """
    while True:
        if found := await etcd.get(key):
            return found.value
        for prefix in only_before:
            if (await etcd.get_prefix(prefix)).items:
                return None
        # Whoever wrote under a prefix after it was read has written the key first: this then fails.
        await etcd.transaction([Compare.absent(key)], [Put(key, value)], repeat=True)
