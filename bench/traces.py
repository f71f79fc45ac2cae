"""The part `traces`: what a turn costs with traces, by how many of them are recorded."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import grpc
import processes
from callers import Job, Result
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from processes import Callers, Databases
from report import Bar, print_table, ratio
from rounds import rounds

IN_FLIGHT = 32
ROUND = 400
"""Turns a round, at most: what is compared differs by less than a machine does in some seconds."""
OFF, FEW, ALL = "off", "1 % sampled", "all sampled"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans, and counts the bytes."""

    def __init__(self) -> None:
        self.received_bytes = 0

    def Export(  # noqa: N802 - the service's own
        self, request: trace_service_pb2.ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.received_bytes += request.ByteSize()
        return trace_service_pb2.ExportTraceServiceResponse()

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Take them inside the block. Yields: the endpoint."""
        server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


class Traces:
    def __init__(
        self,
        folder: Path,
        conversations: str,
        say: Callable[[str], None],
        *,
        rounds: int,
        turns: int,
    ) -> None:
        self._folder = folder
        self._say = say
        a_round = min(turns, ROUND)
        self._rounds = rounds * turns // a_round
        self._job = Job(conversations, IN_FLIGHT, a_round, warm_up=a_round // 5)
        self.bars: list[Bar] = []
        self.failed = 0

    def measure(self, made: Databases) -> None:
        """Have a worker without traces and two with take turns, for calls that begin traces."""
        found: dict[str, list[Result]] = {}
        collector = Collector()
        with ExitStack() as running:
            endpoint = running.enter_context(collector.listening())

            def callers(sample: str | None) -> Callers:
                changes = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
                if sample is not None:
                    changes |= {"PARLEY_TRACES": "otlp", "PARLEY_TRACES_SAMPLE": sample}
                server = processes.parley(made.parley_url, self._folder, changes=changes)
                return Callers(running.enter_context(server), made)

            kinds = {OFF: callers(None), FEW: callers("0.01"), ALL: callers("1")}
            for name in rounds("traces", list(kinds), self._rounds, self._say):
                result = kinds[name].run(self._job)
                self.failed += result.failed
                found.setdefault(name, []).append(result)
        figures = ("turns_per_s", "p50_ms", "p99_ms", "server_cpu_ms", "postgres_cpu_ms")
        print_table(
            f"A turn, {IN_FLIGHT} in flight, with traces",
            ("", "turns/s", "p50 ms", "p99 ms", "CPU server ms", "CPU Postgres ms", "CPU, ratio"),
            [
                (
                    name,
                    *(median(getattr(one, figure) for one in found[name]) for figure in figures),
                    _ratio(found[name], found[OFF]),
                )
                for name in kinds
            ],
        )
        if not collector.received_bytes:
            raise SystemExit("the collector has received nothing")
        measured = _ratio(found[FEW], found[OFF])
        self.bars.append(Bar(f"server CPU of a turn, traces with {FEW} / {OFF}", measured, 1.02))


def _ratio(some: list[Result], off: list[Result]) -> float:
    return ratio(sum(one.server_cpu_ms for one in some), sum(one.server_cpu_ms for one in off))
