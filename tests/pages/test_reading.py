"""How pages are read, and when what they show is another thing than what is seen."""

from pathlib import Path

import pytest

from tests.pages.reading import Block, Step, blocks, differs

PAGE = """# A page

```sh
one
two   # and why
```

<!-- not run: it takes
     an hour -->

```console
$ long --and \\
      longer
seen
$ silent
```

<!-- first: make ready -->
```python
print()
```
"""


def test_blocks(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    assert list(blocks(tmp_path / "page.md")) == [
        Block(4, (Step(4, "sh", "one\ntwo   # and why\n"),)),
        Block(
            12,
            (Step(12, "sh", "long --and \\\n      longer\n", "seen\n"), Step(12, "sh", "silent\n")),
            "it takes      an hour",
        ),
        Block(20, (Step(20, "sh", "make ready"), Step(20, "python", "print()\n"))),
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "difference"),
    [
        ("a  b\n", "a      b\n", ""),
        ("id ...\n", "id 7f3a\n", ""),
        ("a\n...\nz\n", "a\nb\nc\nz\n", ""),
        ("a\n...\n", "a\nb\n", ""),
        ("a\nb\n", "a\n", "b"),
        ("a\n", "a\nb\n", "nothing, where it printed 'b'"),
        ("a.c\n", "abc\n", "a.c"),
        ("a\n...\nz\n", "a\nb\n", "z"),
    ],
)
def test_differs(shown: str, printed: str, difference: str) -> None:
    assert differs(shown, printed) == difference
