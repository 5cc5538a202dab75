"""A command line and its input in, its exit code and output on a node out; some are started before they are
needed. Imported by the rest of nodes.
"""
