"""The plain flow that people write today: what Parley is measured against.

FastAPI, the SQLAlchemy ORM on asyncpg, a token checked, and for each request: load the
conversation, load all its messages, store the user's message, answer, store the answer. Written as
its authors' manuals advise: a pool that is never outgrown, objects that stay usable after a commit,
an index for the order that is asked for, and nothing that would run in a thread.
"""

import os
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from sqlalchemy import DateTime, ForeignKey, Index, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012 - as SQLAlchemy has it


class Conversation(Base):
    __tablename__ = "conversations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    title: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Message(Base):
    __tablename__ = "messages"
    __table_args__ = (Index("messages_in_order", "conversation_id", "created_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(ForeignKey(Conversation.id, ondelete="CASCADE"))
    role: Mapped[str]
    content: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TurnRequest(BaseModel):
    conversation_id: UUID
    message: str = Field(min_length=1, max_length=32_768)


class Answer(BaseModel):
    conversation_id: UUID
    response: str


engine = create_async_engine(
    os.environ.get("PLAIN_DATABASE_URL", "postgresql+asyncpg://"), pool_size=10, max_overflow=0
)
new_session = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()
bearer = HTTPBearer()


async def session() -> AsyncIterator[AsyncSession]:
    async with new_session() as opened:
        yield opened


async def user_id(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> str:
    try:
        claims = jwt.decode(
            credentials.credentials,
            os.environ["PLAIN_SECRET"],
            ["HS256"],
            issuer=os.environ["PLAIN_ISSUER"],
            audience=os.environ["PLAIN_AUDIENCE"],
            options={"require": ["exp", "sub", "iss", "aud"]},
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    return str(claims["sub"])


async def echo(history: Sequence[Message], message: str) -> str:
    """Stands for the model: takes the whole conversation, answers with the newest message."""
    return message


@app.post("/chat")
async def chat(
    ask: TurnRequest,
    user: Annotated[str, Depends(user_id)],
    db: Annotated[AsyncSession, Depends(session)],
) -> Answer:
    conversation = await db.scalar(
        select(Conversation).where(
            Conversation.id == ask.conversation_id, Conversation.user_id == user
        )
    )
    if conversation is None:
        raise HTTPException(404)
    history = (
        await db.scalars(
            select(Message)
            .where(Message.conversation_id == conversation.id)
            .order_by(Message.created_at)
        )
    ).all()
    db.add(Message(conversation_id=conversation.id, role="user", content=ask.message))
    await db.commit()
    response = await echo(history, ask.message)
    db.add(Message(conversation_id=conversation.id, role="assistant", content=response))
    await db.commit()
    return Answer(conversation_id=conversation.id, response=response)
