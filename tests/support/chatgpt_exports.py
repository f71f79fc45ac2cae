"""A `conversations.json` as ChatGPT exports it, with what real ones have."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

AT = 1_700_000_000.123456


def a_message(
    text: str | Sequence[Any] | None = "Hello.",
    *,
    role: str = "user",
    at: float | None = AT,
    name: str | None = None,
    recipient: str | None = "all",
    content: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """Return a message. Args: text: its parts; None: no content at all."""
    parts = [text] if isinstance(text, str) else text
    texts = None if parts is None else {"content_type": "text", "parts": parts}
    return {
        "id": str(uuid.uuid4()),
        "author": {"role": role, "name": name, "metadata": {}},
        "create_time": at,
        "update_time": None,
        "content": content or texts,
        "status": "finished_successfully",
        "end_turn": None,
        "weight": 1.0,
        "metadata": metadata,
        "recipient": recipient,
    }


def an_answer(text: str | Sequence[Any] | None = "Good morning.", **more: Any) -> dict[str, Any]:
    finished = {"type": "stop", "stop_tokens": [100260]}
    return a_message(text, role="assistant", model_slug="gpt-4o", finish_details=finished, **more)


def a_conversation(
    *messages: dict[str, Any] | None,
    title: str | None = "A talk",
    identity: str = "64f1c0de-0000-4000-8000-000000000001",
    branches: Sequence[tuple[int, dict[str, Any]]] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return a conversation whose messages follow each other.

    Args:
        branches: further messages, each with the number of the message that it hangs on.
    """
    mapping: dict[str, Any] = {
        "root": {"id": "root", "message": None, "parent": None, "children": []}
    }
    names = ["root"]

    def add(name: str, message: dict[str, Any] | None, parent: str) -> None:
        mapping[name] = {"id": name, "message": message, "parent": parent, "children": []}
        mapping[parent]["children"].append(name)

    for number, message in enumerate(messages, 1):
        name = f"node-{number}"
        add(name, message, names[-1])
        names.append(name)
    for number, (place, message) in enumerate(branches, 1):
        add(f"branch-{number}", message, names[place])
    return {
        "title": title,
        "create_time": AT - 60,
        "update_time": AT,
        "mapping": mapping,
        "moderation_results": [],
        "current_node": names[-1],
        "conversation_id": identity,
        "id": identity,
        **more,
    }


def an_image() -> dict[str, Any]:
    return {
        "content_type": "image_asset_pointer",
        "asset_pointer": "file-service://file-1",
        "size_bytes": 10_000,
        "width": 100,
        "height": 100,
    }


def of_all_kinds() -> dict[str, Any]:
    """Return a conversation with every kind of message."""
    both = {"content_type": "multimodal_text", "parts": [an_image(), "What is this?", an_image()]}
    spoken = {
        "content_type": "multimodal_text",
        "parts": [
            {"content_type": "audio_transcription", "text": "Spoken.", "direction": "in"},
            {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://file-2"},
        ],
    }
    custom = {"content_type": "user_editable_context", "user_profile": "I am Ada."}
    code = {"content_type": "code", "language": "python", "text": "print(1)"}
    output = {"content_type": "execution_output", "text": "1\n"}
    page = {"content_type": "tether_browsing_display", "result": "a page"}
    quote = {"content_type": "tether_quote", "text": "a quote", "url": "https://example.com"}
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "c"}]}
    recap = {"content_type": "reasoning_recap", "content": "Thought for 3 seconds"}
    return a_conversation(
        a_message("", role="system", is_visually_hidden_from_conversation=True),
        a_message(content=custom, is_visually_hidden_from_conversation=True),
        a_message("Be kind.", role="system"),
        a_message(content=both),
        an_answer(content=code, recipient="python"),
        a_message(content=output, role="tool", name="python"),
        an_answer(content=thoughts),
        an_answer(content=recap),
        an_answer(content=page),
        an_answer(content=quote),
        a_message("a result", role="tool", name="browser"),
        an_answer("A cat.", at=None),
        an_answer(""),
        a_message(None),
        None,
        a_message(content=spoken, at=AT + 1),
        an_answer(["One.", "Two."], at=AT + 2),
        a_message("Hidden.", is_visually_hidden_from_conversation=True),
        a_message("A \0 and a \ud83d."),
        an_answer(content=code, at=AT + 3),
        title="Cats\nand\u2028dogs \u202eGODS\u202c",
        branches=[(4, an_answer("Another one.")), (3, a_message("Edited."))],
    )


def text_of(*conversations: dict[str, Any]) -> bytes:
    """Return a file's text. Half of a pair of surrogates stays as it is in real ones."""
    return json.dumps(conversations).encode()
