"""`devloop init`: a project's folder in, a config.yaml for it out, with a reason for every line.

No cluster, engine or terminal is asked here: commands/init.py does that, and it alone imports this package.
"""
