"""What a build reads: a service in, its fingerprint and the archive of its context out."""
