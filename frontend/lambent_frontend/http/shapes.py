"""What answers carry, by AWS's names."""

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from lambent_frontend.http import names
from lambent_frontend.http.bodies import ARCHITECTURE
from lambent_frontend.http.messages import Response
from lambent_proto.v1 import functions_pb2, layers_pb2, versions_pb2


def answer(status: int, body: dict[str, Any]) -> Response:
    return Response(status, json.dumps(body).encode())


def configuration(function: functions_pb2.Function, qualifier: str = "") -> dict[str, Any]:
    """Of a function that was asked for by this qualifier. Nothing is ever pending: what is stored can be
    called."""
    shape: dict[str, Any] = {
        "FunctionName": function.name,
        "FunctionArn": names.function_arn(function.name, qualifier),
        "Runtime": function.runtime,
        "Role": function.role,
        "Handler": function.handler,
        "CodeSize": function.code_size,
        "Description": function.description,
        "Timeout": math.ceil(function.timeout_s),
        "MemorySize": function.memory_mb,
        "LastModified": moment(function.last_modified.ToDatetime(UTC)),
        "CodeSha256": function.code_sha256,
        "Version": function.version,
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": function.revision_id,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": [ARCHITECTURE],
        "EphemeralStorage": {"Size": function.tmp_mb},
        "SnapStart": {
            "ApplyOn": "PublishedVersions" if function.snapstart else "None",
            "OptimizationStatus": "On" if function.snapstart else "Off",
        },
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": names.log_group(function.name)},
    }
    if function.dead_letter:
        shape["DeadLetterConfig"] = {"TargetArn": function.dead_letter}
    if function.environment:
        shape["Environment"] = {"Variables": dict(function.environment)}
    if function.layers:
        shape["Layers"] = [
            {"Arn": names.layer_version_arn(it.name, it.version), "CodeSize": it.code_size}
            for it in function.layers
        ]
    return shape


def version(function: functions_pb2.Function) -> dict[str, Any]:
    return configuration(function, function.version)


def alias(it: versions_pb2.Alias) -> dict[str, Any]:
    shape = {
        "AliasArn": names.function_arn(it.function_name, it.name),
        "Name": it.name,
        "FunctionVersion": it.version,
        "Description": it.description,
        "RevisionId": it.revision_id,
    }
    return shape | ({"RoutingConfig": {"AdditionalVersionWeights": dict(it.weights)}} if it.weights else {})


def provisioned(it: versions_pb2.Provisioned) -> dict[str, Any]:
    shape = {
        "RequestedProvisionedConcurrentExecutions": it.requested,
        "AllocatedProvisionedConcurrentExecutions": it.allocated,
        "AvailableProvisionedConcurrentExecutions": it.allocated,
        "Status": it.status,
    }
    return shape | ({"StatusReason": it.status_reason} if it.status_reason else {})


def located(location: str) -> dict[str, str]:
    return {"Location": location} if location else {}


def layer_version(it: layers_pb2.LayerVersion) -> dict[str, Any]:
    """As lists have it."""
    shape: dict[str, Any] = {
        "LayerVersionArn": names.layer_version_arn(it.name, it.version),
        "Version": it.version,
        "Description": it.description,
        "CreatedDate": moment(it.created_at.ToDatetime(UTC)),
        "CompatibleRuntimes": list(it.compatible_runtimes),
    }
    if it.compatible_architectures:
        shape["CompatibleArchitectures"] = list(it.compatible_architectures)
    return shape | ({"LicenseInfo": it.license} if it.license else {})


def page(key: str, items: Iterable[dict[str, Any]], marker: str, **more: Any) -> Response:
    return answer(200, {key: list(items)} | ({"NextMarker": marker} if marker else {}) | more)


def moment(at: datetime) -> str:
    """As Lambda writes it: `2025-11-24T23:08:55.000+0000`."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}+0000"
