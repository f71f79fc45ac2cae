"""THE table: how each language's runner is built and started, and how one sees that it can be."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CLIENTS = Path(__file__).parent.parent


@dataclass(frozen=True)
class Language:
    """A client with its runner.

    Commands run in `clients/FOLDER`. `{build}` in them is a folder for what a build makes.
    """

    name: str
    folder: str
    run: Sequence[str]
    tools: Sequence[str] = ()
    """Programs that have to be there."""
    build: Sequence[str] = ()

    @property
    def path(self) -> Path:
        return CLIENTS / self.folder

    @property
    def exists(self) -> bool:
        return self.path.is_dir()

    def missing(self) -> str:
        """Return what keeps the runner from being started; empty: nothing."""
        if not self.exists:
            return "no client yet"
        if not (self.path / "conformance").exists():
            return f"no runner in clients/{self.folder}/conformance"
        lacking = [tool for tool in self.tools if shutil.which(tool) is None]
        return f"{', '.join(lacking)} not installed" if lacking else ""


LANGUAGES = (
    Language("python", "python", (sys.executable, "conformance/runner.py", "sync")),
    Language("python-async", "python", (sys.executable, "conformance/runner.py", "async")),
    Language(
        "go",
        "go",
        ("{build}/runner",),
        tools=("go",),
        build=("go", "build", "-o", "{build}/runner", "./conformance"),
    ),
    Language(
        "node",
        "node",
        ("npm", "run", "--silent", "conformance"),
        tools=("node", "npm"),
        build=("sh", "-c", "test -d node_modules || npm ci --silent --no-audit --no-fund"),
    ),
    Language(
        "java",
        "java",
        ("java", "@{build}/runner"),
        tools=("java", "javac", "mvn"),
        build=("sh", "conformance/build.sh", "{build}"),
    ),
)
