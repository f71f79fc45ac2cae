"""Regenerates the stubs into a folder of its own and compares them with the committed ones."""

import filecmp
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PROTOS = Path(__file__).parent.parent / "protos"
LIBRARIES = sysconfig.get_path("purelib")
"""Where googleapis-common-protos has put google/api/annotations.proto."""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        files = sorted(str(p.relative_to(PROTOS)) for p in PROTOS.rglob("*.proto"))
        outputs = [
            f"--{kind}_out={option}{fresh}"
            for kind, option in (
                ("python", ""),
                ("grpc_python", ""),
                ("mypy", "quiet:"),
                ("mypy_grpc", "quiet:"),
            )
        ]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{LIBRARIES}", *outputs, *files],
            cwd=PROTOS,
            env={**os.environ, "PATH": path},
            check=True,
        )
        committed = {
            p.relative_to(PROTOS) for p in PROTOS.rglob("*_pb2*.py*") if p.suffix != ".pyc"
        }
        stale = [
            path
            for path in committed
            if not filecmp.cmp(PROTOS / path, fresh / path, shallow=False)
        ]
        missing = [
            path
            for path in (p.relative_to(fresh) for p in fresh.rglob("*_pb2.py*"))
            if path not in committed
        ]
    for name in [*map(str, stale), *map(str, missing)]:
        print(f"protos/{name} is not what the protos say: run `make gen`", file=sys.stderr)
    return 1 if stale or missing else 0


if __name__ == "__main__":
    sys.exit(main())
