"""The JSON that requests carry, by AWS's names: what is known, of which type, and which parts of it are not
there.

What is null is absent. A field that AWS has and Lambent has not is refused unless it says nothing, such as
an empty VpcConfig: nobody shall believe in a protection that is not there.
"""

import base64
import binascii
import platform
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from lambent_frontend.http.asked import Asked
from lambent_frontend.http.errors import Refused, invalid, not_there
from lambent_frontend.http.names import function_named, log_group
from lambent_frontend.rules import (
    MAX_DESCRIPTION,
    MAX_HANDLER,
    MAX_TIMEOUT_S,
    MAX_TMP_MB,
    MAX_ZIP_BYTES,
    MIN_TMP_MB,
)
from lambent_proto.ids import MAX_MEMORY_MB, MIN_MEMORY_MB

ARCHITECTURE: Final = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
"""By Lambda's name. Of the frontend's host, for want of another: a fleet is of one kind."""

Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Anything = dict[str, Any] | list[Any] | str | int | None


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EnvironmentValue(Body):
    Variables: dict[str, str] | None = None


class StorageValue(Body):
    Size: Annotated[int, Field(ge=MIN_TMP_MB, le=MAX_TMP_MB)]


class SnapStartValue(Body):
    ApplyOn: str = "None"


class DeadLetterValue(Body):
    TargetArn: str | None = None


class Configuration(Body):
    """What CreateFunction and UpdateFunctionConfiguration have in common."""

    Runtime: str | None = None
    Role: str | None = None
    Handler: Annotated[str, Field(max_length=MAX_HANDLER, pattern=r"^[^\s]+$")] | None = None
    Description: Annotated[str, Field(max_length=MAX_DESCRIPTION)] | None = None
    Timeout: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_S)] | None = None
    MemorySize: Annotated[int, Field(ge=MIN_MEMORY_MB, le=MAX_MEMORY_MB)] | None = None
    Environment: EnvironmentValue | None = None
    Layers: list[str] | None = None
    EphemeralStorage: StorageValue | None = None
    SnapStart: SnapStartValue | None = None
    VpcConfig: Anything = None
    DeadLetterConfig: DeadLetterValue | None = None
    KMSKeyArn: Anything = None
    TracingConfig: Anything = None
    FileSystemConfigs: Anything = None
    ImageConfig: Anything = None
    LoggingConfig: Anything = None
    CapacityProviderConfig: Anything = None
    DurableConfig: Anything = None
    RuntimeConfig: Anything = None
    AcceleratorConfig: Anything = None


class CodeValue(Body):
    ZipFile: str | None = None
    S3Bucket: str | None = None
    S3Key: str | None = None
    S3ObjectVersion: Anything = None
    S3ObjectStorageMode: Anything = None
    ImageUri: Anything = None
    SourceKMSKeyArn: Anything = None


class CreateFunction(Configuration):
    FunctionName: str
    Code: CodeValue
    Publish: bool = False
    PackageType: str = "Zip"
    Architectures: list[str] | None = None
    Tags: dict[str, str] | None = None
    PublishTo: Anything = None
    CodeSigningConfigArn: Anything = None
    TenancyConfig: Anything = None


class UpdateFunctionConfiguration(Configuration):
    RevisionId: str | None = None


class UpdateFunctionCode(CodeValue):
    Architectures: list[str] | None = None
    Publish: bool = False
    PublishTo: Anything = None
    DryRun: bool = False
    RevisionId: str | None = None


class PublishVersion(Body):
    CodeSha256: str | None = None
    Description: str | None = None
    RevisionId: str | None = None
    PublishTo: Anything = None


class RoutingValue(Body):
    AdditionalVersionWeights: dict[str, float] | None = None


class CreateAlias(Body):
    Name: str
    FunctionVersion: str
    Description: str | None = None
    RoutingConfig: RoutingValue | None = None


class UpdateAlias(Body):
    FunctionVersion: str | None = None
    Description: str | None = None
    RoutingConfig: RoutingValue | None = None
    RevisionId: str | None = None


class PutFunctionConcurrency(Body):
    ReservedConcurrentExecutions: Int32


class PutProvisionedConcurrencyConfig(Body):
    ProvisionedConcurrentExecutions: Int32


class AddPermission(Body):
    StatementId: str
    Action: str
    Principal: str
    SourceArn: str | None = None
    SourceAccount: str | None = None
    PrincipalOrgID: str | None = None
    EventSourceToken: str | None = None
    FunctionUrlAuthType: str | None = None
    InvokedViaFunctionUrl: bool | None = None
    RevisionId: str | None = None


class CorsValue(Body):
    AllowCredentials: bool | None = None
    AllowHeaders: list[str] | None = None
    AllowMethods: list[str] | None = None
    AllowOrigins: list[str] | None = None
    ExposeHeaders: list[str] | None = None
    MaxAge: Int32 | None = None


class UpdateFunctionUrlConfig(Body):
    AuthType: str | None = None
    Cors: CorsValue | None = None
    InvokeMode: str | None = None


class CreateFunctionUrlConfig(UpdateFunctionUrlConfig):
    AuthType: str


class LayerContent(Body):
    ZipFile: str | None = None
    S3Bucket: Anything = None
    S3Key: Anything = None
    S3ObjectVersion: Anything = None
    S3ObjectStorageMode: Anything = None


class PublishLayerVersion(Body):
    Content: LayerContent
    Description: str | None = None
    CompatibleRuntimes: list[str] | None = None
    CompatibleArchitectures: list[str] | None = None
    LicenseInfo: str | None = None


class FilterValue(Body):
    Pattern: str | None = None


class FilterCriteriaValue(Body):
    Filters: list[FilterValue] | None = None


class ScalingValue(Body):
    MaximumConcurrency: Int32 | None = None


class DestinationValue(Body):
    Destination: str | None = None


class DestinationsValue(Body):
    OnSuccess: DestinationValue | None = None
    OnFailure: DestinationValue | None = None


class FunctionEventInvokeConfig(Body):
    MaximumRetryAttempts: Int32 | None = None
    MaximumEventAgeInSeconds: Int32 | None = None
    DestinationConfig: DestinationsValue | None = None


class AccessValue(Body):
    Type: str
    URI: str


class SelfManagedValue(Body):
    Endpoints: dict[str, list[str]] | None = None


class KafkaValue(Body):
    ConsumerGroupId: str | None = None
    SchemaRegistryConfig: Anything = None


class EventSourceMapping(Body):
    """What CreateEventSourceMapping and UpdateEventSourceMapping have in common."""

    Enabled: bool | None = None
    BatchSize: Int32 | None = None
    FilterCriteria: FilterCriteriaValue | None = None
    MaximumBatchingWindowInSeconds: Int32 | None = None
    ParallelizationFactor: Int32 | None = None
    DestinationConfig: DestinationsValue | None = None
    MaximumRecordAgeInSeconds: Int32 | None = None
    BisectBatchOnFunctionError: bool | None = None
    MaximumRetryAttempts: Int32 | None = None
    FunctionResponseTypes: list[str] | None = None
    ScalingConfig: ScalingValue | None = None
    TumblingWindowInSeconds: Anything = None
    KMSKeyArn: Anything = None
    MetricsConfig: Anything = None
    LoggingConfig: Anything = None
    DocumentDBEventSourceConfig: Anything = None
    ProvisionedPollerConfig: Anything = None


class CreateEventSourceMapping(EventSourceMapping):
    FunctionName: str
    EventSourceArn: str | None = None
    SelfManagedEventSource: SelfManagedValue | None = None
    Topics: list[str] | None = None
    Queues: list[str] | None = None
    SourceAccessConfigurations: list[AccessValue] | None = None
    AmazonManagedKafkaEventSourceConfig: Anything = None
    SelfManagedKafkaEventSourceConfig: KafkaValue | None = None
    StartingPosition: str | None = None
    StartingPositionTimestamp: float | None = None
    Tags: Anything = None


class UpdateEventSourceMapping(EventSourceMapping):
    FunctionName: str | None = None
    SourceAccessConfigurations: Anything = None
    AmazonManagedKafkaEventSourceConfig: Anything = None
    SelfManagedKafkaEventSourceConfig: Anything = None


class TagResource(Body):
    Tags: dict[str, str]


B = TypeVar("B", bound=Body)

PACKAGE_STORE: Final = "lambent"
"""The bucket that stands for the fleet's package store."""

_SAY_NOTHING: Final[dict[str, Any]] = {
    "TracingConfig": {"Mode": "PassThrough"},
    "LoggingConfig": {"LogFormat": "Text"},
    "PackageType": "Zip",
}
"""What asks for no more than there is."""

_IN_WORDS: Final = {
    "S3Bucket": "Code in S3 is not there: send it as ZipFile.",
    "S3Key": "Code in S3 is not there: send it as ZipFile.",
    "ImageUri": "Container images are not there: send a ZipFile.",
    "PackageType": "Container images are not there: PackageType can be Zip alone.",
}


def read(asked: Asked, model: type[B]) -> B:
    """The request's body. Raises Refused for what it is not, and for what is not there."""
    try:
        body = model.model_validate_json(asked.request.body or b"{}")
    except ValidationError as error:
        raise _faulty(error) from None
    _check_all_there(asked.operation, _without_own_log_group(asked, body))
    return body


def _without_own_log_group(asked: Asked, body: B) -> B:
    """Who sends back what GetFunction says of the log, as Terraform does, asks for no more than there is."""
    logging = getattr(body, "LoggingConfig", None)
    if not isinstance(logging, dict) or "LogGroup" not in logging:
        return body
    name = getattr(body, "FunctionName", None) or asked.path.get("FunctionName", "")
    if logging["LogGroup"] != log_group(function_named(name).name):
        return body
    less = {key: value for key, value in logging.items() if key != "LogGroup"}
    return body.model_copy(update={"LoggingConfig": less})


def package(zip_file: str | None, operation: str) -> bytes:
    """Empty if there is none. Raises Refused."""
    try:
        data = base64.b64decode(zip_file or "", validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "SerializationException", "ZipFile is not the base64 form of anything") from None
    if len(data) > MAX_ZIP_BYTES:
        said = f"The ZIP must be smaller than {MAX_ZIP_BYTES + 1} bytes for the {operation} operation"
        raise Refused(413, "RequestEntityTooLargeException", said)
    return data


def stored_package(code: CodeValue, operation: str) -> str:
    """The name of a ZIP in the package store; empty if it comes with the request. Raises Refused."""
    if not (code.S3Bucket or code.S3Key):
        return ""
    if code.ZipFile:
        raise invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")
    if code.S3Bucket != PACKAGE_STORE:
        raise not_there(
            operation,
            f"Code in S3 is not there but in the fleet's own package store: as S3Bucket {PACKAGE_STORE}, "
            "S3Key uploads/NAME. Or send it as ZipFile.",
        )
    return code.S3Key or ""


def _check_all_there(operation: str, body: Body) -> None:
    for name, value in body:
        if isinstance(value, Body):
            _check_all_there(operation, value)
        elif name == "Architectures":
            if value not in (None, [], [ARCHITECTURE]):
                raise not_there(operation, f"Architectures can be [{ARCHITECTURE}] alone, as the fleet is.")
        elif _is_not_there(type(body), name) and _says_something(name, value):
            why = f"{name} is not there: leave it out. docs/compatibility.md lists what is."
            raise not_there(operation, _IN_WORDS.get(name, why))


def _is_not_there(model: type[Body], name: str) -> bool:
    return model.model_fields[name].annotation == Anything or name == "PackageType"


def _says_something(name: str, value: Any) -> bool:
    if value == _SAY_NOTHING.get(name):
        return False
    return any(value.values()) if isinstance(value, dict) else bool(value)


def _faulty(error: ValidationError) -> Refused:
    faults = error.errors(include_url=False)
    if faults[0]["type"] == "json_invalid":
        said = f"Could not parse request body into json: {faults[0]['msg']}"
        return Refused(400, "InvalidRequestContentException", said)
    many = "error" if len(faults) == 1 else "errors"
    told = "; ".join(
        f"Value '{str(it['input'])[:80]}' at '{_where(it['loc'])}' failed to satisfy constraint: {_rule(it)}"
        for it in faults[:5]
    )
    return Refused(400, "ValidationException", f"{len(faults)} validation {many} detected: {told}")


def _where(path: Sequence[int | str]) -> str:
    """As AWS writes it: `ephemeralStorage.size`. What stands for a type of several is left out."""
    names = [str(it) for it in path if not str(it).startswith("constrained-")]
    return ".".join([it[:1].lower() + it[1:] for it in names])[:120]


def _rule(fault: ErrorDetails) -> str:
    """In AWS's words where it has some."""
    bounds = fault.get("ctx", {})
    match fault["type"]:
        case "greater_than_equal":
            return f"Member must have value greater than or equal to {bounds['ge']}"
        case "less_than_equal":
            return f"Member must have value less than or equal to {bounds['le']}"
        case "string_too_long":
            return f"Member must have length less than or equal to {bounds['max_length']}"
        case "string_pattern_mismatch":
            return f"Member must satisfy regular expression pattern: {bounds['pattern'].strip('^$')}"
        case _:
            return fault["msg"]
