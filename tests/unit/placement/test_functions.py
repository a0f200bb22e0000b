"""What etcd says of functions, as the driver is told it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from lambent_placement.functions import Functions
from lambent_proto import keys
from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName, VersionKey
from lambent_proto.versions import Alias, encode_provisioned

F: Final = FunctionName("f")
LATEST: Final = Definition(
    name=F, revision="r2", runtime="python3.11", handler="a.b", code_sha256="00", code_size=1, concurrency=5
)
ONE, TWO = (replace(LATEST, version=number, revision=f"r{number}", concurrency=None) for number in "12")
AT: Final[dict[str, bytes | None]] = {
    keys.function(F): LATEST.encode(),
    keys.version(F, "1"): ONE.encode(),
    keys.version(F, "2"): TWO.encode(),
}


class Told:
    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def define(self, definition: Definition, concurrency: int | None) -> None:
        self.said.append(("define", definition.key, concurrency))

    def undefine(self, name: FunctionName) -> None:
        self.said.append(("undefine", name))

    def undefine_version(self, name: FunctionName, version: str) -> None:
        self.said.append(("undefine", name, version))

    def provision(self, version: VersionKey, count: int) -> None:
        self.said.append(("provision", version, count))


def there(values: Mapping[str, bytes | None]) -> dict[str, bytes]:
    return {key: value for key, value in values.items() if value is not None}


def told(*steps: Mapping[str, bytes | None]) -> list[tuple[Any, ...]]:
    """What is said to the last of the steps; the first is all that is there at the start."""
    driver = Told()
    functions = Functions(driver)
    functions.replace(there(steps[0]))
    for step in steps[1:]:
        driver.said.clear()
        functions.change(step.items())
    return driver.said


def alias(version: str, weights: dict[str, float] | None = None) -> dict[str, bytes | None]:
    return {keys.alias(F, "live"): Alias(name="live", version=version, weights=weights or {}).encode()}


def wanted(qualifier: str, count: int) -> dict[str, bytes | None]:
    return {keys.provisioned(F, qualifier): encode_provisioned(count)}


def test_a_version_has_its_functions_concurrency() -> None:
    """Its own is whatever it was when it was published."""
    assert told(AT) == [("define", LATEST.key, 5), ("define", ONE.key, 5), ("define", TWO.key, 5)]
    changed = replace(LATEST, concurrency=1).encode()
    said = told(AT, {keys.function(F): changed})
    assert said == [("define", LATEST.key, 1), ("define", ONE.key, 1), ("define", TWO.key, 1)]
    again = replace(LATEST, revision="r3")
    assert told(AT, {keys.function(F): again.encode()}) == [("define", again.key, 5)]


def test_what_an_alias_has_ready_is_its_versions() -> None:
    """It moves with the alias in one step, and is shared out by weights."""
    at = AT | alias("1") | wanted("live", 4)
    assert told(at)[-1] == ("provision", ONE.key, 4)
    assert told(at, alias("2")) == [("provision", ONE.key, 0), ("provision", TWO.key, 4)]
    said = told(at, alias("1", {"2": 0.3}))
    assert sorted(said) == [("provision", ONE.key, 3), ("provision", TWO.key, 1)]
    assert told(at, wanted("live", 2)) == [("provision", ONE.key, 2)]
    assert told(at, {keys.provisioned(F, "live"): None}) == [("provision", ONE.key, 0)]


def test_a_version_and_an_alias_add_up() -> None:
    """Lambda refuses it; if it is there nobody gets less than was asked for."""
    assert told(AT | alias("1") | wanted("live", 4) | wanted("1", 1))[-1] == ("provision", ONE.key, 5)


def test_a_function_goes_with_all_that_is_its_own() -> None:
    """Deleted in one step, and made anew without a trace of the old one."""
    at = AT | wanted("1", 2)
    gone: dict[str, bytes | None] = dict.fromkeys(at)
    said = told(at, gone)
    assert ("undefine", F) in said
    assert ("provision", ONE.key, 0) in said
    assert told(at, gone, {keys.function(F): LATEST.encode()}) == [("define", LATEST.key, 5)]


def test_a_version_goes_alone() -> None:
    """The others stay."""
    assert told(AT, {keys.version(F, "1"): None}) == [("undefine", F, "1")]


def test_what_did_not_change_is_not_said_again() -> None:
    """After a broken watch all is read anew."""
    driver = Told()
    functions = Functions(driver)
    functions.replace(there(AT))
    driver.said.clear()
    functions.replace(there(AT))
    assert driver.said == []
    functions.replace({key: value for key, value in there(AT).items() if "version/1" not in key})
    assert driver.said == [("undefine", F, "1")]


def test_keys_of_a_newer_release_are_passed_over() -> None:
    """Whatever they hold."""
    assert told(AT, {keys.of_function(F) + "something/new": b"x"}) == []
