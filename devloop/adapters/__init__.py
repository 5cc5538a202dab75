"""Every foreign or blocking call. Each package implements ports of `devloop.ports`; only `wiring` and
commands import them.
"""
