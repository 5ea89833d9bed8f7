"""What a body may not ask of A1111 here, where the types of its fields alone do not say so."""

from services.errors import FieldError
from services.ingress.a1111.schemas import DrawingBody, OptionsBody


def require_honoured(body: DrawingBody) -> None:
    """Refuse what asks for parts of A1111 that are not here.

    Raises:
        FieldError: it does; the field is named.
    """
    if body.script_name is not None:
        raise FieldError(f"script_name: Script {body.script_name[:64]!r} not found; there are none", "script_name")
    if body.alwayson_scripts:
        name = next(iter(body.alwayson_scripts))
        said = f"always on script {name[:64]!r} not found; there are none"
        raise FieldError(f"alwayson_scripts: {said}", "alwayson_scripts")
    if body.override_settings not in (None, OptionsBody()) and body.override_settings_restore_afterwards is False:
        raise FieldError(
            "override_settings_restore_afterwards=False: must be true or left out; POST options sets what stays",
            "override_settings_restore_afterwards",
        )
