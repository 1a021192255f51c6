"""Rate limits, privacy rules and the tracking plan."""
