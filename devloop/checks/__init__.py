"""Rules over rendered manifests and built images: pure, each with an id and a severity (docs/checks.md)."""
