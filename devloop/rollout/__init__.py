"""Rollouts: snapshots of a workload in, a verdict, its phases and its state in words out. Judging is pure;
`follow` waits.
"""
