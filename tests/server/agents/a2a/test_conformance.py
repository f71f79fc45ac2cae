"""What a remote agent sends, and what becomes of it: the table of docs/remote-agents.md."""

import logging
import re
from pathlib import Path

import pytest

from parley_server.agents.a2a.agent import A2AAgent
from parley_server.core.errors import AgentError
from parley_server.core.model import FinishReason
from support.a2a_conformance import CASES, MOST_TEXT, NAMES, Case
from support.a2a_scripted import OTHERS_WORDS, ScriptedRemote
from support.agent_runs import Told, told_by

DOCS = Path(__file__).parents[4] / "docs" / "remote-agents.md"


@pytest.mark.parametrize("case", CASES, ids=[case.sends for case in CASES])
async def test_what_an_agent_sends_becomes_what_the_table_says(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """Every row fails if Reader or failures take it for something else."""
    caplog.set_level(logging.DEBUG)
    remote = ScriptedRemote(case.script)
    told = Told()
    failure: AgentError | None = None
    async with remote.running():
        agent = A2AAgent(remote.name)
        try:
            await told_by(agent, into=told)
        except AgentError as error:
            failure = error
        await agent.close()

    expected = NAMES.get(case.becomes.partition(";")[0])
    assert expected is (None if failure is None else type(failure))
    if case.text is not None:
        assert case.text == told.text
    assert len(told.text) <= MOST_TEXT
    if failure is None:
        assert told.finish is not None
        assert case.reason is told.finish.reason
    else:
        assert told.finish is None
        assert (None, None) == (failure.__cause__, failure.__context__)
    records = [str(vars(record)) for record in caplog.records]
    assert not [record for record in [*records, str(failure)] if OTHERS_WORDS in record]
    expects_cancel = "cancelled" in case.becomes or case.reason is FinishReason.LENGTH
    if expects_cancel:
        assert ["t1"] == remote.cancelled


def test_the_table_of_the_docs_is_the_one_that_is_tested() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", DOCS.read_text("utf-8"), re.MULTILINE)
    plain = [(sends.replace("`", ""), becomes.replace("`", "")) for sends, becomes in rows]

    start = plain.index((CASES[0].sends, CASES[0].becomes))
    assert [(case.sends, case.becomes) for case in CASES] == plain[start : start + len(CASES)]
