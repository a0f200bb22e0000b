"""What no function has: a tool that asks for it of every function hears so, as from Lambda."""

from typing import Any

import pytest

from tests.conformance.test_functions import ARN, create

pytestmark = pytest.mark.conformance


def test_lists_are_empty(aws: Any, name: str) -> None:
    create(aws, name)
    assert aws.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"] == []
    assert aws.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"] == []
    assert aws.list_code_signing_configs()["CodeSigningConfigs"] == []
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match="Function not found"):
        aws.list_function_url_configs(FunctionName="nobody")


def test_there_is_none(aws: Any, name: str) -> None:
    create(aws, name)
    for get in (aws.get_policy, aws.get_function_url_config, aws.get_function_event_invoke_config):
        with pytest.raises(aws.exceptions.ResourceNotFoundException, match="you requested does not exist"):
            get(FunctionName=name)
        with pytest.raises(aws.exceptions.ResourceNotFoundException, match="Function not found"):
            get(FunctionName="nobody")


def test_what_is_always_so(aws: Any, name: str) -> None:
    create(aws, name)
    assert "CodeSigningConfigArn" not in aws.get_function_code_signing_config(FunctionName=name)
    managed = aws.get_runtime_management_config(FunctionName=name)
    assert (managed["UpdateRuntimeOn"], managed["FunctionArn"]) == ("Auto", ARN + name)
    assert aws.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Allow"
