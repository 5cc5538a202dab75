"""Image archives: tar streams, Docker archives and OCI layouts, read and written with only the layers that
are missing.
"""
