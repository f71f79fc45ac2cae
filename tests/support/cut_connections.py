"""A connection between client and server that a test can cut."""

from support.paths import Path, to_port


class Wire(Path):
    """Forwards bytes to a server on this machine, until it is cut."""

    def __init__(self, port: int) -> None:
        super().__init__(to_port(port))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Drop every connection, as a network does. New ones are taken."""
        for writer in list(self._writers):
            writer.transport.abort()
