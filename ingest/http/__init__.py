"""The collector: a WSGI app, its views, and what they read of a request."""
