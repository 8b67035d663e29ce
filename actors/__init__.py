"""What runs in the background: ``dramatiq actors`` starts a worker for everything in here.

A new actor: write it in a module of this package and import the module below. Actors that live
elsewhere are named in POSTLUDE_ACTORS.
"""

from importlib import import_module

import postlude  # noqa: F401 - first: it sets the broker that actors are declared on
from actors import (  # noqa: F401 - imported for the actors they declare
    activity,
    analytics,
    cache,
    files,
    mail,
    maintenance,
)
from actors.cache.store import check as check_cache
from actors.files.storage import check as check_storage
from actors.mail.transport import check as check_mail
from postlude.errors import SettingsError
from postlude.settings import settings


def _import_actors(module: str) -> None:
    """Import a module that POSTLUDE_ACTORS names; a fault inside it comes out as it is."""
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module and not module.startswith(f"{error.name}."):
            raise
        message = f"POSTLUDE_ACTORS: there is no module {module!r}; check its name and PYTHONPATH"
        raise SettingsError(message) from None


check_cache(settings())
check_mail(settings())
check_storage(settings())
for _module in settings().actors:
    _import_actors(_module)
