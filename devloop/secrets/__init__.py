"""What must not be shown (S30): configuration and environment go in, a function that takes secret values out
of texts and events comes out; adapters, sinks, wiring and commands import it."""
