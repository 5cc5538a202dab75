"""Objects of the Kubernetes API: watched, patched, applied, removed, as devloop's own values."""
