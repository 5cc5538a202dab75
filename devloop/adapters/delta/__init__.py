"""Delta images on real engines: the builder that tries them first, their parents, and the loader that falls
back to a full build.
"""
