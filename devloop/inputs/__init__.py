"""A service in, its fingerprint and the archive of its build context out. Imported by all layers above."""
