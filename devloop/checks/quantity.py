"""Kubernetes quantities as numbers: "250m" is 0.25, "128Mi" is 134217728."""

from __future__ import annotations

import re
from typing import Any

QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]))?$")
FACTORS = {
    **{unit + "i": 1024.0**power for power, unit in enumerate("KMGTPE", 1)},
    **{unit: 1000.0**power for power, unit in enumerate("kMGTPE", 1)},
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
}


def number(value: Any) -> float | None:
    """None for what is not a quantity."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = QUANTITY.match(value) if isinstance(value, str) else None
    if found is None:
        return None
    return float(found[1] + (found[2] or "")) * FACTORS.get(found[3] or "", 1.0)
