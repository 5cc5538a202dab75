"""Changes of objects in, writes of others out: the control loops that turn what is wanted into pods.

They see the cluster through the store alone. Used by the server.
"""
