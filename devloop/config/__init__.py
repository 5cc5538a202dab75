"""config.yaml: a file in, a checked `Config` with its services, releases and settings out; imported by
everything above it.
"""
