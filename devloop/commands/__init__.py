"""One module per command: it wires, runs and prints, and gives the exit code back to `cli`."""
