"""The Kubernetes API: a lean client, informers, and the cluster port on top of them."""
