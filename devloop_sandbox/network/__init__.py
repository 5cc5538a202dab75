"""Services in; addresses on this machine, proxies and names for pods out. Used by the server."""
