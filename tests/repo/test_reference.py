"""The reference is of the protos and docstrings that there are."""

from pathlib import Path

from tests.repo import reference


def test_the_pages() -> None:
    """They are what `python -m tests.repo.reference` would write, and there are no others."""
    wanted = reference.pages()
    assert {path: path.read_text() for path in wanted} == wanted
    assert set(reference.API.iterdir()) == set(wanted)


def test_every_page_is_in_the_index() -> None:
    """A newcomer reads docs/README.md first."""
    index = (reference.API.parent / "README.md").read_text()
    docs = [path.relative_to(reference.API.parent) for path in reference.API.parent.rglob("*.md")]
    assert [str(path) for path in docs if f"]({path})" not in index and path != Path("README.md")] == []
