"""What hdfs_native says, as ours: what may pass is told from what will not, by the name of Java's exception."""

from __future__ import annotations

import pytest

from infra.settings import Settings
from storage.errors import StorageError, Unreachable
from storage.hdfs import Hdfs


@pytest.mark.parametrize(
    ("said", "may_pass"),
    [
        (
            RuntimeError('RPCError("org.apache.hadoop.hdfs.server.namenode.SafeModeException", "Safe mode")'),
            True,
        ),
        (RuntimeError('RPCError("org.apache.hadoop.ipc.StandbyException", "Operation category READ")'), True),
        (RuntimeError('RPCError("org.apache.hadoop.ipc.RetriableException", "NameNode still not started")'), True),
        (OSError("Connection refused"), True),
        (RuntimeError('RPCError("org.apache.hadoop.security.AccessControlException", "Permission denied")'), False),
        (ValueError("invalid path"), False),
    ],
)
def test_a_namenode_that_works_only_later_counts_as_away(said: Exception, may_pass: bool) -> None:
    fs = Hdfs(Settings())
    with pytest.raises(StorageError, match="/a/b: ") as failure, fs._errors("/a/b"):
        raise said
    assert isinstance(failure.value, Unreachable) is failure.value.may_pass is may_pass
    assert str(said) in str(failure.value)
