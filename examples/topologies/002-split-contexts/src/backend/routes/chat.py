"""A conversation with an assistant that only counts tasks."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

import store
from models import Conversation, Message

router = APIRouter(prefix="/api/chat")


class Said(BaseModel):
    content: str


@router.post("", response_model=list[Message], status_code=201)
async def say(said: Said, user_id: str = "demo") -> Any:
    conversation = Conversation(id=len(store.CONVERSATIONS) + 1, user_id=user_id, created_at=store.now())
    store.CONVERSATIONS.append(conversation)
    count = sum(not task.completed for task in store.TASKS if task.user_id == user_id)
    for role, content in (("user", said.content), ("assistant", f"{count} tasks are open")):
        store.MESSAGES.append(
            Message(
                id=len(store.MESSAGES) + 1,
                conversation_id=conversation.id,
                role=role,
                content=content,
                created_at=store.now(),
            )
        )
    return store.MESSAGES[-2:]
