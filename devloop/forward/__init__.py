"""Snapshots of a service's pods in, ports of this machine whose connections reach a ready one out. Imported
by commands.

`choice` says which pod, `connection` carries the bytes, `listener` waits for the pod, `forwarder` follows
config.yaml.
"""
