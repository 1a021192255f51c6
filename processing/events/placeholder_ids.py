"""Ids that name nobody: what trackers send where they know no visitor or user, such as "undefined" or zeros.

Everybody who has one would be the same person. Curation takes them for missing and flags the event.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

FLAG = "placeholder_id"
IDS = ("anonymous_id", "user_id")

# Lower case, without quotes, brackets and spaces around them.
_WORDS = (
    *("", "null", "nil", "none", "undefined", "unknown", "nan", "n/a", "not set", "not_set", "notset", "object object"),
    *("anonymous", "anonymous_user", "anon", "guest", "not_authenticated", "true", "false", "-1"),
    *(
        "id",
        "uid",
        "user_id",
        "userid",
        "anonymous_id",
        "visitor_id",
        "distinct_id",
        "distinctid",
        "client_id",
        "email",
    ),
)
_AROUND = r"""^[\s\p{Z}\p{C}"'`(\[<]+|[\s\p{Z}\p{C}"'`)\]>]+$"""
# Zeros, with or without dashes, as of a UUID or an advertising id that may not be read; the UUID of all ones; a
# template that nobody filled in.
_PATTERNS = r"^\{?(0[0.-]*|f{8}-f{4}-f{4}-f{4}-f{12})\}?$|^[$#%]?\{+.*\}+$|^\{%.*%\}$|^%%.*%%$"


def is_placeholder(value: Column) -> Column:
    """Whether an id names nobody; false for a missing one."""
    plain = F.lower(F.regexp_replace(value, _AROUND, ""))
    return F.coalesce(plain.isin(*_WORDS) | plain.rlike(_PATTERNS), F.lit(False))


def without(value: Column) -> Column:
    """An id, null if it is a placeholder."""
    return F.when(~is_placeholder(value), value)
