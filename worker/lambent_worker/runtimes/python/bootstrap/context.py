"""The object that a handler gets as its second argument. Names and types are Lambda's."""

from __future__ import annotations

import json
import os
import sys
import time

from .faults import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Client:
    def __init__(self, fields: dict[str, Any]) -> None:
        self.installation_id = fields.get("installation_id")
        self.app_title = fields.get("app_title")
        self.app_version_name = fields.get("app_version_name")
        self.app_version_code = fields.get("app_version_code")
        self.app_package_name = fields.get("app_package_name")


class ClientContext:
    def __init__(self, fields: dict[str, Any]) -> None:
        self.client = Client(fields["client"]) if fields.get("client") else None
        self.custom = fields.get("custom")
        self.env = fields.get("env")


class Identity:
    """Nobody authenticates through Cognito here."""

    __slots__ = ()
    cognito_identity_id = None
    cognito_identity_pool_id = None


class Context:
    """What a handler gets as its second argument. Names and types are Lambda's."""

    function_name: str | None
    function_version: str | None
    memory_limit_in_mb: str | None
    log_group_name: str | None
    log_stream_name: str | None
    tenant_id = None
    identity = Identity()
    """One for all calls, which nobody can write to."""

    @classmethod
    def read_environment(cls) -> None:
        """Once, when the environment is the function's: a parked process learns it late."""
        cls.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        cls.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        cls.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        cls.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        cls.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")

    def __init__(self, request_id: str, deadline_ms: int, arn: str, client_context: str) -> None:
        self.aws_request_id = request_id
        self.invoked_function_arn = arn
        self.client_context = _client_context(client_context) if client_context else None
        self._deadline_ms = deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        now_ms = time.time() * 1000  # noqa: TID251 - Lambda's deadlines are wall-clock times
        return max(int(self._deadline_ms - now_ms), 0)

    def log(self, message: str) -> None:
        sys.stdout.write(str(message))


def _client_context(text: str) -> ClientContext:
    try:
        return ClientContext(json.loads(text))
    except (ValueError, AttributeError, TypeError) as error:
        raise Fault(
            "Runtime.LambdaContextUnmarshalError", f"Unable to parse Client Context JSON: {error}"
        ) from None
