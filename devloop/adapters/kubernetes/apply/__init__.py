"""Manifests applied server-side, and removed: objects in; what changed, failed or waits, out."""
