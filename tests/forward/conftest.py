from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.pod_ports import PodPorts, pod_ports


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[PodPorts]:
    async with pod_ports(tmp_path) as opened:
        yield opened
