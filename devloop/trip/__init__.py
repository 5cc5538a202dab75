"""One service's way from a change to its outcome: `worker` takes changes from its inbox, `trip` is the
straight line, `reconciler` decides what comes next.
"""
