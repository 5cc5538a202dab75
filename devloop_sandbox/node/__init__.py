"""Pods that are bound to the node in, their containers and status out; used by the server."""
