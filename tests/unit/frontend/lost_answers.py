"""A real etcd whose answers to changes are lost."""

from collections.abc import Sequence

from lambent_chassis.etcd import Compare, Delete, Etcd, EtcdUnavailable, KeyValue, Put, TransactionResult


class LosesAnswers:
    """After they were carried out, or before."""

    def __init__(self, etcd: Etcd, *, carried_out: bool) -> None:
        self.get_prefix = etcd.get_prefix
        self.follow_prefix = etcd.follow_prefix
        self.blind = False
        """Whether reads get no answer either, once one was lost."""
        self.lost = 0
        """Changes whose answers were."""
        self._etcd = etcd
        self._carried_out = carried_out

    async def get(self, key: str) -> KeyValue | None:
        if self.blind and self.lost:
            raise EtcdUnavailable("no member answers")
        return await self._etcd.get(key)

    async def transaction(
        self, compare: Sequence[Compare], success: Sequence[Put | Delete]
    ) -> TransactionResult:
        self.lost += 1
        if self._carried_out:
            await self._etcd.transaction(compare, success)
        raise EtcdUnavailable("the answer was lost", unknown=True)
