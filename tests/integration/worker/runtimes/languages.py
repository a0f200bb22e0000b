"""The function of `tests/functions`, in every language: how it is built, named and deployed."""

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from lambent_worker.runtimes.registry import Runtimes
from tests.integration.worker.scene import runtimes_here, zipped

SOURCES: Final = Path(__file__).parents[3] / "functions"

Files = Mapping[str, str | bytes]


@dataclass(frozen=True, kw_only=True)
class Language:
    runtime: str
    files: Callable[[], Files]
    handler: str = "app.handler"
    broken: str = "broken.handler"
    """A handler that cannot be initialised."""
    broken_type: str
    """What its error is called."""
    fail_type: str
    """What an ordinary error is called; its message is `no luck`."""
    trace: str
    """Field of an error that has its frames."""
    frame: str
    """Part of the frame that failed."""
    layer: Callable[[], Files]
    heap_limit: bool = False
    """It keeps its heap within the function's memory itself."""
    needs: tuple[str, ...] = ()
    """Programs that build the function."""

    def __str__(self) -> str:
        return self.runtime


def skip_unless_here(language: Language) -> None:
    here: Runtimes = runtimes_here()
    if language.runtime not in here.by_name:
        reasons = [it.why for it in here.unavailable if language.runtime.startswith(it.family)]
        pytest.skip(f"{language.runtime} is not on this host: {'; '.join(reasons) or 'none was found'}")
    for program in language.needs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on this host: the function cannot be built")


def _of(folder: str, *names: str) -> Callable[[], Files]:
    return lambda: {name: (SOURCES / folder / name).read_bytes() for name in names}


def _text(name: str, text: str) -> Callable[[], Files]:
    return lambda: {name: text}


def _run(*argv: str, folder: str) -> None:
    subprocess.run(argv, cwd=SOURCES / folder, check=True, timeout=300)


@functools.cache
def _made(folder: str, *argv: str) -> Mapping[str, bytes]:
    """What a compiler makes of the function, once in a test run. OUT is where it puts things."""
    with tempfile.TemporaryDirectory(prefix="lambent-functions-") as out:
        _run(*(word.replace("OUT", out) for word in argv), folder=folder)
        made = (path for path in Path(out).rglob("*") if path.is_file())
        return {str(path.relative_to(out)): path.read_bytes() for path in made}


def _go() -> Files:
    return _made("provided", "go", "build", "-o", "OUT/bootstrap", "main.go")


def _java(package: str) -> Mapping[str, bytes]:
    runtime = runtimes_here().files["java"][0]
    sources = [
        str(source.relative_to(SOURCES / "java")) for source in sorted((SOURCES / "java").rglob("*.java"))
    ]
    made = _made("java", "javac", "-cp", str(runtime), "-d", "OUT", *sources)
    return {name: data for name, data in made.items() if name.startswith(package)}


@functools.cache
def csharp() -> Mapping[str, bytes]:
    """shop.dll, and the layer's greeting.dll."""
    core = f"-r:{runtimes_here().files['dotnet'][0] / 'Amazon.Lambda.Core.dll'}"
    with tempfile.TemporaryDirectory(prefix="lambent-functions-") as out:
        _run("mcs", "-target:library", f"-out:{out}/greeting.dll", "Greeting.cs", folder="dotnet")
        _run(
            "mcs",
            "-target:library",
            f"-out:{out}/shop.dll",
            core,
            f"-r:{out}/greeting.dll",
            "App.cs",
            folder="dotnet",
        )
        return {path.name: path.read_bytes() for path in Path(out).iterdir()}


def _dotnet(runtime: str) -> Language:
    return Language(
        runtime=runtime,
        files=lambda: {"shop.dll": csharp()["shop.dll"]},
        handler="shop::Shop.App::Handle",
        broken="shop::Shop.Broken::Handle",
        broken_type="NotSupportedException",
        fail_type="ArgumentException",
        trace="stackTrace",
        frame="at Shop.App.Fail",
        layer=lambda: {"dotnet/greeting.dll": csharp()["greeting.dll"]},
        heap_limit=True,
        needs=("mcs",),
    )


def _python(version: str) -> Language:
    return Language(
        runtime=version,
        files=_of("python", "app.py", "broken.py"),
        broken_type="LookupError",
        fail_type="ValueError",
        trace="stackTrace",
        frame='app.py", line 20, in fail\n    raise ValueError("no luck")\n',
        layer=_text("python/greeting.py", "TEXT = 'from the layer'"),
    )


LANGUAGES: Final = (
    *(_python(f"python3.{minor}") for minor in range(8, 15)),
    Language(
        runtime="nodejs",
        files=_of("nodejs", "app.js", "broken.js"),
        broken_type="RangeError",
        fail_type="RangeError",
        trace="trace",
        frame="at Object.fail (",
        layer=_text("nodejs/node_modules/greeting/index.js", "exports.TEXT = 'from the layer'"),
        heap_limit=True,
    ),
    Language(
        runtime="ruby",
        files=_of("ruby", "app.rb", "broken.rb"),
        broken_type="Init<IndexError>",
        fail_type="Function<ArgumentError>",
        trace="stackTrace",
        frame="app.rb:6:in `fail_now'",
        layer=_text("ruby/lib/greeting.rb", "module Greeting; TEXT = 'from the layer'; end"),
    ),
    Language(
        runtime="provided.al2023",
        files=_go,
        broken="broken",
        broken_type="Function.Broken",
        fail_type="Function.Failed",
        trace="stackTrace",
        frame="main.go: in answer",
        layer=_text("bin/greeting", "#!/bin/sh\nprintf 'from the layer'"),
        needs=("go",),
    ),
    Language(
        runtime="java",
        files=lambda: _java("shop/"),
        handler="shop.App",
        broken="shop.Broken::handle",
        broken_type="java.lang.UnsupportedOperationException",
        fail_type="java.lang.IllegalArgumentException",
        trace="stackTrace",
        frame="shop.App.fail(App.java:58)",
        layer=lambda: {"java/lib/greeting.jar": zipped(_java("greeting/"))},
        heap_limit=True,
    ),
    _dotnet("dotnet8"),
    _dotnet("mono6"),
)
