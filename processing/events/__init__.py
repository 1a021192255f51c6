"""From landed records to curated events, sessions and identities; and people taken out of them."""
