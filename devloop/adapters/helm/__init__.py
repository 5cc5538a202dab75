"""A release and its values in, a revision in the cluster out, by Helm's library or the user's command.
Imported by wiring and commands.
"""
