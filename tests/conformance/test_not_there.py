"""Operations that Lambda has and Lambent has not: each says so in a way that boto3 reads and does not try
again."""

from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from tests.conformance.compatibility import not_there

pytestmark = pytest.mark.conformance

ARNS = {
    "CapacityProviderArn": "arn:aws:lambda:us-east-1:000000000000:capacity-provider:c",
    "CodeSigningConfigArn": "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-0123456789abcdef0",
    "DurableExecutionArn": "arn:aws:lambda:us-east-1:000000000000:function:f:1/durable-execution/e/0",
}


def made_up(shape: Any, name: str = "") -> Any:
    """A value that the client takes for such a parameter."""
    if shape.type_name == "structure":
        return {key: made_up(shape.members[key], key) for key in shape.required_members}
    if shape.type_name == "list":
        return [made_up(shape.member, name)]
    if shape.type_name == "map":
        return {made_up(shape.key): made_up(shape.value)}
    if shape.type_name == "string":
        return (shape.enum or [ARNS.get(name) or "a" * max(1, shape.metadata.get("min", 1))])[0]
    return {
        "integer": 1,
        "long": 1,
        "boolean": True,
        "blob": b"{}",
        "timestamp": 0,
        "double": 1.0,
        "float": 1.0,
    }[shape.type_name]


@pytest.mark.parametrize("operation", not_there())
def test_it_says_so(aws: Any, operation: str) -> None:
    """501 by the operation's name."""
    model = aws.meta.service_model.operation_model(operation)
    given = made_up(model.input_shape) if model.input_shape else {}
    with pytest.raises(ClientError, match=f"does not have the operation {operation}") as raised:
        getattr(aws, xform_name(operation))(**given)
    answer = raised.value.response
    assert answer["Error"]["Code"] == "NotImplementedException"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
