"""How to start each server, and the one-machine cluster of all of them."""
