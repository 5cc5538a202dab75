"""The labels in the config of an image that devloop built (S25)."""

PROJECT = "dev.devloop.project"
SERVICE = "dev.devloop.service"
FINGERPRINT = "dev.devloop.fingerprint"
