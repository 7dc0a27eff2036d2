"""What goes over the wire: its types, and what is refused."""
