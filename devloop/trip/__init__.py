"""A change of one service in, its outcome out, and what follows from it. Imported by wiring and commands.

`worker` takes changes from its inbox, `trip` is the straight line, `reconciler` decides what comes next.
"""
