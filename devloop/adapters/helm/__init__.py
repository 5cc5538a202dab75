"""Helm releases: the library in a worker process, the user's command, and their records in the cluster."""
