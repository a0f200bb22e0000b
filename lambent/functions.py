"""What `Client` can do with functions. Everything raises LambentError."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from lambent.messages import configuration_of
from lambent.rpc import ASK_WITHIN_S, UPLOAD_WITHIN_S, answer, parts_of
from lambent_proto.v1 import functions_pb2

if TYPE_CHECKING:
    from lambent_proto.v1.functions_pb2_grpc import FunctionsAsyncStub


class FunctionCalls:
    _functions: "FunctionsAsyncStub"

    async def create_function(
        self,
        name: str,
        zip_file: bytes = b"",
        *,
        runtime: str,
        handler: str,
        memory_mb: int | None = None,
        timeout_s: float | None = None,
        environment: Mapping[str, str] | None = None,
        description: str | None = None,
        concurrency: int | None = None,
        layers: Sequence[str] | None = None,
        tmp_mb: int | None = None,
        network: bool | None = None,
        snapstart: bool | None = None,
        require: Sequence[str] | None = None,
        prefer: Sequence[str] | None = None,
        apart: bool | None = None,
        dead_letter: str | None = None,
        role: str | None = None,
        tags: Mapping[str, str] | None = None,
        publish: bool = False,
        stored_zip: str = "",
    ) -> functions_pb2.Function:
        """Each of `layers` is NAME:VERSION or the ARN of a layer's version; later ones' files win.

        `require` and `prefer` are labels of nodes, each KEY=VALUE. `dead_letter` is where events of
        asynchronous calls go that were given up, an ARN or a URL. With `publish` the answer is the version
        that is made of it in the same transaction. `stored_zip`, in the place of `zip_file`, is the name of
        one in the package store, `uploads/NAME`.
        """
        configuration = configuration_of(
            runtime=runtime,
            handler=handler,
            memory_mb=memory_mb,
            timeout_s=timeout_s,
            environment=environment,
            description=description,
            concurrency=concurrency,
            layers=layers,
            tmp_mb=tmp_mb,
            network=network,
            snapstart=snapstart,
            require=require,
            prefer=prefer,
            apart=apart,
            role=role,
            dead_letter=dead_letter,
        )
        if tags:
            configuration.tags.CopyFrom(functions_pb2.TagMap(tags=tags))
        request = functions_pb2.CreateFunctionRequest(
            name=name,
            zip_file=zip_file,
            stored_zip=stored_zip,
            configuration=configuration,
            publish=publish,
        )
        return await answer(self._functions.CreateFunction(request, timeout=UPLOAD_WITHIN_S))

    async def update_function(
        self,
        name: str,
        zip_file: bytes = b"",
        *,
        runtime: str | None = None,
        handler: str | None = None,
        memory_mb: int | None = None,
        timeout_s: float | None = None,
        environment: Mapping[str, str] | None = None,
        description: str | None = None,
        concurrency: int | Literal["default"] | None = None,
        layers: Sequence[str] | None = None,
        tmp_mb: int | None = None,
        network: bool | None = None,
        snapstart: bool | None = None,
        require: Sequence[str] | None = None,
        prefer: Sequence[str] | None = None,
        apart: bool | None = None,
        dead_letter: str | None = None,
        role: str | None = None,
        add_tags: Mapping[str, str] | None = None,
        remove_tags: Sequence[str] = (),
        revision_id: str = "",
        publish: bool = False,
        dry_run: bool = False,
        stored_zip: str = "",
    ) -> functions_pb2.Function:
        """Changes what is given; with `revision_id` only if that is the current revision.

        With `publish` the answer is the version that is made of it in the same transaction. A `dry_run`
        checks all of it, answers what it would be, and changes nothing. `stored_zip` is as in
        create_function.
        """
        configuration = configuration_of(
            runtime=runtime,
            handler=handler,
            memory_mb=memory_mb,
            timeout_s=timeout_s,
            environment=environment,
            description=description,
            concurrency=concurrency,
            layers=layers,
            tmp_mb=tmp_mb,
            network=network,
            snapstart=snapstart,
            require=require,
            prefer=prefer,
            apart=apart,
            role=role,
            dead_letter=dead_letter,
        )
        request = functions_pb2.UpdateFunctionRequest(
            name=name,
            zip_file=zip_file,
            stored_zip=stored_zip,
            configuration=configuration,
            revision_id=revision_id,
            publish=publish,
            dry_run=dry_run,
            add_tags=add_tags,
            remove_tags=remove_tags,
        )
        return await answer(self._functions.UpdateFunction(request, timeout=UPLOAD_WITHIN_S))

    async def get_function(self, name: str, qualifier: str = "") -> functions_pb2.Function:
        """`qualifier` is a version or an alias; empty: `$LATEST`."""
        request = functions_pb2.GetFunctionRequest(name=name, qualifier=qualifier)
        return await answer(self._functions.GetFunction(request, timeout=ASK_WITHIN_S))

    async def get_code(self, name: str, qualifier: str = "") -> AsyncIterator[bytes]:
        """The ZIP of a function, in parts."""
        request = functions_pb2.GetFunctionRequest(name=name, qualifier=qualifier)
        async for part in parts_of(self._functions.GetCode(request, timeout=UPLOAD_WITHIN_S)):
            yield part

    async def list_functions(self, *, all_versions: bool = False) -> list[functions_pb2.Function]:
        """All of them, by name; with `all_versions` of each also its versions, the oldest first."""
        functions: list[functions_pb2.Function] = []
        request = functions_pb2.ListFunctionsRequest(max_items=1000, all_versions=all_versions)
        while True:
            page = await answer(self._functions.ListFunctions(request, timeout=ASK_WITHIN_S))
            functions += page.functions
            if not page.next_marker:
                return functions
            request.marker = page.next_marker

    async def delete_function(self, name: str) -> None:
        request = functions_pb2.DeleteFunctionRequest(name=name)
        await answer(self._functions.DeleteFunction(request, timeout=ASK_WITHIN_S))
