"""What is shown of turns while they run: streams and watches."""
