"""A small Kubernetes-compatible cluster on the local engine: for trying devloop, and for its tests."""
