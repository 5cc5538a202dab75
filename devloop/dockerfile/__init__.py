"""A Dockerfile and its ignore file: text in, the plan of one build out (stages, bases, what it reads).
Imports nothing of devloop but the ground.
"""
