"""Lists in their final order, and their export for the web app."""
