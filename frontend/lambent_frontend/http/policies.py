"""Operations on resource policies."""

from collections.abc import Mapping

from lambent_frontend.http import bodies, shapes
from lambent_frontend.http.api import Operation
from lambent_frontend.http.asked import Asked, choice
from lambent_frontend.http.errors import Refused
from lambent_frontend.http.messages import Response
from lambent_frontend.policies import Policies
from lambent_proto.errors import RevisionMismatch
from lambent_proto.urls import AUTH_TYPES
from lambent_proto.v1 import policies_pb2


class PolicyOperations:
    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    def operations(self) -> Mapping[str, Operation]:
        return {
            "AddPermission": self.add,
            "GetPolicy": self.get,
            "RemovePermission": self.remove,
        }

    async def add(self, asked: Asked) -> Response:
        named = asked.function()
        body = bodies.read(asked, bodies.AddPermission)
        request = policies_pb2.AddPermissionRequest(
            function_name=named.name,
            qualifier=named.qualifier,
            statement_id=body.StatementId,
            action=body.Action,
            principal=body.Principal,
            source_arn=body.SourceArn or "",
            source_account=body.SourceAccount or "",
            principal_org_id=body.PrincipalOrgID or "",
            event_source_token=body.EventSourceToken or "",
            function_url_auth_type=choice(
                body.FunctionUrlAuthType or "", "functionUrlAuthType", ("", *AUTH_TYPES)
            ),
            invoked_via_function_url=body.InvokedViaFunctionUrl,
            revision_id=body.RevisionId or "",
        )
        try:
            added = await self._policies.add_permission(request)
        except RevisionMismatch as error:
            raise _changed(error) from None
        return shapes.answer(201, {"Statement": added.statement})

    async def get(self, asked: Asked) -> Response:
        named = asked.function()
        request = policies_pb2.GetPolicyRequest(function_name=named.name, qualifier=named.qualifier)
        found = await self._policies.get_policy(request)
        return shapes.answer(200, {"Policy": found.policy, "RevisionId": found.revision_id})

    async def remove(self, asked: Asked) -> Response:
        named = asked.function()
        request = policies_pb2.RemovePermissionRequest(
            function_name=named.name,
            qualifier=named.qualifier,
            statement_id=asked.path["StatementId"],
            revision_id=asked.query.get("RevisionId", ""),
        )
        try:
            await self._policies.remove_permission(request)
        except RevisionMismatch as error:
            raise _changed(error) from None
        return Response(204)


def _changed(error: RevisionMismatch) -> Refused:
    said = (
        "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve "
        "the latest Revision Id"
    )
    return Refused(412, "PreconditionFailedException", said, detail=error.message)
