"""What was found in, a proposal out: services, what runs them, and the texts of config.yaml and manifests."""
