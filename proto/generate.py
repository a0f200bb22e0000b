"""Generates the protobuf and gRPC code beside each .proto, or with --check says whether it is stale."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    ROOT / "proto": ("lambent_proto/v1", "lambent_proto/internal"),
    ROOT / "chassis": ("lambent_chassis/etcd",),
}


def generate(out: Path) -> list[Path]:
    """Writes all generated files under `out`, one tree for each import root, and returns them."""
    written = []
    for root, folders in SOURCES.items():
        protos = sorted(
            str(p.relative_to(root)) for folder in folders for p in (root / folder).glob("*.proto")
        )
        target = out / root.name
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                "-I.",
                f"--python_out={target}",
                f"--grpc_python_out={target}",
                f"--mypy_out=quiet:{target}",
                f"--mypy_grpc_out=quiet:{target}",
                *protos,
            ],
            cwd=root,
            check=True,
            # The plugins are installed beside the interpreter, which need not be on PATH.
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        )
        written += [path for path in target.rglob("*_pb2*") if path.is_file()]
    return written


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    stale = []
    with tempfile.TemporaryDirectory() as scratch:
        for fresh in generate(Path(scratch)):
            committed = ROOT / fresh.relative_to(scratch)
            if not committed.exists() or committed.read_bytes() != fresh.read_bytes():
                stale.append(str(committed.relative_to(ROOT)))
                if not check:
                    committed.write_bytes(fresh.read_bytes())
    if check and stale:
        sys.stderr.write("Stale generated code, run `make proto`: " + ", ".join(sorted(stale)) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
