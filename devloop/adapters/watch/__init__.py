"""Roots in, batches of file events out: inotify, watchfiles or polling, as file systems and mounts ask for.
Imported by wiring and commands.
"""
