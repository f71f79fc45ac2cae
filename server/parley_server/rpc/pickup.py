"""gRPC's server, but for how it picks up calls: whatever bytes their methods are named by.

gRPC's own loop decodes the name of each call's method, and a name that is not UTF-8 ends the loop,
and the server with it. Anybody who reaches the port could do that. Here gRPC's core is told which
methods there are: it hands over their calls method by method, and all others as calls of none,
whose names nothing looks at.

This builds on what is not public of grpcio, whose release is pinned.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

NO_METHOD = "/"
"""The name by which calls go on whose method there is none of."""

Interceptors = Sequence[grpc.aio.ServerInterceptor]  # type: ignore[type-arg] # it takes none


def server(interceptors: Interceptors, options: Sequence[tuple[str, int]]) -> grpc.aio.Server:
    """Return what `grpc.aio.server` does, with other loops."""
    made: Any = _Server(interceptors, options)  # its base is one, which the types do not say
    return cast(grpc.aio.Server, made)


class _Server(_server.Server):
    """A server that has no methods yet."""

    def __init__(self, interceptors: Interceptors, options: Sequence[tuple[str, int]]) -> None:
        self._loop = cygrpc.get_working_loop()
        self._server = _PickingUp(self._loop, tuple(interceptors), tuple(options))

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Add none: they are found by what a call says that its method is."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Any]
    ) -> None:
        """Add a service's methods, by name. Only before the server is started."""
        self._server.add_methods({f"/{service_name}/{k}": v for k, v in method_handlers.items()})


class _PickingUp(cygrpc.AioServer):  # type: ignore[misc] # without types
    """Picks up calls in a loop for each method, and in one for calls of none."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interceptors: tuple[Any, ...], options: Any
    ) -> None:
        super().__init__(loop, None, (), interceptors, options, None)
        self._loop = loop
        self._interceptors = interceptors
        self._methods: dict[str, Any] = {}
        self._calls: set[asyncio.Task[None]] = set()

    def add_methods(self, methods: dict[str, Any]) -> None:
        """Add methods, by path."""
        self._methods |= methods
        self.add_registered_method_handlers(methods)

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> Any:
        """Return the method of a call, behind all interceptors; None: there is none."""
        return self._methods.get(details.method)

    def _make_request_call_future(self, path: bytes | None) -> "asyncio.Task[None]":
        """Begin to pick up calls of a method; None: of none that there is.

        gRPC's own loop asks for one call, and for the next one once this has ended. So it only
        waits, until the server stops.
        """
        return self._loop.create_task(self._pick_up(path))

    async def _pick_up(self, path: bytes | None) -> None:
        """Hand over one call after the other.

        Raises: cygrpc._RequestCallError: the server stops.
        """
        name = NO_METHOD if path is None else path.decode()
        while True:
            if path is None:
                call = await self._request_call()
            else:
                call = await self._request_registered_call(path)
            self._hand_over(name, call)

    def _hand_over(self, name: str, call: Any) -> None:
        handling = cygrpc._handle_rpc(  # noqa: SLF001 - as gRPC's own loop does
            name, self, self._interceptors, call, self._loop, False
        )
        task = self._loop.create_task(
            cygrpc._schedule_rpc_coro(handling, call, self._loop, name)  # noqa: SLF001 - the same
        )
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
