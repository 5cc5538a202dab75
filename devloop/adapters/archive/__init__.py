"""An image's layers and config in, the archive that an engine or a registry takes out, without what is there
already. Imported by build, nodes and delta.
"""
