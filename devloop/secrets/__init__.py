"""Configuration and environment in, a function that takes secret values out of texts and events out (S30).
Imported by adapters, sinks and commands.
"""
