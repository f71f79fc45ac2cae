"""Write what the chart's schema says of `settings`: the server's own settings, with their bounds.

Usage: python tools/render_chart.py [--check]
"""

import json
import sys
from pathlib import Path
from typing import Any

from parley_server.config import Settings

SCHEMA = Path(__file__).parents[1] / "deploy" / "helm" / "parley" / "values.schema.json"
ELSEWHERE = {
    "agent": "agent.name",
    "agents_file": "agent.file",
    "auth_audience": "auth.audience",
    "auth_hs256_secret": "auth.hs256",
    "auth_issuer": "auth.issuer",
    "auth_jwks_url": "auth.jwksUrl",
    "auth_keys_file": "auth.keys",
    "database_url": "database",
    "drain_s": "drainS",
    "metrics_listen": "metrics.enabled",
    "migrate_database_url": "migrate",
    "tls_cert_file": "tls.secret",
    "tls_client_ca_file": "tls.clientCa",
    "tls_key_file": "tls.secret",
    "traces": "traces.endpoint",
    "traces_sample": "traces.sample",
    "workers": "replicas: a pod is one worker",
    "data_dir": "nothing: there is a database",
    "listen": "nothing: the probes and Services know the port",
    "local_model_key": "nothing: a parent sets it",
    "local_model_url": "nothing: a parent sets it",
    "worker_index": "nothing: a parent sets it",
    "openai_base_url": "env, as OPENAI_BASE_URL",
    "openai_api_key": "secrets, as OPENAI_API_KEY",
}
"""Settings that are not in `settings`, and the value of the chart that stands for each."""


def settings_schema() -> dict[str, Any]:
    """Return the schema of `settings`: names in lower case, without PARLEY_."""
    known = Settings.model_json_schema(by_alias=False)["properties"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: _bounds(schema) for name, schema in known.items() if name not in ELSEWHERE
        },
    }


def _bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a setting's schema without its title and default; a null means unset, as for Helm."""
    (only,) = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
    return {key: only[key] for key in sorted(only.keys() - {"title", "default", "format"})}


def main() -> int:
    """Write the schema, or with --check say whether it is up to date."""
    whole = json.loads(SCHEMA.read_text())
    if "--check" in sys.argv:
        if whole["properties"].get("settings") == settings_schema():
            return 0
        print("the chart's schema has changed: run `make gen`", file=sys.stderr)
        return 1
    whole["properties"]["settings"] = settings_schema()
    SCHEMA.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
