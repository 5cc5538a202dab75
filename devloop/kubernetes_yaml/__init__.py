"""YAML text in, the JSON values that kubectl and Helm see out, or a ConfigError. Anyone may import it."""
