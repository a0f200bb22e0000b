"""Functions that are invoked by the clock: `Client.schedules`.

Everything raises LambentError.
"""

from lambent.rpc import ASK_WITHIN_S, answer
from lambent_proto.v1 import schedules_pb2 as pb
from lambent_proto.v1 import schedules_pb2_grpc


class Schedules:
    def __init__(self, stub: "schedules_pb2_grpc.SchedulesAsyncStub") -> None:
        self._stub = stub

    async def create(self, name: str, settings: pb.ScheduleSettings) -> pb.Schedule:
        """They take a function's name and an expression at least. Raises ScheduleExists."""
        request = pb.CreateScheduleRequest(name=name, settings=settings)
        return await answer(self._stub.CreateSchedule(request, timeout=ASK_WITHIN_S))

    async def update(self, name: str, settings: pb.ScheduleSettings) -> pb.Schedule:
        """Changes what is given. Where its times are others, or it is enabled again, they count from now."""
        request = pb.UpdateScheduleRequest(name=name, settings=settings)
        return await answer(self._stub.UpdateSchedule(request, timeout=ASK_WITHIN_S))

    async def get(self, name: str) -> pb.Schedule:
        """Raises UnknownSchedule."""
        request = pb.GetScheduleRequest(name=name)
        return await answer(self._stub.GetSchedule(request, timeout=ASK_WITHIN_S))

    async def ls(self) -> list[pb.Schedule]:
        """By name."""
        found: list[pb.Schedule] = []
        request = pb.ListSchedulesRequest(max_items=1000)
        while True:
            page = await answer(self._stub.ListSchedules(request, timeout=ASK_WITHIN_S))
            found += page.schedules
            if not page.next_marker:
                return found
            request.marker = page.next_marker

    async def delete(self, name: str) -> None:
        """What it has begun goes on."""
        request = pb.DeleteScheduleRequest(name=name)
        await answer(self._stub.DeleteSchedule(request, timeout=ASK_WITHIN_S))
