"""The text of a Dockerfile and of its ignore file in, the plan of one build out: stages, bases, what it
reads. Imported by all layers above.
"""
