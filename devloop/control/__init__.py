"""Requests to a running `devloop watch` in, what it does about them and its answers out. Imported by
commands.
"""
