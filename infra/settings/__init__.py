"""All settings: `servers`, `collector` and `jobs` declare them with their defaults, `load` reads them."""

from infra.settings.load import CONFIG_DIR, PREFIX, Settings

__all__ = ["CONFIG_DIR", "PREFIX", "Settings"]
