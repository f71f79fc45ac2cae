"""Sending spans over OTLP: in a thread of its own, which no call waits for.

What is not sent yet is bounded, in spans (OTEL_BSP_MAX_QUEUE_SIZE, 2,048) and in the length of
what they say; beyond that the oldest are dropped.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Sequence
from importlib.metadata import version

import structlog
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from parley_server.config import BadSettings
from parley_server.telemetry.tracing.exporting import Exporter
from parley_server.telemetry.tracing.sampling import Sampling
from parley_server.telemetry.tracing.sieve import Sieve

log = structlog.get_logger("parley.traces")

SEND_S = 5.0
"""How long the end of a worker waits for spans that are not sent yet."""
MAX_VALUE_CHARACTERS = 16_384
"""Of one attribute. It matters with content: without, nothing is nearly that long."""
BATCH_WITH_CONTENT = 32
"""How many spans are sent at once, of usually 512: a collector takes 4 MiB at once."""
NAME = "parley"
QUIET_LIBRARIES = ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal")
"""They would log each try: what matters of it is told once, by `Watched`."""


class Watched(SpanExporter):
    """Stands before the exporter, and tells once that it does not get through, and that it does."""

    def __init__(self, behind: SpanExporter) -> None:
        self._behind = behind
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._behind.export(spans)
        except Exception as error:  # its batch is lost; the next one may be another matter
            result = SpanExportResult.FAILURE
            self._tell(result, type(error).__name__)
        else:
            self._tell(result, "not delivered")
        return result

    def _tell(self, result: SpanExportResult, why: str) -> None:
        is_failing = result is not SpanExportResult.SUCCESS
        if is_failing and not self._is_failing:
            log.warning(
                "traces lost",
                why=why,
                hint="check OTEL_EXPORTER_OTLP_ENDPOINT and that a collector listens there",
            )
        elif self._is_failing and not is_failing:
            log.info("traces delivered again")
        self._is_failing = is_failing

    def shutdown(self) -> None:
        self._behind.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._behind.force_flush(timeout_millis)


class Sending:
    """The queue of spans, and who sends them; makes the provider that fills it."""

    def __init__(
        self, *, sample: float | None, has_content: bool, worker_index: int | None
    ) -> None:
        """Begin to send what there will be. Nothing is connected to before there is a span.

        Args:
            sample: how much is recorded, as for `Sampling`.
            has_content: whether spans hold what is said.
            worker_index: of several workers, this one's.
        Raises: BadSettings: a variable of OpenTelemetry's is wrong.
        """
        for name in QUIET_LIBRARIES:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.sampling = Sampling(sample)
        is_usual = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" not in os.environ
        batch = BATCH_WITH_CONTENT if has_content and is_usual else None
        _check_variables()
        try:
            self._exporter = Exporter()
            self._queue = BatchSpanProcessor(Watched(self._exporter), max_export_batch_size=batch)
            self.provider = TracerProvider(
                sampler=self.sampling.sampler,
                id_generator=self.sampling,
                resource=_resource(worker_index),
                shutdown_on_exit=False,
                span_limits=SpanLimits(max_attribute_length=MAX_VALUE_CHARACTERS),
            )
        except BadSettings:
            raise
        except Exception as error:
            raise BadSettings(f"OTEL_…: {error}") from None
        self.provider.add_span_processor(Sieve(self._queue, has_content=has_content))

    async def close(self) -> None:
        """Send what there is, for SEND_S at most, and stop."""
        loop = asyncio.get_running_loop()
        is_sent = asyncio.Event()

        def stop() -> None:
            self.provider.shutdown()
            loop.call_soon_threadsafe(is_sent.set)

        # A daemon: a receiver that hangs does not hold up the end of the process.
        threading.Thread(target=stop, name="last-traces", daemon=True).start()
        try:
            async with asyncio.timeout(SEND_S):
                await is_sent.wait()
        except TimeoutError:
            log.warning("traces not sent before the end", waited_s=SEND_S)
            self._exporter.shutdown()  # ends the try under way


def _check_variables() -> None:
    """Refuse what the exporter would take for something else, or fail with later on.

    Raises: BadSettings.
    """
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
        if (protocol := os.environ.get(name, "grpc")) != "grpc":
            raise BadSettings(
                f"{name} is {protocol}, but Parley sends traces over gRPC: unset it, or set it to "
                "grpc and OTEL_EXPORTER_OTLP_ENDPOINT to the collector's gRPC port, usually 4317"
            )
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        endpoint = os.environ.get(name)
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise BadSettings(
                f"{name} must be a URL that begins with http:// or https://, for example "
                "http://127.0.0.1:4317"
            )


def _resource(worker_index: int | None) -> Resource:
    """Return who the spans are of. What OTEL_RESOURCE_ATTRIBUTES say comes first."""
    own: dict[str, str | int] = {"service.version": version("parley")}
    if worker_index is not None:
        own["parley.worker.index"] = worker_index
    said = Resource.create()
    if str(said.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        own[SERVICE_NAME] = NAME
        return said.merge(Resource(own))
    return Resource(own).merge(said)
