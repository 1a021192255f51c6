"""What goes with age: batches of whole copies, snapshots' tags, models, their versions and runs, exports, checkpoints.

Age is told by cuts, from the newest curated batch back: a platform that stands still loses nothing. What is in force
stays, and what a rollback may go back to (`Registry.lasting`).
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from infra.errors import ConfigurationError, DependencyError
from processing.runtime.job import Job
from processing.runtime.registry import RANKER, RECOMMENDER
from processing.tables import maintenance, schemas, snapshots
from processing.training.outcomes import OUTCOMES
from storage import exports
from storage.batches import cuts
from storage.hdfs import Hdfs
from storage.upkeep import erasure

ORPHAN_DAYS = 3  # longer than any job runs


def apply(this: Job) -> dict[str, int]:
    """How many of each kind went."""
    root, rules = this.settings.hdfs.root, this.settings.processing
    copies = first_since(this, timedelta(days=rules.copy_days))
    gone = Counter[str](batches=0)
    for table in schemas.ALL:
        if table.partitioned_by == "batch" and this.spark.catalog.tableExists(table.full_name):
            gone.update(maintenance.drop_batches(this.spark, table, copies))
    orphaned = datetime.now(UTC) - timedelta(days=ORPHAN_DAYS)
    gone["checkpoints"] = erasure.forget_checkpoints(this.fs, root, orphaned)
    gone["unfinished_exports"] = exports.drop_unfinished(this.fs, root, orphaned)
    try:
        registries = {model: this.registry(model) for model in (RECOMMENDER, RANKER, *OUTCOMES)}
    except (ConfigurationError, DependencyError):  # nothing is trained here
        return dict(gone)
    lasting = {model: registry.lasting() for model, registry in registries.items()}
    learnt = {version.batch for versions in lasting.values() for version in versions}
    for table in schemas.ALL:
        if this.spark.catalog.tableExists(table.full_name):
            gone.update(snapshots.untag_trained(this.spark, table, copies, learnt))
    age = timedelta(days=rules.model_days)
    models = first_since(this, age)
    gone["exports"] = exports.drop_old(this.fs, root, models, {version.name for version in lasting[RECOMMENDER]})
    for model, registry in registries.items():
        gone["models"] += drop_models(this.fs, root, model, models, {version.batch for version in lasting[model]})
        gone.update(registry.forget(models, datetime.fromisoformat(this.cut.taken_at) - age))
    return dict(gone)


def first_since(this: Job, age: timedelta) -> int:
    """The number of the first batch that is not older than `age` at this one's cut."""
    return next(cuts.since(this.fs, this.layout, datetime.fromisoformat(this.cut.taken_at) - age)).number


def drop_models(fs: Hdfs, root: str, model: str, before: int, kept: set[int]) -> int:
    """Deletes the models of batches below `before`, but of those `kept`; how many."""
    folder = f"{root}/models/{model}"
    batches = {int(name.removeprefix("batch=")) for name in fs.names(folder) if name.startswith("batch=")}
    old = {batch for batch in batches if batch < before} - kept
    for batch in old:
        fs.delete(f"{folder}/batch={batch}", recursive=True)
    return len(old)
