"""A kubeconfig in, checked access to one API server out: guard, credentials, and a lean JSON client. Imported
by `adapters.kubernetes` and `adapters.helm`.
"""
