"""Tags and files in MLflow beside those that a version is published with: what the gate found, what an alias asks."""

from collections.abc import Mapping
from pathlib import Path

from components.reference import ComponentRef
from registry.errors import NoSuchVersionError
from registry.pages import MAX_DESCRIPTION_CHARACTERS, picture
from registry.registry import Registry
from registry.store import tag

# what a reader of MLflow's pages takes in; its databases would keep more
MAX_SENTENCES_CHARACTERS = 4000


def tag_version(registry: Registry, ref: ComponentRef, prefix: str, tags: Mapping[str, str], last: str) -> None:
    """Replace all tags of a version that begin with `prefix`; the one called `last` is gone until all others are there.

    Raises:
        RegistryError: the version is not there, or the registry cannot be asked.
    """
    number = str(ref.version)
    with registry.asking(NoSuchVersionError.absent(ref.name, ref.version)) as client:
        old = [key for key in client.get_model_version(ref.name, number).tags if key.startswith(prefix)]
        for key in sorted(old, key=lambda key: key != last):
            client.delete_model_version_tag(ref.name, number, key)
        for key, value in sorted(tags.items(), key=lambda item: item[0] == last):
            client.set_model_version_tag(ref.name, number, key, value[:MAX_SENTENCES_CHARACTERS])


def show_picture(registry: Registry, ref: ComponentRef, file: Path, folder: str, what: str) -> None:
    """Put a picture beside a version's component in MLflow, where no download looks, and show it in its page.

    Raises:
        RegistryError: the version is not there, or the registry cannot keep it.
    """
    number = str(ref.version)
    with registry.asking(NoSuchVersionError.absent(ref.name, ref.version)) as client:
        found = client.get_model_version(ref.name, number)
        client.log_artifact(found.run_id, str(file), folder)
        shown, text = picture(str(found.run_id), f"{folder}/{file.name}", what), str(found.description or "")
        longer = f"{text}\n\n{shown}".strip()
        if shown not in text and len(longer) <= MAX_DESCRIPTION_CHARACTERS:
            client.update_model_version(ref.name, number, longer)


def model_tag(registry: Registry, name: str, key: str) -> str | None:
    """A tag of a registered model, None where it has none of that key.

    Raises:
        RegistryError: nothing is published under that name, or the registry cannot be asked.
    """
    with registry.asking(NoSuchVersionError.absent(name)) as client:
        value = client.get_registered_model(name).tags.get(key)
    return None if value is None else str(value)


def set_model_tag(registry: Registry, name: str, key: str, value: str | None) -> None:
    """Write a tag of a registered model that is there, or take it away.

    Raises:
        RegistryError: nothing is published under that name, or the registry cannot be asked.
    """
    found = model_tag(registry, name, key)
    with registry.asking() as client:
        if value is not None:
            tag(client, name, key, value)
        elif found is not None:
            client.delete_registered_model_tag(name, key)
