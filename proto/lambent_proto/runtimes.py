"""The names of runtimes, as Lambda writes them, and what a node makes of them."""

import re
from collections.abc import Collection
from typing import Final

FORMS: Final = (
    "python, python3.N, nodejs, nodejsN.x, ruby, rubyN.N, java, javaN, dotnet, dotnetN, powershell, "
    "provided, provided.al2, provided.al2023"
)
"""N is a number. The bare name of a family is whatever version of it a node has."""

_NAME: Final = re.compile(
    r"python(3\.\d{1,2})?|nodejs(\d{1,2}\.x)?|ruby(\d\.\d)?|java(\d{1,2})?|dotnet(\d{1,2})?"
    r"|powershell|provided(\.al2|\.al2023)?",
    re.ASCII,
)


def is_runtime(name: str) -> bool:
    """Whether it is of a family and form that Lambent knows, whatever workers there are."""
    return _NAME.fullmatch(name) is not None


def runs(runtimes: Collection[str], runtime: str) -> bool:
    """Whether a node that names these can run it. One that names none is of an older release and takes any
    Python."""
    return runtime in runtimes if runtimes else runtime.startswith("python")
