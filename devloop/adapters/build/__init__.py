"""Full builds: a service and its fingerprint in, an image on the builder's engine out."""
