"""Keys that seal environment variables, as a person makes and uses them."""

from pathlib import Path

import pytest

from lambent import environment_keys
from lambent.environment_keys import CannotMake, CannotSeal
from lambent_chassis.sealing import Opener


def test_what_was_interrupted_is_finished(tmp_path: Path) -> None:
    """With the private half alone the public one is made of it; with both nothing is touched."""
    made = environment_keys.make(tmp_path)
    public = made.public.read_bytes()
    made.public.unlink()
    assert environment_keys.make(tmp_path).ids == made.ids
    assert made.public.read_bytes() == public
    made.public.unlink()
    environment_keys.of_fleet(tmp_path)
    assert made.public.read_bytes() == public
    with pytest.raises(CannotMake, match="rotate"):
        environment_keys.make(tmp_path)


def test_a_broken_private_half_is_not_replaced(tmp_path: Path) -> None:
    """Whatever it has sealed would be lost."""
    (tmp_path / "environment.key").write_text("no key")
    with pytest.raises(CannotMake, match="has no key in PEM"):
        environment_keys.make(tmp_path)
    assert (tmp_path / "environment.key").read_text() == "no key"


@pytest.mark.parametrize(
    ("function", "variable", "value", "why"),
    [
        ("f:live", "TOKEN", "x", "no name of a function"),
        ("", "TOKEN", "x", "no name of a function"),
        ("f", "1TOKEN", "x", "no name of a variable"),
        ("f", "TOKEN", "a\0b", "zero byte"),
    ],
)
def test_what_no_function_could_have_is_not_sealed(
    tmp_path: Path, function: str, variable: str, value: str, why: str
) -> None:
    public = environment_keys.make(tmp_path).public
    with pytest.raises(CannotSeal, match=why):
        environment_keys.sealed_for(public, function, variable, value)


def test_a_seal_is_not_sealed_again(tmp_path: Path) -> None:
    """A worker would open it once, and the function would see a seal."""
    made = environment_keys.make(tmp_path)
    once = environment_keys.sealed_for(made.public, "f", "TOKEN", "secret")
    with pytest.raises(CannotSeal, match="sealed already"):
        environment_keys.sealed_for(made.public, "f", "TOKEN", once)
    assert Opener(made.private).open("f", {"TOKEN": once}) == {"TOKEN": "secret"}
