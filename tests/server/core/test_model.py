"""The owner's id, on which every stored row depends."""

import unicodedata
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.core.model import Owner

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.mark.parametrize(
    ("tenant", "user", "expected"),
    [
        ("", "alice", "02cd475a-c01b-5e33-ab19-8ac938d7f840"),
        ("acme", "alice", "f8ac2663-bf94-5a1c-8e2c-54bd19c3f912"),
        ("acme", "Alice", "2f1c8f68-aab5-5ff1-9547-4ccc65cd2a89"),
        ("ab", "c", "b338f043-017d-5ace-8e89-46286ed0c6fb"),
        ("a", "bc", "20df0979-d06e-5fac-93e2-22919d72c4ce"),
        ("", "4:acmealice", "8fd06fe7-c6c7-5376-aa29-2c1ffe45a00d"),
        ("", "auth0|5f7c8ec7c33c6c004bbafe82", "0c8d9819-4576-5b83-82d0-e20f665a1b91"),
        ("B\u00e4ckerei", "Zo\u00eb", "9bc9b3e7-f38e-5ad7-ad35-983f5743d24a"),
        ("B\u00e4ckerei", "Zoe\u0308", "698abfde-e00d-5100-8219-428e811a6296"),
        ("\u6771\u4eac", "\u5229\u7528\u8005", "8d13389b-5d2e-5a45-b650-5ad24d7c2efb"),
        (
            "acme",
            "\U0001f469\u200d\U0001f469\u200d\U0001f467",
            "34518f1c-4fce-5646-b940-92ca3bf276c6",
        ),
        ("t" * 255, "u" * 255, "b30c3060-589e-5959-af35-f1cf3b22e4a2"),
    ],
)
def test_owner_id_never_changes(tenant: str, user: str, expected: str) -> None:
    """The vectors were computed apart from this code, by SHA-1 over the namespace and the name."""
    assert UUID(expected) == Owner.of(tenant, user).id


def test_owner_keeps_tenant_and_user_as_they_are() -> None:
    owner = Owner.of("B\u00e4ckerei", "Zoe\u0308")

    assert ("B\u00e4ckerei", "Zoe\u0308") == (owner.tenant, owner.user)


def test_owner_id_tells_spellings_of_one_name_apart() -> None:
    composed = "Zo\u00eb"

    assert Owner.of("", composed).id != Owner.of("", unicodedata.normalize("NFD", composed)).id


@given(NAMES, NAMES, st.integers(0, 24))
def test_owner_id_depends_on_where_the_tenant_ends(tenant: str, user: str, place: int) -> None:
    """Moving the border between tenant and user makes another owner, whatever they are called."""
    both = tenant + user
    elsewhere = (both[:place], both[place:])

    assert ((tenant, user) == elsewhere) == (Owner.of(tenant, user).id == Owner.of(*elsewhere).id)


@given(st.from_regex(r"[0-9:]{0,6}", fullmatch=True), st.from_regex(r"[0-9:]{0,6}", fullmatch=True))
def test_owner_id_cannot_be_forged_with_digits_and_colons(user: str, other: str) -> None:
    assert Owner.of("", user).id != Owner.of("a", other).id
