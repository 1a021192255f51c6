"""Runs and versions of models in MLflow: the only module that imports it.

The store is a SQL database, <home>/mlflow/mlflow.db unless processing.mlflow_url names another or a server. Each
training is a run; each model that it made is a version of a registered model, `recommender` or another, which points to
the model's folder on HDFS and carries what a later batch needs of it. The alias `champion` is whose recipe is in force,
`challenger` the newest that was not promoted.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from infra.errors import ClickstreamError, DependencyError
from infra.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

RECOMMENDER, RANKER = "recommender", "ranker"
CHAMPION, CHALLENGER = "champion", "challenger"


class UnknownVersion(ClickstreamError):
    """There is no such version in the registry."""


class NotPromotable(ClickstreamError):
    """The gate refused the version or never decided on it, or there is no earlier version to go back to."""


class NotShown(ClickstreamError):
    """`name` is champion, but its lists could not be put in force. To go back again would be one too many."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(
            f"{name} is champion, but its lists are not shown: {error}; `clickstream models promote {name}` shows them"
        )


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model. `facts`: what training and the gate recorded; `replaced` is the champion before it."""

    number: int
    name: str
    batch: int
    source: str
    run_id: str
    aliases: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def decision(self) -> Mapping[str, Any]:
        """The promotion gate's decision; {} before the version was evaluated."""
        found: Mapping[str, Any] = self.facts.get("decision") or {}
        return found


class Registry:
    """The versions and runs of one registered model. Opens MLflow's store, and creates a missing one in some
    seconds."""

    def __init__(self, settings: Settings, model: str = RECOMMENDER) -> None:
        """Raises DependencyError where MLflow is missing."""
        self._client, self.model = _client(settings), model
        self._artifacts = (
            (settings.home / "mlflow" / "artifacts").as_uri() if not settings.processing.mlflow_url else None
        )

    def run(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of the run of these very tags, made where there is none: a rerun goes on in its predecessor's."""
        experiment = self._experiment()
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self._client.search_runs([experiment], wanted, max_results=1)
        return str(
            (found[0] if found else self._client.create_run(experiment, run_name=name, tags=dict(tags))).info.run_id
        )

    def log(
        self,
        run_id: str,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        documents: Mapping[str, Any] | None = None,
        figures: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Adds to a run; `documents` become JSON files and `figures` pictures, by their file names."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        numbers = [Metric(name, value, now, 0) for name, value in (metrics or {}).items() if value is not None]
        texts = [Param(name, str(value)) for name, value in (parameters or {}).items()]
        self._client.log_batch(run_id, numbers, texts, [RunTag(name, value) for name, value in (tags or {}).items()])
        for name, document in (documents or {}).items():
            self._client.log_dict(run_id, document, name)
        for name, figure in (figures or {}).items():
            self._client.log_figure(run_id, figure, name)

    def read_run(self, run_id: str) -> dict[str, Any]:
        """Its `metrics`, `parameters` and `tags`, and when it was `started`, in milliseconds since 1970."""
        run = self._client.get_run(run_id)
        return {
            "metrics": dict(run.data.metrics),
            "parameters": dict(run.data.params),
            "tags": dict(run.data.tags),
            "started": run.info.start_time,
        }

    def finish(self, run_id: str) -> None:
        self._client.set_terminated(run_id)

    def register(self, run_id: str, name: str, batch: int, source: str, facts: Mapping[str, Any]) -> Version:
        """The version of this run; a rerun finds the one that is there."""
        with suppress(UnknownVersion):
            return self.of_run(run_id)
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(self.model)
        except MlflowException:
            self._client.create_registered_model(self.model)
        tags = {"name": name, "batch": str(batch), "facts": json.dumps(facts)}
        made = self._client.create_model_version(self.model, source, run_id, tags=tags)
        return self.get(str(made.version))

    def versions(self) -> list[Version]:
        """All, the newest first."""
        found = _all_pages(partial(self._client.search_model_versions, f"name = '{self.model}'"))
        if not found:
            return []
        model = self._client.get_registered_model(self.model)
        aliases: dict[int, list[str]] = {}
        for alias, number in model.aliases.items():
            aliases.setdefault(int(number), []).append(alias)
        versions = [_version(one, aliases.get(int(one.version), [])) for one in found]
        return sorted(versions, key=lambda version: -version.number)

    def get(self, which: str) -> Version:
        """The version of this number, name or alias. Raises UnknownVersion."""
        for version in self.versions():
            if which in (str(version.number), version.name, *version.aliases):
                return version
        raise UnknownVersion(f"the registry has no {self.model} {which!r}: `clickstream models list` shows them")

    def of_run(self, run_id: str) -> Version:
        """Raises UnknownVersion for a run that registered no model."""
        for version in self.versions():
            if version.run_id == run_id:
                return version
        raise UnknownVersion(f"run {run_id} registered no model")

    def champion(self) -> Version | None:
        """The version whose recipe is in force; None before the first."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_model_version_by_alias(self.model, CHAMPION)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None
        return _version(found, list(found.aliases))

    def forget(self, before: int, started_before: datetime) -> dict[str, int]:
        """Deletes versions of batches below `before`, but for the `lasting`, and runs without a version that were
        started before that moment, with their artifacts; how many `versions` and `runs`.

        A server of MLflow's own keeps what it calls deleted until `mlflow gc`.
        """
        versions, lasting = self.versions(), {version.number for version in self.lasting()}
        old = [version for version in versions if version.batch < before and version.number not in lasting]
        for version in old:
            self._client.delete_model_version(self.model, str(version.number))
        used = {version.run_id for version in versions} - {version.run_id for version in old}
        until = f"attributes.start_time < {int(started_before.timestamp() * 1000)}"
        experiment = self._client.get_experiment_by_name(self.model)
        ours = [experiment.experiment_id] if experiment else []
        runs = _all_pages(partial(self._client.search_runs, ours, until)) if ours else []
        gone = [run for run in runs if run.info.run_id not in used]
        for run in gone:
            self._delete_run(run)
        return {"versions": len(old), "runs": len(gone)}

    def lasting(self) -> list[Version]:
        """What is needed whatever its age: who has an alias, the champion's predecessor, the last champion of each
        recipe before, and versions that people promoted or took back."""
        versions = self.versions()
        left = {version.number: version for version in versions}
        found = {version.number for version in versions if version.aliases}
        found |= {version.number for version in versions if version.facts.keys() & {"rolled_back", "by_hand"}}
        after, one = None, next((version for version in versions if CHAMPION in version.aliases), None)
        while one is not None:
            before = left.pop(one.facts.get("replaced") or 0, None)  # promotions by hand may make circles
            if before and (after is None or before.facts["recipe"] != one.facts["recipe"]):
                found.add(before.number)
            after, one = one, before
        return [version for version in versions if version.number in found]

    def taken_back(self, before: int) -> list[Mapping[str, Any]]:
        """Recipes of versions of batches before `before` that a rollback took out of force; a promotion by hand
        forgives."""
        versions = self.versions()
        forgiven = [one.facts["recipe"] for one in versions if one.facts.get("by_hand")]
        taken = [one.facts["recipe"] for one in versions if one.facts.get("rolled_back") and one.batch < before]
        return [recipe for recipe in taken if recipe not in forgiven]

    def asked(self, day: str, before: int) -> str | None:
        """The version of a batch before `before` that was compared with the champion on that day, if any."""
        found = (one for one in self.versions() if one.batch < before and one.decision.get("asked") == day)
        return next((one.name for one in found), None)

    def decided(self, version: Version, decision: Mapping[str, Any]) -> None:
        """Records the gate's decision on a version; a promoted one that is no older than the champion becomes
        champion."""
        self._update(version, decision=dict(decision))
        champion = self.champion()
        if not decision["promoted"]:
            self._client.set_registered_model_alias(self.model, CHALLENGER, str(version.number))
            return
        newer = champion is None or (champion.number != version.number and champion.batch <= version.batch)
        if newer and not version.facts.get("rolled_back"):  # a rerun of its batch does not undo that
            self._crown(version, champion)

    def promote(self, which: str, despite: str | None = None) -> Version:
        """Makes a version champion by hand; one that the gate refused, only with a reason. Raises NotPromotable."""
        version, champion = self.get(which), self.champion()
        if not version.decision.get("promoted") and despite is None:
            failed = [check["detail"] for check in version.decision.get("checks", []) if not check["passed"]]
            why = "; ".join(failed) or "it was never evaluated"
            raise NotPromotable(
                f"{version.name} did not pass the gate ({why}); --despite REASON promotes it all the same"
            )
        if champion is None or champion.number != version.number:
            self._update(version, rolled_back=False, by_hand=True, despite=despite)
            self._crown(version, champion)
        return self.get(str(version.number))

    def predecessor(self) -> Version:
        """The version that the champion replaced. Raises NotPromotable where there is none."""
        champion = self.champion()
        before = None if champion is None else champion.facts.get("replaced")
        if before is None:
            raise NotPromotable("no champion was replaced so far")
        return self.get(str(before))

    def rollback(self, to: str | None = None) -> Version:
        """Makes the champion's predecessor, or the earlier champion `to`, champion again; those after it are taken
        back. Raises NotPromotable where there is none, and for a version that the gate refused."""
        before = self.get(to) if to else self.predecessor()
        if not (before.decision.get("promoted") or before.facts.get("despite")):
            raise NotPromotable(f"{before.name} was no champion: `clickstream models promote` makes it one")
        versions = {version.number: version for version in self.versions()}
        undone = self.champion()
        while undone is not None and undone.number != before.number:
            self._update(undone, rolled_back=True, by_hand=False)
            # Taken out, since promotions by hand may make circles; no version has number 0.
            undone = versions.pop(undone.facts.get("replaced") or 0, None)
        self._update(before, rolled_back=False)
        self._client.set_registered_model_alias(self.model, CHAMPION, str(before.number))
        return self.get(str(before.number))

    def _crown(self, version: Version, champion: Version | None) -> None:
        self._update(self.get(str(version.number)), replaced=None if champion is None else champion.number)
        self._client.set_registered_model_alias(self.model, CHAMPION, str(version.number))
        if CHALLENGER in version.aliases:
            self._client.delete_registered_model_alias(self.model, CHALLENGER)

    def _update(self, version: Version, **facts: Any) -> None:
        merged = {**self.get(str(version.number)).facts, **facts}
        self._client.set_model_version_tag(self.model, str(version.number), "facts", json.dumps(merged))

    def _delete_run(self, run: Run) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(run.info.artifact_uri).delete_artifacts()  # type: ignore[no-untyped-call]
        self._client.delete_run(run.info.run_id)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.model)
        return str(found.experiment_id if found else self._client.create_experiment(self.model, self._artifacts))


def _all_pages(search: Callable[..., Any]) -> list[Any]:
    """Everything that an MLflow search finds: one answer has some thousands at most."""
    found = page = search()
    while page.token:
        page = search(page_token=page.token)
        found = [*found, *page]
    return list(found)


def _version(found: ModelVersion, aliases: list[str]) -> Version:
    return Version(
        number=int(found.version),
        name=found.tags["name"],
        batch=int(found.tags["batch"]),
        source=str(found.source),
        run_id=str(found.run_id),
        aliases=tuple(sorted(aliases)),
        facts=json.loads(found.tags["facts"]),
    )


def _client(settings: Settings) -> MlflowClient:
    # MLflow reads this at import: otherwise it would report its use.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise DependencyError("models are kept in MLflow: pip install 'clickstream[mlops]'") from error
    url = settings.processing.mlflow_url
    if not url:
        folder = settings.home / "mlflow"
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{folder}/mlflow.db"
    return MlflowClient(url, url)
