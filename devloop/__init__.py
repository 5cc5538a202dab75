"""devloop: save a file, and the cluster runs it."""

__version__ = "0.1.0"
