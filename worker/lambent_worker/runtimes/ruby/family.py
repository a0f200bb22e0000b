"""The Ruby on this host's PATH."""

from pathlib import Path
from typing import Final

from lambent_worker.runtimes.api import Found, Runtime, Start, Unavailable
from lambent_worker.runtimes.host import NotUsable, found, output_of, outside_usr

OLDEST: Final = (2, 7)
_FACTS: Final = "require 'json'; require 'socket'; print [RUBY_VERSION, RbConfig::CONFIG['ruby_version'], \
RbConfig::CONFIG['prefix']].join(' ')"
_MAIN: Final = "ruby/bootstrap/main.rb"


class Ruby:
    name = "ruby"

    def find(self, build: Path) -> Found:
        try:
            ruby = found("ruby")
            version, abi, prefix = output_of(str(ruby), "-e", _FACTS).split(" ")
            major, minor, _ = version.split(".", 2)
            if (int(major), int(minor)) < OLDEST:
                raise NotUsable(f"{ruby} is {version}, and 2.7 or newer is needed")
        except (NotUsable, ValueError) as missing:
            why = f"{missing}: install ruby 2.7 or newer"
            return Found(unavailable=(Unavailable(name="ruby", family=self.name, why=why),))
        runtime = Runtime(
            name=f"ruby{major}.{minor}",
            family=self.name,
            version=version,
            argv=lambda start: (str(ruby), "-EUTF-8", f"{start.runtime_dir}/{_MAIN}"),
            environment=lambda start: _environment(start, abi),
            prefixes=outside_usr(Path(prefix)),
        )
        return Found(available=(runtime,), files=(Path(__file__).parent / "bootstrap",))


def _environment(start: Start, abi: str) -> dict[str, str]:
    """`abi` is Ruby's own name for the folder of gems that suit it, as 3.1.0."""
    own, layers = f"{start.task_root}/vendor/bundle/ruby", f"{start.opt}/ruby/gems"
    return {
        "GEM_PATH": f"{own}/{abi}:{layers}/{abi}:{layers}",
        "RUBYLIB": f"{start.task_root}:{start.runtime_dir}/ruby/lib:{start.opt}/ruby/lib",
    }


family = Ruby()
