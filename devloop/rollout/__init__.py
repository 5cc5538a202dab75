"""Snapshots of a workload in, a verdict with its reason, its phases and its state in words out. Imported by
trip, adapters, sinks and commands.
"""
