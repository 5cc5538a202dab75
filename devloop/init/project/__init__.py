"""A project's folder in, what lies in it out: Dockerfiles, manifests, kustomizations, charts, descriptions.

Whatever cannot be read, or is not what it looks like, is a note; nothing here raises.
"""
