"""Resolves all jar locks anew: run it after changing a *.toml here."""

from infra.jars import BUNDLES, lock

for bundle in BUNDLES:
    lock(bundle)
