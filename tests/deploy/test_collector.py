"""The example of a collector: it takes what Parley sends, where the docs say."""

import yaml

from support.pages import ROOT

ENDPOINT = "127.0.0.1:4317"


def test_the_collector_takes_traces_where_the_docs_send_them() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "opentelemetry" / "collector.yaml").read_text())

    assert ENDPOINT == config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert (
        f"OTEL_EXPORTER_OTLP_ENDPOINT=http://{ENDPOINT}"
        in (ROOT / "docs" / "tracing.md").read_text()
    )
    pipeline = config["service"]["pipelines"]["traces"]
    for kind, names in pipeline.items():
        assert set(names) <= set(config[kind]), kind
