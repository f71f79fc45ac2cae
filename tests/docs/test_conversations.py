"""docs/conversations.md is followed as a reader would: block after block, on its terminals."""

from pathlib import Path

import pytest

from support.guides import follow
from support.pages import ROOT
from support.services import StartService, an_id

PAGE = ROOT / "docs" / "conversations.md"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_guide_does_and_says_what_the_page_says(tmp_path: Path) -> None:
    """Everything that is printed is compared, and every command has to succeed."""
    _, proxy = follow(PAGE.read_text("utf-8"), tmp_path)
    assert "" == proxy


def test_table_of_what_deleting_does_has_a_row_for_everything_that_may_be_under_way() -> None:
    table = PAGE.read_text("utf-8").partition("## What deleting does\n")[2].partition("\n## ")[0]
    subjects = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]

    for subject in (
        *("open turn", "caller", "wait", "streams", "followers", "watches", "pages", "replays"),
        *("GetTurn", "CancelTurn", "`allow_missing`", "same id", "same request id", "lists"),
    ):
        assert [] != [row for row in subjects if subject in row], subject


async def test_deletion_leaves_page_tokens_and_other_owners_alone(
    start_service: StartService,
) -> None:
    """Rows of the table that test_deletion.py leaves out."""
    service = await start_service()
    identity = an_id()
    for user in ("ada", "bob"):
        await service.chat(user=user, conversation_id=identity, allow_missing=True)
    older = (await service.conversation(identity)).conversation_id
    deleted = (await service.chat()).conversation_id
    await service.chat()
    token = (await service.conversations(page_size=1)).next_page_token

    await service.delete(deleted)
    page = await service.conversations(page_size=1, page_token=token)
    await service.delete(older)
    again = await service.delete(older, allow_missing=True)

    assert not again.HasField("purge_time")
    assert [older] == [c.conversation_id for c in page.conversations]
    assert 2 == (await service.conversation(identity, user="bob")).last_sequence
