"""Traces: spans by OpenTelemetry's conventions, sent over OTLP (decision 0037).

Imported only with PARLEY_TRACES: without it nothing of OpenTelemetry's SDK is loaded.

    tracer         makes spans of calls, attempts and statements; agents' libraries make their own
    remote_agents  the span of an agent on another server that is being asked
    sampling       which calls are recorded at all
    attributes     what a span may say: nothing else leaves the process
    sieve          holds every span to that, whoever has made it
    sending        the queue, the exporter, and the one warning if they do not get through
"""
