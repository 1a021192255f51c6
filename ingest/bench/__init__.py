"""The collector beside a naive peer."""
