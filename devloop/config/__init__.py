"""config.yaml in, a checked `Config` with its services, releases and settings out. Imported by all layers
above.
"""
