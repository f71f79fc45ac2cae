"""Workers are replaced one by one under load, behind Envoy: no call with a request id is lost.

At length, and without retries: tests/torture/experiments/test_rolling_restarts.py.
"""

from pathlib import Path

import pytest

from support.rolling_restarts import restarted_under_load


@pytest.mark.slow
async def test_rolling_restart_under_load_loses_no_call_and_makes_no_turn_twice(
    database_url: str, tmp_path: Path
) -> None:
    """Fails without retries for connections that fail, and for WORKER_DRAINED."""
    await restarted_under_load(database_url, tmp_path, callers=4, rounds=1)
