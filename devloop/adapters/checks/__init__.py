"""An engine, a cluster and its nodes in, the facts that rules ask for (`devloop.checks.facts`) out. Imported
by commands.
"""
