"""The Python that runs Lambent, as a runtime."""

import compileall
import shutil
import sys
from pathlib import Path

from lambent_worker.runtimes.api import Runtime
from lambent_worker.runtimes.python import bootstrap

_NAME = f"python3.{sys.version_info.minor}"


def python_here(target: Path) -> Runtime:
    files = target / "python" / "lambent_bootstrap"
    shutil.rmtree(files, ignore_errors=True)
    shutil.copytree(bootstrap.__path__[0], files, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(str(files), quiet=1)
    return Runtime(
        name=_NAME,
        family="python",
        version=sys.version,
        argv=lambda start: (
            sys.executable,
            "-I",
            "-S",
            "-B",
            "-X",
            "utf8",
            f"{start.runtime_dir}/python/lambent_bootstrap/__main__.py",
            "3",
        ),
        frames=True,
    )
