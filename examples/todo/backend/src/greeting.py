"""What the backend says of itself. Edit this line, save, and watch the cluster run it."""

GREETING = "Hello from the todo backend"
