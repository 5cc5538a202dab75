"""The way to an API server: kubeconfig, guard, credentials, and a lean JSON client."""
