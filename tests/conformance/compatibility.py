"""The table in docs/compatibility.md, made from what the suite says: `python -m
tests.conformance.compatibility`.

What works is what some test of the suite calls through boto3. What is not there answers 501, which the suite
sees of each. What differs says how, and names the tests that hold it.
"""

import re
from pathlib import Path
from typing import Final

from botocore import xform_name

from lambent_frontend.http.routes import OPERATIONS

HERE: Final = Path(__file__).resolve().parent
PAGE: Final = HERE.parents[1] / "docs" / "compatibility.md"

_WHOLE: Final = (
    "`Active` at once, never `Pending`. `Role` is kept and gives no rights. What is not there is refused "
    "with 501 "
    "where it says something: code in S3, images, `VpcConfig`, `DeadLetterConfig`, `KMSKeyArn`, "
    "`FileSystemConfigs`, "
    "`TracingConfig` but `PassThrough`, architectures other than the frontend's, and what is newer than those"
)
_NO_LOCATION: Final = (
    "no `Content.Location` to download it from; `LicenseInfo` and architectures are not kept"
)

_SOURCES: Final = (
    "SQS, Kinesis, RabbitMQ, and Redis and NATS, which AWS has not: [triggers](triggers.md). Not there, and "
    "501: Kafka, ActiveMQ, DynamoDB, DocumentDB, `TumblingWindowInSeconds`, `ProvisionedPollerConfig`, "
    "`KMSKeyArn`, `MetricsConfig`, `LoggingConfig`, `Tags`, destinations of successes"
)

DIFFERS: Final = {
    "CreateFunction": (_WHOLE, "test_a_created_function", "test_what_is_not_created"),
    "UpdateFunctionConfiguration": ("in what is not there, as CreateFunction", "test_what_is_not_updated"),
    "UpdateFunctionCode": (
        "`ZipFile` alone; `Successful` at once",
        "test_new_code",
        "test_what_is_not_updated",
    ),
    "GetFunction": ("no `Code.Location` to download the code from", "test_where_the_code_is"),
    "ListFunctions": ("`FunctionVersion=ALL` is not there: 501", "test_versions_in_the_list_of_functions"),
    "DeleteFunction": ("204 without a body, as AWS did for years", "test_deleting"),
    "Invoke": (
        (
            "`Event` is not there: 501; nor are tenants and durable executions. What may have run and whose "
            "outcome is "
            "unknown is 520, so that no client sends it again. An event above 256 KB that is no JSON is a "
            "function error"
        ),
        "test_asynchronous_invocation_is_not_there",
        "test_a_large_event_that_is_no_json",
    ),
    "GetProvisionedConcurrencyConfig": ("no `LastModified`", "test_provisioned_concurrency"),
    "PutProvisionedConcurrencyConfig": ("no `LastModified`", "test_provisioned_concurrency"),
    "ListProvisionedConcurrencyConfigs": ("no `LastModified`", "test_provisioned_concurrency"),
    "CreateEventSourceMapping": (_SOURCES, "test_a_mapping", "test_what_is_not_mapped"),
    "UpdateEventSourceMapping": (
        "in what is not there, as CreateEventSourceMapping",
        "test_what_is_not_mapped",
    ),
    "PublishLayerVersion": (_NO_LOCATION, "test_a_layer"),
    "GetLayerVersion": (_NO_LOCATION, "test_a_layer"),
    "GetLayerVersionByArn": (_NO_LOCATION, "test_a_layer"),
    "ListLayers": ("`CompatibleArchitecture` is not looked at", "test_lists_by_architecture"),
    "ListLayerVersions": ("`CompatibleArchitecture` is not looked at", "test_lists_by_architecture"),
    **dict.fromkeys(
        (
            *("ListFunctionEventInvokeConfigs", "ListFunctionUrlConfigs"),
            "ListCodeSigningConfigs",
        ),
        ("always empty: nothing makes any", "test_lists_are_empty"),
    ),
    **dict.fromkeys(
        ("GetPolicy", "GetFunctionUrlConfig", "GetFunctionEventInvokeConfig"),
        ("always a 404: nothing makes any", "test_there_is_none"),
    ),
    "GetFunctionCodeSigningConfig": ("no function has one", "test_what_is_always_so"),
    "GetRuntimeManagementConfig": ("always `Auto`", "test_what_is_always_so"),
    "GetFunctionRecursionConfig": ("always `Allow`: nobody looks for loops", "test_what_is_always_so"),
    "GetAccountSettings": ("`TotalCodeSize` is Lambda's and limits nothing", "test_reserved_concurrency"),
    "GetAlias": ("an alias that is not there is `Function not found: ARN`", "test_aliases"),
    "UpdateAlias": ("an alias that is not there is `Function not found: ARN`", "test_aliases"),
    "DeleteAlias": ("one that is not there is a 404", "test_aliases"),
}
"""How, and which tests show it."""

_HEAD: Final = """\
# What of Lambda's API works

Made from the suite in `tests/conformance`, which drives a fleet with boto3 and the AWS CLI: `python -m
tests.conformance.compatibility` writes this page, and a test holds it to the suite. Words of messages are
Lambda's where they are known, else Lambent's own. [http.md](http.md) has what is common to all.

{works} of {all} operations work, {differ} of them with a difference. The others answer 501
`NotImplementedException`, which no client of AWS sends again.

| operation | |
| --- | --- |
"""


def sources() -> str:
    """All of the suite."""
    return "".join(path.read_text() for path in sorted(HERE.glob("test_*.py")))


def called() -> set[str]:
    """The operations that the suite calls by their methods, or by their paginators."""
    names = set(re.findall(r"\b(?:aws|once)\.(\w+)", sources()))
    names |= set(re.findall(r'get_paginator\("(\w+)"\)', sources()))
    return {operation for operation in OPERATIONS if xform_name(operation) in names}


def not_there() -> list[str]:
    return sorted(set(OPERATIONS) - called())


def page() -> str:
    there = called()
    head = _HEAD.format(works=len(there), all=len(OPERATIONS), differ=len(DIFFERS))
    return head + "".join(
        f"| {operation} | {_said(operation, there)} |\n" for operation in sorted(OPERATIONS)
    )


def _said(operation: str, there: set[str]) -> str:
    if operation in DIFFERS:
        return f"works, but: {DIFFERS[operation][0]}"
    return "works" if operation in there else "not there"


if __name__ == "__main__":
    PAGE.write_text(page())
