"""Calls in, answers of a Docker Engine out: its API, its endpoints, what images it holds and how it names
them. Imported by all that builds and loads.
"""
