"""Every foreign or blocking call: ports of `devloop.ports` in, engines, clusters, nodes and files out.
Imported by wiring and commands.
"""
