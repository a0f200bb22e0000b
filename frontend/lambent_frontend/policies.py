"""Resource policies of functions, versions and aliases. Bad input changes nothing."""

import uuid
from dataclasses import replace

from lambent_frontend import commits, policy
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.http.names import function_arn
from lambent_frontend.registry import Beside, Registry
from lambent_proto import keys
from lambent_proto.errors import (
    Contended,
    InvalidRequest,
    PolicyTooLong,
    RevisionMismatch,
    StatementExists,
    UnknownFunction,
    UnknownStatement,
)
from lambent_proto.ids import LATEST, FunctionName
from lambent_proto.policies import Policy, Statement
from lambent_proto.v1 import policies_pb2


class Policies:
    def __init__(self, catalogue: Catalogue, registry: Registry) -> None:
        self._catalogue = catalogue
        self._registry = registry

    async def add_permission(
        self, request: policies_pb2.AddPermissionRequest
    ) -> policies_pb2.AddPermissionResponse:
        name, qualifier = FunctionName(request.function_name), request.qualifier
        statement, arn = _statement(request), function_arn(name, qualifier)
        policy.check(statement)
        async for _ in commits.tries():
            beside, before = await self._stored(name, qualifier, request.revision_id)
            if any(it.sid == statement.sid for it in before.statements):
                raise StatementExists(
                    "The statement id (sid) provided already exists. Please provide a new statement id, or "
                    "remove the existing statement."
                )
            after = Policy((*before.statements, statement), uuid.uuid4().hex)
            if (size := len(policy.document(after, arn).encode())) > policy.MAX_BYTES:
                raise PolicyTooLong(
                    f"The final policy size ({size}) is bigger than the limit ({policy.MAX_BYTES})."
                )
            if await self._registry.put_beside(beside, after.encode()):
                return policies_pb2.AddPermissionResponse(statement=policy.statement_document(statement, arn))
        raise _contended(name)

    async def get_policy(self, request: policies_pb2.GetPolicyRequest) -> policies_pb2.GetPolicyResponse:
        name, qualifier = FunctionName(request.function_name), request.qualifier
        if self._catalogue.shown(name, qualifier) is None:
            raise _unknown(name, qualifier)
        known = self._catalogue.deployed(name).policies.get(qualifier)
        if known is None:
            raise UnknownStatement("The resource you requested does not exist.")
        return policies_pb2.GetPolicyResponse(
            policy=policy.document(known, function_arn(name, qualifier)), revision_id=known.revision
        )

    async def remove_permission(
        self, request: policies_pb2.RemovePermissionRequest
    ) -> policies_pb2.RemovePermissionResponse:
        name, qualifier = FunctionName(request.function_name), request.qualifier
        async for _ in commits.tries():
            beside, before = await self._stored(name, qualifier, request.revision_id)
            left = tuple(it for it in before.statements if it.sid != request.statement_id)
            if beside.known is None:
                raise UnknownStatement("No policy is associated with the given resource.")
            if left == before.statements:
                raise UnknownStatement(
                    f"Statement {request.statement_id[:100]} is not found in resource policy."
                )
            after = replace(before, statements=left, revision=uuid.uuid4().hex)
            if await (
                self._registry.put_beside(beside, after.encode())
                if left
                else self._registry.delete_beside(beside)
            ):
                return policies_pb2.RemovePermissionResponse()
        raise _contended(name)

    async def _stored(self, name: FunctionName, qualifier: str, revision_id: str) -> tuple[Beside, Policy]:
        """What etcd has; an empty policy where there is none."""
        if qualifier == LATEST:
            raise InvalidRequest(f"there is no policy of {LATEST}: leave the qualifier out")
        beside = await self._registry.beside(name, qualifier, keys.policy(name, qualifier))
        if beside is None:
            raise _unknown(name, qualifier)
        known = Policy.decode(beside.known.value) if beside.known else Policy((), "")
        if revision_id and revision_id != known.revision:
            raise RevisionMismatch(
                f"the policy of {name!r} is at revision {known.revision or 'none'}, not {revision_id}: "
                "somebody changed it; look at it and decide again"
            )
        return beside, known


def _statement(request: policies_pb2.AddPermissionRequest) -> Statement:
    via_url = request.invoked_via_function_url if request.HasField("invoked_via_function_url") else None
    return Statement(
        sid=request.statement_id,
        action=request.action,
        principal=request.principal,
        source_arn=request.source_arn,
        source_account=request.source_account,
        principal_org_id=request.principal_org_id,
        event_source_token=request.event_source_token,
        url_auth_type=request.function_url_auth_type,
        via_url=via_url,
    )


def _unknown(name: str, qualifier: str) -> UnknownFunction:
    what = f"no version or alias {qualifier!r}" if qualifier else "no such function"
    return UnknownFunction(f"function {name!r}: there is {what}")


def _contended(name: str) -> Contended:
    return Contended(
        f"the policy of {name!r} is being changed by others over and over: nothing was changed, try again"
    )
