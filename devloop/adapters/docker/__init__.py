"""The Docker Engine: its API, its endpoints, what images it holds and how it names them."""
