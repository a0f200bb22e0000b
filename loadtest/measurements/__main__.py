"""Runs one measurement, as `loadtest.measurement.command` asks, and writes its result.

It ends with the process that asked, however that one ends.
"""

import json
import signal
import sys
from pathlib import Path

from lambent_worker.sandbox import kernel
from loadtest.fleet import Off
from loadtest.measurement import Plan, measured
from loadtest.measurements import by_name


def main(name: str, asked: str, out: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background has ignored
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGINT)  # it stops its fleet then
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
