from __future__ import annotations

from tests.sandbox.conftest import namespace, sandbox

__all__ = ["namespace", "sandbox"]
