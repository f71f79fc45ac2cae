"""Which call of a rehearsal is one that the turn made."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.model import Rehearsal
from support.agent_runs import a_call

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=3), values))
def test_call_is_found_however_its_json_is_written(arguments: dict[str, object]) -> None:
    written = json.dumps(arguments)
    other = json.dumps(dict(reversed(arguments.items())), indent=2, ensure_ascii=False)
    rehearsal = Rehearsal([a_call(arguments=written)])

    found = rehearsal.take("look", other)

    assert found is not None
    assert written == found.arguments
    assert rehearsal.take("look", other) is None, "each is given out once"


@pytest.mark.parametrize(
    ("recorded", "asked", "is_one"),
    [
        ('{"x":1}', '{"x":1.0}', True),
        ('{"x":1}', '{"x":true}', False),
        ('{"x":0}', '{"x":false}', False),
        ('{"x":"1"}', '{"x":1}', False),
        ("", "{}", True),
        ("{no json", "{no json", True),
        ("{no json", "{", False),
        ("[" * 100_000, "[" * 100_000, True),
        ('{"x":1e999}', '{"x":1e999}', True),
    ],
)
def test_equal_is_what_json_says(recorded: str, asked: str, is_one: bool) -> None:
    """Fails with Python's own comparison, to which true is 1."""
    rehearsal = Rehearsal([a_call(arguments=recorded)])

    assert is_one == (rehearsal.take("look", asked) is not None)


def test_equal_calls_get_their_results_in_order_and_others_none() -> None:
    rehearsal = Rehearsal([a_call(result="1"), a_call(result="2", name="see"), a_call(result="3")])
    taken = [rehearsal.take("look", '{"x": 1}') for _ in range(3)]

    assert ["1", "3", None] == [call and call.result for call in taken]
    assert rehearsal.take("hear", '{"x": 1}') is None
