"""One turn, answered whole."""

from support.services import Service


async def test_chat_answers_and_stores_both_messages(service: Service) -> None:
    first = await service.chat("hello")
    second = await service.chat("more", conversation_id=first.conversation_id)

    assert "HELLO" == first.response
    assert (1, 2) == (first.user_sequence, first.response_sequence)
    assert (3, 4) == (second.user_sequence, second.response_sequence)
    history = await service.history(first.conversation_id)
    assert ["hello", "HELLO", "more", "MORE"] == [m.content for m in history.messages]
    assert [1, 2, 3, 4] == [m.sequence for m in history.messages]
    assert 4 == history.last_sequence
