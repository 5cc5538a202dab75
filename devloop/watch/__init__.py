"""File events in, changes out, each for the service that it concerns. Imported by adapters and commands."""
