"""Libraries that a package or a layer brings are found where Lambda looks, in a zygote's child as well."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.worker.backends import namespaces_or_skip
from tests.integration.worker.scene import Scene, scene

pytestmark = pytest.mark.integration

LOAD = "import ctypes, os\ndef handler(name, context):\n    ctypes.CDLL(name)\n"
LOAD += "    return os.environ['LD_LIBRARY_PATH']"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path, backend=namespaces_or_skip) as it:
        yield it


def a_library() -> bytes:
    found = next(Path("/usr/lib").glob("*/libz.so.1"), None)
    if found is None:
        pytest.skip("there is no libz.so.1 to bring along")
    return found.read_bytes()


async def test_libraries_of_a_package_and_of_a_layer(stage: Scene) -> None:
    library = a_library()
    layer = await stage.layer({"lib/libfromlayer.so": library})
    files: dict[str, str | bytes] = {
        "app.py": LOAD,
        "lib/libfrompackage.so": library,
        "libatroot.so": library,
    }
    it = await stage.started(files, layers=(layer,))
    for name in ("libfrompackage.so", "libatroot.so", "libfromlayer.so"):
        answer = await stage.call(it, name)
        assert not answer.failed, answer.json


async def test_a_path_of_the_functions_own(stage: Scene) -> None:
    """The loader reads it when a program is executed: so this one is, instead of being forked."""
    files: dict[str, str | bytes] = {"app.py": LOAD, "own/libown.so": a_library()}
    it = await stage.started(files, environment={"LD_LIBRARY_PATH": "/var/task/own"})
    answer = await stage.call(it, "libown.so")
    assert answer.json == "/var/task/own"
