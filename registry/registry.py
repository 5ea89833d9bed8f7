"""The registry: components with versions and aliases, kept by MLflow."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.contract import Kind
from components.folder import ComponentFolder
from components.reference import (
    DEFAULT_ALIAS,
    MAX_VERSION,
    ComponentRef,
    Selector,
    is_component,
    kind_of,
    registered_name,
)
from registry.beside import InProduction, mismatches
from registry.errors import NoSuchVersionError, RegistryError
from registry.fit import check_fit
from registry.local.cache import ComponentCache
from registry.local.lock import WAIT_S, locked
from registry.promotion import Point, point_for_start, point_for_user
from registry.settings import RegistrySettings
from registry.store import aliased, every, experiment_id, missing_means, open_client, tag, translated
from registry.transfer import download, published, upload
from registry.version import FIT_TAG, MAX_TAG_CHARACTERS, Version, read_version, readable, tags_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Survey(NamedTuple):
    """What changes about a bundle: its tags, and for each of its components the version that every alias points at."""

    tags: Mapping[str, str]
    aliases: Mapping[str, Mapping[str, int]]

    @property
    def production(self) -> dict[str, int]:
        """The version of each component that the alias `production` points at, where it has that."""
        return {name: at[DEFAULT_ALIAS] for name, at in self.aliases.items() if DEFAULT_ALIAS in at}


class Registry:
    """Publishes, names and hands out components; safe to use from several threads and processes.

    Every method that asks MLflow raises RegistryError when it does not answer within the settings' time.
    """

    def __init__(self, client: "MlflowClient", settings: RegistrySettings) -> None:
        self._client = client
        self._settings = settings
        self._cache = ComponentCache(settings.cache)

    @classmethod
    def connect(cls, settings: RegistrySettings) -> "Registry":
        """Open the registry that the settings name, and create the embedded one where there is none.

        Raises:
            RegistryError: it cannot be reached or opened.
        """
        return cls(open_client(settings), settings)

    @property
    def settings(self) -> RegistrySettings:
        """Where it is, and where its copies are on this machine."""
        return self._settings

    def publish(self, path: Path, name: str, tags: Mapping[str, str] | None = None) -> ComponentRef:
        """Put a component folder under a registered name, as a new version or the one that it is already.

        A tag of a new one says what of production it does not fit.

        Raises:
            ComponentError: the folder is damaged, or the name is no component's.
            RegistryError: the name's kind is not the contract's.
        """
        folder = ComponentFolder.open(path)
        kind = folder.manifest.contract.kind
        if kind_of(name) != kind:
            raise RegistryError(f"{name}: names a {kind_of(name)}, and {path.absolute().name} is a {kind}")
        folder.verify()
        version_tags = tags_of(folder, {} if tags is None else tags)
        # Not `writing`: an upload may take long, and whoever moves an alias must not wait for it.
        with locked(self._settings.locks / "upload.lock"), translated(self._settings):
            found = published(self._client, name, version_tags["sha256"])
            if found is not None:
                return found
            unfit = "; ".join(mismatches(name, folder.manifest.contract, self.in_production(name.split(".")[0])))
            if unfit:
                version_tags[FIT_TAG] = unfit[:MAX_TAG_CHARACTERS]
            return upload(self._client, self._settings, path, name, version_tags)

    def promote(self, name: str, version: int, alias: str = DEFAULT_ALIAS) -> ComponentRef:
        """Point an alias at a version.

        `production` moves only to a version that fits every other component of its bundle that is in production;
        another alias, which nothing serves by itself, moves freely. No start of the bundle moves it any more.

        Raises:
            ComponentError: the name or the alias is not of its form.
            RegistryError: there is no such version, or it does not fit; every mismatch is said.
        """
        Selector.parse(f"{name}@{alias}")
        candidate = self.version(name, version).ref
        self._point_together([candidate], alias, point_for_user)
        return candidate

    def promote_together(self, refs: Sequence[ComponentRef], alias: str = DEFAULT_ALIAS) -> None:
        """Point an alias at a version of each of several components of one bundle.

        `production` moves only if all of them fit each other and what stays there.

        Raises:
            ComponentError: a name or the alias is not of its form.
            RegistryError: there is no such version, or one does not fit; nothing has moved then.
        """
        self._point_together(refs, alias, point_for_user)

    def promote_at_start(self, refs: Sequence[ComponentRef], alias: str = DEFAULT_ALIAS) -> None:
        """Do as `promote_together`, and mark that no user chose these."""
        self._point_together(refs, alias, point_for_start)

    def claim(self, refs: Sequence[ComponentRef]) -> None:
        """Note that a user chose those versions that `production` points at already: no start moves it any more."""
        with self.writing(), translated(self._settings):
            for ref in refs:
                found = aliased(self._client, ref.name, DEFAULT_ALIAS)
                if found is not None and int(found.version) == ref.version:
                    point_for_user(self._client, ref, DEFAULT_ALIAS)

    def _point_together(self, refs: Sequence[ComponentRef], alias: str, point: Point) -> None:
        for ref in refs:
            Selector.parse(f"{ref.name}@{alias}")
        with self.writing():
            self._check_fit([self.version(ref.name, ref.version) for ref in refs], alias)
            with translated(self._settings):
                for ref in refs:
                    point(self._client, ref, alias)

    def resolve(self, selector: Selector) -> ComponentRef:
        """The exact version that a selector means now.

        Raises:
            ComponentError: the name is no component's.
            NoSuchVersionError: there is no such name, alias or version, or it was not published by us.
        """
        if selector.version is not None:
            return self.version(selector.name, selector.version).ref
        kind_of(selector.name)
        with translated(self._settings):
            found = aliased(self._client, selector.name, str(selector.alias))
        if found is None:
            raise NoSuchVersionError.without_alias(selector.name, str(selector.alias), self.aliases(selector.name))
        return read_version(found).ref

    def fetch(self, ref: ComponentRef) -> Path:
        """A whole and checked copy of a component on this machine, downloaded when the cache has none.

        Raises:
            RegistryError: the registry does not hold it, or what it holds is not what the pin says.
        """

        def fill(folder: Path) -> None:
            missing = RegistryError(f"{ref} or one of its files is not in the registry")
            with translated(self._settings), missing_means(missing):
                download(self._client, ref, folder)

        found = self._cache.get(ref)
        return self._cache.add(ref, fill) if found is None else found

    def names(self) -> tuple[str, ...]:
        """The registered names of all components, sorted; MLflow may hold other models beside them."""
        return tuple(sorted(self._models()))

    def aliases(self, name: str) -> dict[str, int]:
        """The aliases of a name and the version that each points at.

        Raises:
            ComponentError: the name is no component's.
            NoSuchVersionError: nothing is published under that name.
        """
        kind_of(name)
        with translated(self._settings), missing_means(NoSuchVersionError.absent(name)):
            return {alias: int(at) for alias, at in self._client.get_registered_model(name).aliases.items()}

    def versions(self, name: str) -> tuple[Version, ...]:
        """All versions of a name, oldest first; one that we did not publish is left out, and logged.

        Raises:
            ComponentError: the name is no component's.
            NoSuchVersionError: nothing is published under that name.
        """
        aliases = self.aliases(name)
        with translated(self._settings):
            found = list(every(self._client.search_model_versions, f"name = '{name}'"))
        pointing: dict[int, list[str]] = {}  # a search does not say who points at what it finds
        for alias, at in sorted(aliases.items()):
            pointing.setdefault(at, []).append(alias)
        versions = (
            version.model_copy(update={"aliases": tuple(pointing.get(version.ref.version, ()))})
            for version in readable(found)
        )
        return tuple(sorted(versions, key=lambda version: version.ref.version))

    def version(self, name: str, version: int) -> Version:
        """One version.

        Raises:
            ComponentError: the name is no component's.
            NoSuchVersionError: there is none of that number, or it was not published by us.
        """
        kind_of(name)
        absent = NoSuchVersionError.absent(name, version)
        if not 1 <= version <= MAX_VERSION:
            raise absent
        with translated(self._settings), missing_means(absent):
            return read_version(self._client.get_model_version(name, str(version)))

    def survey(self, bundle: str) -> Survey:
        """All that may change about a bundle, in one question.

        Raises:
            ComponentError: no bundle can be called so.
        """
        # it becomes part of a condition
        registered_name(bundle, Kind.DENOISER)
        with translated(self._settings):
            # `_` stands for any character in the database's LIKE; what it finds too many goes below
            models = list(every(self._client.search_registered_models, f"name LIKE '{bundle}%'"))
        tags: Mapping[str, str] = next((model.tags for model in models if model.name == bundle), {})
        aliases = {
            model.name: {alias: int(version) for alias, version in model.aliases.items()}
            for model in models
            if model.name.split(".")[0] == bundle and is_component(model.name)
        }
        return Survey({str(key): str(value) for key, value in tags.items()}, aliases)

    def pointed_at(self, production: Mapping[str, int], without: Collection[str] = ()) -> InProduction:
        """What a survey's `production` points at, but for the names in `without`."""
        versions, unknown = [], []
        for name, version in sorted(production.items()):
            if name in without:
                continue
            try:
                versions.append(self.version(name, version))
            except NoSuchVersionError as error:
                unknown.append(str(error))
        return InProduction(tuple(versions), tuple(unknown))

    def in_production(self, bundle: str, without: Collection[str] = ()) -> InProduction:
        """What is in production of a bundle, but for the names in `without`.

        Raises:
            ComponentError: no bundle can be called so.
        """
        return self.pointed_at(self.survey(bundle).production, without)

    def set_bundle_tag(self, bundle: str, key: str, value: str) -> None:
        """Write a tag of a bundle, which is a registered model without versions, made when it is not there yet."""
        with translated(self._settings):
            tag(self._client, bundle, key, value)

    def experiment(self, name: str) -> str:
        """The id of an experiment of MLflow, made when it is not there yet."""
        with translated(self._settings):
            return experiment_id(self._client, self._settings, name)

    def writing(self, wait_s: float = WAIT_S) -> AbstractContextManager[None]:
        """A block in which no other process of this machine writes a plan or moves an alias."""
        return locked(self._settings.locks / "publish.lock", wait_s)

    @contextmanager
    def asking(self, missing: RegistryError | None = None) -> Iterator["MlflowClient"]:
        """MLflow's client for a block, whose errors become ours; `missing` is raised for what is not there."""
        with translated(self._settings), nullcontext() if missing is None else missing_means(missing):
            yield self._client

    def _models(self) -> dict[str, dict[str, int]]:
        """The aliases of every component, by registered name."""
        with translated(self._settings):
            models = list(every(self._client.search_registered_models))
        return {
            model.name: {alias: int(version) for alias, version in model.aliases.items()}
            for model in models
            if is_component(model.name)
        }

    def _check_fit(self, candidates: Sequence[Version], alias: str) -> None:
        if alias != DEFAULT_ALIAS:
            return
        names = {candidate.ref.name for candidate in candidates}
        bundles = sorted({name.split(".")[0] for name in names})
        others = [other for bundle in bundles for other in self.in_production(bundle, names).require_all()]
        for candidate in candidates:
            check_fit(candidate, [*candidates, *others])
