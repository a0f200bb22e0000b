"""What a key has to allow for a change of a function, where one request may do what are several actions at
Lambda."""

from collections.abc import Iterable

from lambent_frontend.queue.destinations import function_of_arn
from lambent_frontend.rules import layer_name
from lambent_proto.access import INVOKE, LAYER
from lambent_proto.v1 import functions_pb2

Need = tuple[str, str]
"""An action, and the resource that it is about."""


def creating(request: functions_pb2.CreateFunctionRequest) -> Iterable[Need]:
    yield "CreateFunction", request.name
    if request.configuration.HasField("concurrency"):
        yield "PutFunctionConcurrency", request.name
    if request.configuration.HasField("tags"):
        yield "TagResource", request.name
    yield from _of_both(request)


def updating(request: functions_pb2.UpdateFunctionRequest) -> Iterable[Need]:
    changed = {field.name for field, _ in request.configuration.ListFields()}
    if request.zip_file or request.stored_zip:
        yield "UpdateFunctionCode", request.name
    if "concurrency" in changed:
        yield "PutFunctionConcurrency", request.name
    if request.add_tags or "tags" in changed:
        yield "TagResource", request.name
    if request.remove_tags or "tags" in changed:  # a whole set takes away what is not in it
        yield "UntagResource", request.name
    others = request.zip_file or request.stored_zip or request.add_tags or request.remove_tags or changed
    if changed - {"concurrency", "tags"} or not others:
        yield "UpdateFunctionConfiguration", request.name
    yield from _of_both(request)


def _of_both(
    request: functions_pb2.CreateFunctionRequest | functions_pb2.UpdateFunctionRequest,
) -> Iterable[Need]:
    """Who attaches a layer can read it."""
    if request.publish:
        yield "PublishVersion", request.name
    for version in request.configuration.layers.versions:
        yield "GetLayerVersion", LAYER + layer_name(version)
    yield from sending_to(request.configuration.dead_letter)


def sending_to(*destinations: str) -> Iterable[Need]:
    """A function that records or dead letters go to is invoked with each of them."""
    for destination in destinations:
        if function := function_of_arn(destination):
            yield INVOKE, function[0]
