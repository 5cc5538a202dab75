"""Targets, manifests and images in, patches and applied objects out; watches come back as snapshots. Imported
by helm, checks, wiring and commands.
"""
