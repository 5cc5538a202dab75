"""An image in, the same image on every node out, verified there; old images of the project go. Imported by
delta, checks, wiring and commands.
"""
