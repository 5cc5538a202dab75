"""A machine, a project and its cluster in, what stands in a first trip's way out, each with its fix. Imported
by commands.
"""
