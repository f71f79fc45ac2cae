"""What a layer is made of."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Context], Awaitable[Any]]
Metadata = Iterable[tuple[str, str | bytes]]
