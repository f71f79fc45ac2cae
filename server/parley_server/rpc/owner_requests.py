"""Protos to questions that concern an owner as a whole."""

from parley.v1 import conversation_service_pb2 as pb
from parley_server.rpc.requests import Violations


def erasure(request: pb.EraseOwnerRequest) -> str:
    """Read which erasure is meant: its request id.

    Raises: InvalidRequest.
    """
    violations = Violations()
    request_id = violations.required_request_id(request.request_id)
    violations.raise_any()
    return request_id
