"""The last lines that a program printed in, the one that says why it ended out, with its file and line.
Imported by rollout, adapters and sinks.
"""
