"""What a page of the documentation tells its reader to type, and what it says will be seen then.

Fenced blocks count, by their language:

* `sh`: commands. One that fails is a fault of the page.
* `console`: commands behind `$ `, and below each what it prints. `...` in a line stands for anything, a line
  with nothing else for any number of lines, and blanks for blanks, however many.
* `python`: a program.

A comment right above a block says what its reader cannot see: `<!-- first: COMMANDS -->` what the page takes
for granted, `<!-- not run: REASON -->` why no test does it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^<!-- (?P<key>first|not run): (?P<said>.*?) -->\n+)?"
    r"^```(?P<language>sh|console|python)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Step:
    """Something to type at once, and what is seen then."""

    line: int
    """Of the page, the block's first."""
    language: str
    text: str
    seen: str | None = None
    """None: the page does not say."""


@dataclass(frozen=True, slots=True)
class Block:
    line: int
    steps: tuple[Step, ...]
    not_run: str = ""
    """Why."""


def blocks(page: Path) -> Iterator[Block]:
    """In the order of the page."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        said = " ".join(found["said"].split("\n")) if found["key"] == "not run" else ""
        first = [Step(line, "sh", found["said"])] if found["key"] == "first" else []
        yield Block(line, (*first, *_steps(line, found["language"], found["text"])), said)


def _steps(line: int, language: str, text: str) -> Iterator[Step]:
    if language != "console":
        yield Step(line, language, text)
        return
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command = re.match(r"(?:.*\\\n)*.*\n", part)
        assert command is not None
        seen = part[command.end() :]
        yield Step(line, "sh", command[0], seen if seen.strip() else None)


def differs(shown: str, printed: str) -> str:
    """The first line of the page that is not to be seen; empty if there is none."""
    left = printed.splitlines()
    anywhere = False
    for line in shown.splitlines():
        if line.strip() == "...":
            anywhere = True
            continue
        wanted = re.compile(".*".join(_blanks(piece) for piece in line.rstrip().split("...")) + r"\s*")
        while anywhere and left and not wanted.fullmatch(left[0]):
            left.pop(0)
        if not left or not wanted.fullmatch(left.pop(0)):
            return line
        anywhere = False
    return "" if anywhere or not left else f"nothing, where it printed {left[0]!r}"


def _blanks(piece: str) -> str:
    return r"\s+".join(re.escape(word) for word in re.split(r"\s+", piece))
