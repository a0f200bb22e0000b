"""The PowerShell on this host's PATH."""

import re
from pathlib import Path
from typing import Final

from lambent_worker.runtimes.api import Found, Runtime, Start, Unavailable
from lambent_worker.runtimes.host import NotUsable, found, output_of, outside_usr

OLDEST: Final = 7
_VERSION: Final = re.compile(r"PowerShell (\d+)\.(\d+)\S*")


class PowerShell:
    name = "powershell"

    def find(self, build: Path) -> Found:
        try:
            pwsh = found("pwsh")
            match = _VERSION.search(output_of(str(pwsh), "--version"))
            if match is None or int(match[1]) < OLDEST:
                raise NotUsable(f"{pwsh} is no PowerShell {OLDEST} or newer")
        except NotUsable as missing:
            why = f"{missing}: install PowerShell {OLDEST} or newer; Debian has no package of it"
            return Found(unavailable=(Unavailable(name="powershell", family=self.name, why=why),))
        runtime = Runtime(
            name=f"powershell{match[1]}.{match[2]}",
            family=self.name,
            version=match[0].removeprefix("PowerShell "),
            argv=lambda start: (
                *(str(pwsh), "-NoLogo", "-NoProfile", "-NonInteractive", "-File"),
                f"{start.runtime_dir}/powershell/bootstrap.ps1",
            ),
            environment=_environment,
            prefixes=outside_usr(pwsh.parent),
        )
        return Found(available=(runtime,), files=(Path(__file__).parent / "bootstrap.ps1",))


def _environment(start: Start) -> dict[str, str]:
    modules = f"{start.task_root}/modules:{start.opt}/modules"
    return {"PSModulePath": modules, "POWERSHELL_TELEMETRY_OPTOUT": "1", "POWERSHELL_UPDATECHECK": "Off"}


family = PowerShell()
