"""Counts what a warm call takes, says what it was, and records it for the test to hold later changes to."""

import sys

from tests.warm_path import counted, record, recorded

before, now = recorded() or {}, counted()
for situation, parts in now.items():
    for part, count in parts.items():
        was = before.get(situation, {}).get(part, 0)
        sys.stdout.write(f"{situation}: {part} {count} bytecodes a call, recorded were {was}\n")
record(now)
