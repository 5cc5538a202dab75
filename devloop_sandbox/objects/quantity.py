"""Kubernetes quantities: "500m", "64Mi", "1e3"."""

from __future__ import annotations

import math
from decimal import Decimal

_UNITS = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def to_number(quantity: str | int | float | Decimal) -> Decimal:
    """The exact amount; ValueError for what is no quantity."""
    text = str(quantity).strip()
    unit = text.lstrip("+-.0123456789")
    if unit[:1] in ("e", "E") and unit[1:].lstrip("+-").isdigit():
        return Decimal(text)
    if unit not in _UNITS or not text.removesuffix(unit):
        raise ValueError(f"not a quantity: {text}")
    return Decimal(text.removesuffix(unit)) * _UNITS[unit]


def to_milli(quantity: str | int | float) -> int:
    """Thousandths, rounded up: the unit of CPU."""
    return math.ceil(to_number(quantity) * 1000)


def to_int(quantity: str | int | float) -> int:
    """Whole units, rounded up: bytes."""
    return math.ceil(to_number(quantity))


def canonical(quantity: str | int | float) -> str:
    """The same amount in the server's spelling: no fraction, the largest suffix that allows that."""
    number = to_number(quantity)
    if not number:
        return "0"
    binary = str(quantity).endswith("i") and number % 1024 == 0
    units = [unit for unit in _UNITS if unit.endswith("i")] if binary else [*"num", "", *"kMGTPE"]
    for unit in reversed(units):
        amount = number / _UNITS[unit]
        if amount == amount.to_integral_value():
            return f"{int(amount)}{unit}"
    return str(quantity)
