"""Models of clicks and conversions on anybody's examples or impressions."""
