"""Features of visitors, items and pairs as of a moment, by definitions that training and serving share."""
