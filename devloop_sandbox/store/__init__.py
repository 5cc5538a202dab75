"""Objects in, versions and changes out: the cluster's memory with its copy on disk; used by every package
above it.
"""
