"""cytosae: the tokens of a blood-cell vision transformer as concepts that a hematologist can see and check."""

import lazy_loader

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name != "__version__":
        return _public(name)
    from cytosae.common.artifact import package_version  # asks the installation, which takes a moment

    return package_version()
