"""The application's data as the API shows it: Task, Conversation, Message."""

from datetime import datetime
from typing import Literal, Optional

from pydantic import BaseModel


class Task(BaseModel):
    id: int
    title: str
    description: Optional[str] = None
    completed: bool = False
    priority: str = "medium"
    user_id: str
    created_at: datetime
    updated_at: datetime


class Conversation(BaseModel):
    id: int
    user_id: str
    created_at: datetime


class Message(BaseModel):
    id: int
    conversation_id: int
    role: Literal["user", "assistant"]
    content: str
    created_at: datetime
