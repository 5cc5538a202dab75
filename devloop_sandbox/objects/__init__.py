"""What a Kubernetes object is: the kinds that are served, their fields and types, quantities, selectors and
refusals in; nothing of a cluster out. Imports nothing of the sandbox.
"""
