"""What `interruptible.testing` is made of: the server, the app that it calls, retries."""
