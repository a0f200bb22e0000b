"""One request on its way to its operation: what its path, its query and its headers say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from lambent_frontend.http.errors import Refused, constraint, invalid
from lambent_frontend.http.messages import Request
from lambent_frontend.http.names import Named, function_arn, function_named
from lambent_frontend.rules import DEFAULT_PAGE, MAX_PAGE
from lambent_proto.access import AccessKey
from lambent_proto.errors import InvalidRequest


def _permitted(action: str, resource: str) -> None:
    """Where nobody is asked who they are."""


@dataclass(slots=True)
class Asked:
    operation: str
    request: Request
    path: Mapping[str, str]
    query: Mapping[str, str]
    subject: str = ""
    """ARN of what the request is about, where its path does not say."""
    caller: AccessKey | None = None
    """None where nobody is asked who they are, and before they are."""
    permit: Callable[[str, str], None] = _permitted
    """Whether the caller may do this to what is named. Raises AccessDenied."""

    def function(self) -> Named:
        """The function of the path, and what of it the path or `Qualifier` names. Raises InvalidRequest or
        Refused.
        """
        return function_named(self.path["FunctionName"], self.query.get("Qualifier", ""))

    def arn(self) -> str:
        """Of what is asked for, as far as it can be told."""
        if self.subject:
            return self.subject
        try:
            return function_arn(*self.function())
        except (InvalidRequest, Refused, KeyError):
            return function_arn(self.path.get("FunctionName", "")[:170])

    def all_of(self, name: str) -> list[str]:
        """The values of what the query may say several times."""
        return [value for key, value in parse_qsl(self.request.query) if key == name]

    def max_items(self) -> int:
        """How many of a list one answer has: fifty at the most whatever is asked for, as at Lambda.

        The JSON of more would hold up calls. Raises Refused.
        """
        text = self.query.get("MaxItems", "")
        if not text:
            return DEFAULT_PAGE
        if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 9 and 1 <= int(text) <= MAX_PAGE):
            raise constraint(text, "maxItems", f"Member must have a value of 1 to {MAX_PAGE}")
        return min(int(text), DEFAULT_PAGE)


def choice(value: str, where: str, allowed: tuple[str, ...]) -> str:
    """The first of what is allowed, if nothing was said. Raises Refused."""
    if value and value not in allowed:
        raise constraint(value, where, f"Member must satisfy enum value set: [{', '.join(allowed)}]")
    return value or allowed[0]


def number(text: str, where: str) -> float:
    """Raises Refused."""
    try:
        return float(text)
    except ValueError:
        raise invalid(f"{where} is {text[:80]!r}, which is not a number") from None
