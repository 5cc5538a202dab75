"""A checked command line in, an exit code out: one module per command, which opens a session, runs and
prints. Imported by cli.
"""
