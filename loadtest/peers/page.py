"""The page docs/peers.md."""
from pathlib import Path
from loadtest.peers.results import Run
def write(run: Run, to: Path) -> None:
    raise NotImplementedError
