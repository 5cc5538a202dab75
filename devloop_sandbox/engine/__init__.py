"""Calls to the Docker Engine of this machine in, its answers out: the client, the pods' bridge and network
holders, images, namespaces; used by node, network and cleanup.
"""
