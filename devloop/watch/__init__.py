"""File events in, changes for the services they concern out; config.yaml and manifests are followed too."""
