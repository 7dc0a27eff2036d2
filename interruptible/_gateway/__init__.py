"""What the gateway is made of; `interruptible.gateway` is what users import."""
