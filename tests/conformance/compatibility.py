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
    "where it says something: code in other buckets than the package store, images, `VpcConfig`, "
    "`KMSKeyArn`, "
    "`FileSystemConfigs`, "
    "`TracingConfig` but `PassThrough`, architectures other than the frontend's, and what is newer than those"
)
_SOURCES: Final = (
    "SQS, Kinesis, RabbitMQ, Kafka of one's own at servers that `sources` names, and Redis, NATS, folders "
    "and buckets, which Lambda has not: [triggers](triggers.md). Not there, and 501: MSK, schema registries, "
    "ActiveMQ, DynamoDB, DocumentDB, `TumblingWindowInSeconds`, `ProvisionedPollerConfig`, `KMSKeyArn`, "
    "`MetricsConfig`, `LoggingConfig`, `Tags`, destinations of successes"
)

DIFFERS: Final = {
    "CreateFunction": (_WHOLE, "test_a_created_function", "test_what_is_not_created"),
    "UpdateFunctionConfiguration": ("in what is not there, as CreateFunction", "test_what_is_not_updated"),
    "UpdateFunctionCode": (
        "code as CreateFunction takes it; `Successful` at once",
        "test_new_code",
        "test_what_is_not_updated",
    ),
    "DeleteFunction": ("204 without a body, as AWS did for years", "test_deleting"),
    "Invoke": (
        (
            "Tenants and durable executions are not there: 501. What may have run and whose outcome is "
            "unknown is 520, so that no client sends it again. An event above 256 KB that is no JSON is a "
            "function error"
        ),
        "test_tenants_are_not_there",
        "test_a_large_event_that_is_no_json",
    ),
    "InvokeWithResponseStream": (
        "as Invoke, and nothing slows an answer down behind its first 6 MB",
        "test_more_than_an_answer_in_one_piece_may_have",
    ),
    "GetProvisionedConcurrencyConfig": ("no `LastModified`", "test_provisioned_concurrency"),
    "PutProvisionedConcurrencyConfig": ("no `LastModified`", "test_provisioned_concurrency"),
    "ListProvisionedConcurrencyConfigs": ("no `LastModified`", "test_provisioned_concurrency"),
    "CreateEventSourceMapping": (_SOURCES, "test_a_mapping", "test_what_is_not_mapped"),
    "UpdateEventSourceMapping": (
        "in what is not there, as CreateEventSourceMapping",
        "test_what_is_not_mapped",
    ),
    "ListCodeSigningConfigs": ("always empty: nothing makes any", "test_lists_are_empty"),
    "AddPermission": (
        "a policy decides who may call function URLs, and nothing else: docs/access.md",
        "test_who_may_not_hears_no_more",
    ),
    "GetPolicy": ("its revision is its own, not the function's", "test_a_policy"),
    "CreateFunctionUrlConfig": (
        "URLs are http, below `lambda-url.localhost`, unless frontends are told another base",
        "test_a_url_s_configuration",
    ),
    **dict.fromkeys(
        (
            *("PutFunctionEventInvokeConfig", "UpdateFunctionEventInvokeConfig"),
            *("GetFunctionEventInvokeConfig", "ListFunctionEventInvokeConfigs"),
        ),
        (
            "destinations are what [async.md](async.md) names, not SNS, S3 or EventBridge",
            "test_what_is_not_configured",
            "test_a_failure_is_told_to_both_of_its_destinations",
        ),
    ),
    "GetFunctionCodeSigningConfig": ("no function has one", "test_what_is_always_so"),
    "GetRuntimeManagementConfig": ("always `Auto`", "test_what_is_always_so"),
    "GetFunctionRecursionConfig": (
        "always `Allow`: rows of destinations end at the sixteenth event, other loops do not",
        "test_what_is_always_so",
    ),
    "GetAccountSettings": ("`TotalCodeSize` is Lambda's and limits nothing", "test_reserved_concurrency"),
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
