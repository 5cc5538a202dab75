"""A service and its fingerprint in, an image on the build engine out, built in full. Imported by nodes, delta
and wiring.
"""
