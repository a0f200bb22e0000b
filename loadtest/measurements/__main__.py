"""Runs one measurement, as `loadtest.measurement.command` asks, and writes its result."""

import json
import sys
from pathlib import Path

from loadtest.fleet import Off
from loadtest.measurement import Plan, measured
from loadtest.measurements import by_name


def main(name: str, asked: str, out: str) -> None:
    told = json.loads(asked)
    plan = Plan(told["repeats"], told["quick"], Path(told["scratch"]))
    plan.scratch.mkdir(parents=True, exist_ok=True)
    try:
        measured(by_name(name), plan, told["given"]).write(Path(out))
    except Off as off:
        sys.exit(str(off))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(*sys.argv[1:])
