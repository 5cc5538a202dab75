"""What there is, as long as the pod lives: one list per model."""

from datetime import datetime, timezone

from models import Conversation, Message, Task


def now() -> datetime:
    return datetime.now(timezone.utc)


TASKS = [
    Task(id=1, title="Edit src/backend/main.py", priority="high", user_id="demo", created_at=now(), updated_at=now()),
    Task(id=2, title="Edit src/frontend/src/app.js", user_id="demo", created_at=now(), updated_at=now()),
]
CONVERSATIONS: list[Conversation] = []
MESSAGES: list[Message] = []
