"""What reads events: console, plain lines, metrics, journal, /api/status. Nothing of devloop but `wiring` and
commands imports them.
"""
