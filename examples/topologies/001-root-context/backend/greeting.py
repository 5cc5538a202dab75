"""What the backend says of itself."""

GREETING = "Hello from the todo chatbot's backend"
