"""A service whose one call does nothing: what a call costs before anything is done for it."""

import asyncio
from typing import Any

import grpc
import uvloop
from google.protobuf.empty_pb2 import Empty


async def nothing(request: Empty, context: grpc.aio.ServicerContext[Any, Any]) -> Empty:
    return Empty()


async def serve() -> None:
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        nothing, Empty.FromString, Empty.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Empty", {"Call": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"serves on 127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
