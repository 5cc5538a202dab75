"""A fingerprint in, a delta image out where it is proven, else a full one; parents are learned here. Imported
by wiring.
"""
