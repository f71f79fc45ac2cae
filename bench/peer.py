"""A peer that a team would take instead: the OpenAI Agents SDK with its SQLAlchemy session.

Behind FastAPI, with the same token check, driver and pool as the plain flow. For each request the
SDK loads the session's items, runs the agent, and stores the user's item and the answer's. The
model answers at once with the newest message, like Parley's `echo`. The SDK's tracing, which would
send what was said elsewhere, is off.
"""

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from agents import Agent, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.extensions.memory import SQLAlchemySession
from agents.models.interface import Model
from fastapi import Depends, FastAPI
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
from plain import Answer, TurnRequest, user_id
from sqlalchemy.ext.asyncio import create_async_engine


class Echo(Model):
    """Stands for the model."""

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> Any:  # noqa: A002 - the SDK's
        said = input if isinstance(input, str) else input[-1]["content"]
        text = ResponseOutputText(type="output_text", text=said, annotations=[])
        message = ResponseOutputMessage(
            id="answer", type="message", role="assistant", status="completed", content=[text]
        )
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("nobody streams here")


set_tracing_disabled(True)
engine = create_async_engine(
    os.environ.get("PLAIN_DATABASE_URL", "postgresql+asyncpg://"), pool_size=10, max_overflow=0
)
agent = Agent(name="echo", model=Echo())
app = FastAPI()


@app.post("/chat")
async def chat(ask: TurnRequest, user: Annotated[str, Depends(user_id)]) -> Answer:
    session = SQLAlchemySession(f"{user}/{ask.conversation_id}", engine=engine)
    result = await Runner.run(agent, ask.message, session=session)
    return Answer(conversation_id=ask.conversation_id, response=result.final_output)
