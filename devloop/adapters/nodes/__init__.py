"""Images onto nodes: which route leads there, what each node holds, loading, verifying, and removing old
ones.
"""
