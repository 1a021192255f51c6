"""The commands of storage; `commands` lists them."""
