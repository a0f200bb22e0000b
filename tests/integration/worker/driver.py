"""A worker to be killed: starts instances, says their pids on its output, and extends its lease for ever.

`python -m tests.integration.worker.driver FOLDER LEASE_S`
"""

import asyncio
import json
import sys
from pathlib import Path

from lambent_chassis import clock
from tests.integration.worker.scene import Scene, scene

SOURCE = "import os, subprocess\nchild = subprocess.Popen(['sleep', '600']).pid\ndef handler(e, c):\n"
SOURCE += "    return [os.getpid(), child]"


async def main(folder: Path, lease_s: float) -> None:
    async with scene(folder, lease_s=lease_s) as stage, asyncio.TaskGroup() as tasks:
        tasks.create_task(extend_for_ever(stage, lease_s))
        pids: list[int] = []
        for _ in range(3):
            pids += (await stage.call(await stage.started(SOURCE))).json
        sys.stdout.write(json.dumps(pids) + "\n")
        sys.stdout.flush()


async def extend_for_ever(stage: Scene, lease_s: float) -> None:
    while True:
        stage.host.extend(clock.monotonic_s() + lease_s)
        await asyncio.sleep(lease_s / 20)


asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
