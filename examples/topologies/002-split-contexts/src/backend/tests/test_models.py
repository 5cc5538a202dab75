import unittest

import store
from models import Task


class Defaults(unittest.TestCase):
    def test_a_new_task_is_open_and_of_medium_priority(self):
        task = Task(id=1, title="x", user_id="demo", created_at=store.now(), updated_at=store.now())
        self.assertEqual((task.completed, task.priority, task.description), (False, "medium", None))
