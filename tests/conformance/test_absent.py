"""What no function has: a tool that asks for it of every function hears so, as from Lambda."""

from typing import Any

import pytest

from tests.conformance.test_functions import ARN, create

pytestmark = pytest.mark.conformance


def test_lists_are_empty(aws: Any, name: str) -> None:
    create(aws, name)
    assert aws.list_event_source_mappings()["EventSourceMappings"] == []
    assert aws.list_event_source_mappings(FunctionName=name)["EventSourceMappings"] == []
    assert aws.list_code_signing_configs()["CodeSigningConfigs"] == []


def test_what_is_always_so(aws: Any, name: str) -> None:
    create(aws, name)
    assert "CodeSigningConfigArn" not in aws.get_function_code_signing_config(FunctionName=name)
    managed = aws.get_runtime_management_config(FunctionName=name)
    assert (managed["UpdateRuntimeOn"], managed["FunctionArn"]) == ("Auto", ARN + name)
    assert aws.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Allow"
