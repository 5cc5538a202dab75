"""Manifests and Helm releases in, the calls out that install, compare and remove them, and when. Imported by
all layers above.
"""
