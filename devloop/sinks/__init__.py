"""Events in; the console, plain lines, metrics, the journal and /api/status out. Imported by wiring and
commands.
"""
