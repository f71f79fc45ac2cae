"""Keeps the cursor of a feed in a file."""

from pathlib import Path


class CursorFile:
    """A file with one cursor: it is whole at any moment, whenever its writer is killed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.new")

    def read(self) -> str | None:
        """Return the cursor; empty: the file is empty. None: there is no file. Raises: OSError."""
        try:
            return self._path.read_bytes().decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None

    def write(self, cursor: str) -> None:
        """Store a cursor instead of the one before.

        Raises: OSError.
        Guarantees: whoever reads the file, or kills this process, finds one of the two. After a
            power failure it may be an older one, or none: then turns are told again.
        """
        self._draft.write_text(f"{cursor}\n", "ascii")
        self._draft.replace(self._path)
