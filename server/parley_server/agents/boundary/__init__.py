"""Between a provider's bytes and the library that reads them: whatever comes, the turn ends right.

    provider ─► body (bounded, decoded) ─► sse (events) ─┬► chat       Chat Completions
                                                         ├► responses  OpenAI's Responses
                                                         └► messages   Anthropic's Messages
    the last two, whose events name their type, share `named_events`
                                            then as clean events ─► the provider's library

Each rule and each oddity that it answers is in docs/providers.md.
"""

from parley_server.agents.boundary.chat import REASONING
from parley_server.agents.boundary.hook import Boundary
from parley_server.agents.boundary.thinking import DEFAULT_TAGS

__all__ = ["DEFAULT_TAGS", "REASONING", "Boundary"]
