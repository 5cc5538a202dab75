"""Rules over rendered manifests and built images: objects in, findings out; each rule has an id and a
severity (docs/checks.md).
"""
