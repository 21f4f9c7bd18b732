"""What takes seconds to compute is kept on disk, and computed once for the same study."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cytosae.common.artifact import package_version
from cytosae.common.cache import cache_folder
from cytosae.common.configuration import finite, from_plain
from cytosae.common.disk import write_durably
from cytosae.common.errors import UsageError

T = TypeVar("T")
HELD = 256
"""Views that are held in memory, too."""


class Remembered:
    """Views as JSON files below the cache, by kind, fingerprint of what they are made from, and name.

    Two pages that need the same wait for one computation; another version of the program computes anew.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[Path, Any] = OrderedDict()
        self._making: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def get(self, kind: type[T], fingerprint: str, name: str, make: Callable[[], T]) -> T:
        """The view of this name, made where it is not kept yet."""
        file = _place(kind, fingerprint, name)

        def keep() -> T:
            made = make()
            file.parent.mkdir(parents=True, exist_ok=True)
            write_durably(file, json.dumps(finite(made)).encode())
            return made

        return self._once(file, lambda: self.peek(kind, fingerprint, name), keep)

    def hold(self, kind: type[T], fingerprint: str, name: str, make: Callable[[], T]) -> T:
        """As `get`, but in memory alone: for what shows a patient."""
        place = Path(kind.__name__) / fingerprint / name
        return self._once(place, lambda: self._in_memory(place), make)

    def peek(self, kind: type[T], fingerprint: str, name: str) -> T | None:
        """The view of this name if it is kept, and whole."""
        file = _place(kind, fingerprint, name)
        held = self._in_memory(file)
        if held is not None:
            return held
        try:
            found = from_plain(kind, json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, UsageError):
            return None
        self._hold(file, found)
        return found

    def _once(self, place: Path, look: Callable[[], T | None], make: Callable[[], T]) -> T:
        """What is found, or else made and held, by one thread while others wait."""
        with self._lock:
            making = self._making[place]
        with making:
            known = look()
            if known is None:
                known = make()
                self._hold(place, known)
            return known

    def _in_memory(self, place: Path) -> Any:
        with self._lock:
            if place in self._held:
                self._held.move_to_end(place)
            return self._held.get(place)

    def _hold(self, file: Path, view: Any) -> None:
        with self._lock:
            self._held[file] = view
            while len(self._held) > HELD:
                self._held.popitem(last=False)


def _place(kind: type, fingerprint: str, name: str) -> Path:
    return cache_folder() / "views" / package_version() / kind.__name__ / fingerprint[:24] / f"{name}.json"
