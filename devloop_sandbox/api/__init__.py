"""An HTTPS request in, an answer or a stream in Kubernetes' form out; used by the server."""
