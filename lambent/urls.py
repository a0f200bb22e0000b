"""Function URLs and resource policies: `Client.urls` and `Client.policies`.

Everything raises LambentError.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from lambent.rpc import ASK_WITHIN_S, answer
from lambent_proto.errors import StatementExists
from lambent_proto.v1 import policies_pb2, policies_pb2_grpc, urls_pb2, urls_pb2_grpc

PUBLIC: Final[Mapping[str, Mapping[str, str | bool]]] = {
    "FunctionURLAllowPublicAccess": {
        "action": "lambda:InvokeFunctionUrl",
        "function_url_auth_type": "NONE",
    },
    "FunctionURLInvokeAllowPublicAccess": {
        "action": "lambda:InvokeFunction",
        "invoked_via_function_url": True,
    },
}
"""What lets everybody call a URL that asks nobody who they are, by statement id, as AWS's console adds it."""


class Policies:
    def __init__(self, stub: "policies_pb2_grpc.PoliciesAsyncStub") -> None:
        self._stub = stub

    async def add_permission(self, request: policies_pb2.AddPermissionRequest) -> str:
        """Returns the statement as JSON. Raises StatementExists if the policy has one of this id."""
        return (await answer(self._stub.AddPermission(request, timeout=ASK_WITHIN_S))).statement

    async def get(self, name: str, qualifier: str = "") -> policies_pb2.GetPolicyResponse:
        """Raises UnknownStatement where nothing was added."""
        request = policies_pb2.GetPolicyRequest(function_name=name, qualifier=qualifier)
        return await answer(self._stub.GetPolicy(request, timeout=ASK_WITHIN_S))

    async def remove_permission(
        self, name: str, statement_id: str, qualifier: str = "", *, revision_id: str = ""
    ) -> None:
        request = policies_pb2.RemovePermissionRequest(
            function_name=name, qualifier=qualifier, statement_id=statement_id, revision_id=revision_id
        )
        await answer(self._stub.RemovePermission(request, timeout=ASK_WITHIN_S))

    async def open_url(self, name: str, qualifier: str = "") -> None:
        """Lets everybody call the URL, if it asks nobody who they are; what is there already stays."""
        for statement_id, fields in PUBLIC.items():
            request = policies_pb2.AddPermissionRequest(
                function_name=name,
                qualifier=qualifier,
                statement_id=statement_id,
                principal="*",
                **fields,  # type: ignore[arg-type]
            )
            try:
                await self.add_permission(request)
            except StatementExists:
                continue


class FunctionUrls:
    def __init__(self, stub: "urls_pb2_grpc.FunctionUrlsAsyncStub") -> None:
        self._stub = stub

    async def create(
        self,
        name: str,
        qualifier: str = "",
        *,
        auth_type: str,
        invoke_mode: str = "",
        cors: urls_pb2.Cors | None = None,
    ) -> urls_pb2.FunctionUrl:
        """Nobody may call it before its policy says so. Raises UrlExists if there is one."""
        request = urls_pb2.CreateFunctionUrlRequest(
            function_name=name, qualifier=qualifier, auth_type=auth_type, invoke_mode=invoke_mode, cors=cors
        )
        return await answer(self._stub.CreateFunctionUrl(request, timeout=ASK_WITHIN_S))

    async def get(self, name: str, qualifier: str = "") -> urls_pb2.FunctionUrl:
        """Raises UnknownUrl if there is none."""
        request = urls_pb2.GetFunctionUrlRequest(function_name=name, qualifier=qualifier)
        return await answer(self._stub.GetFunctionUrl(request, timeout=ASK_WITHIN_S))

    async def update(
        self,
        name: str,
        qualifier: str = "",
        *,
        auth_type: str = "",
        invoke_mode: str = "",
        cors: urls_pb2.Cors | None = None,
    ) -> urls_pb2.FunctionUrl:
        """Changes what is given; a `cors` that says nothing takes it away."""
        request = urls_pb2.UpdateFunctionUrlRequest(
            function_name=name, qualifier=qualifier, auth_type=auth_type, invoke_mode=invoke_mode, cors=cors
        )
        return await answer(self._stub.UpdateFunctionUrl(request, timeout=ASK_WITHIN_S))

    async def list_urls(self, name: str) -> list[urls_pb2.FunctionUrl]:
        """The function's own first, then those of its aliases."""
        urls: list[urls_pb2.FunctionUrl] = []
        request = urls_pb2.ListFunctionUrlsRequest(function_name=name, max_items=1000)
        while True:
            page = await answer(self._stub.ListFunctionUrls(request, timeout=ASK_WITHIN_S))
            urls += page.urls
            if not page.next_marker:
                return urls
            request.marker = page.next_marker

    async def delete(self, name: str, qualifier: str = "") -> None:
        request = urls_pb2.DeleteFunctionUrlRequest(function_name=name, qualifier=qualifier)
        await answer(self._stub.DeleteFunctionUrl(request, timeout=ASK_WITHIN_S))


def cors_of(
    *,
    origins: Iterable[str] = (),
    methods: Iterable[str] = (),
    headers: Iterable[str] = (),
    expose: Iterable[str] = (),
    credentials: bool = False,
    max_age_s: int | None = None,
) -> urls_pb2.Cors:
    """Settings for web pages of other origins, of what is given."""
    cors = urls_pb2.Cors(max_age_s=max_age_s, allow_credentials=credentials or None)
    given = {
        "allow_origins": origins,
        "allow_methods": methods,
        "allow_headers": headers,
        "expose_headers": expose,
    }
    for name, names in given.items():
        if names := list(names):
            getattr(cors, name).CopyFrom(urls_pb2.CorsNames(names=names))
    return cors
