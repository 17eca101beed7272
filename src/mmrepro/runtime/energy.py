"""Energy that a machine's processors spend, where Linux tells it."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

POWERCAP = Path("/sys/class/powercap")
INTERVAL = 60.0  # seconds; a counter of 2^32 units of 61 microjoule passes its end once in minutes under full load


class EnergyMeter:
    """Adds up the energy counters (RAPL) of all processor packages while it is entered.

    What is counted is the whole package's energy: of jobs side by side, each counts the energy of all. Memory and
    graphics cards have counters of their own, which are not read.

    Parameters
    ----------
    folder
        Folder of the kernel's counters. Those of packages count (`intel-rapl:0`, on AMD processors too), not those of
        their parts (`intel-rapl:0:0`) nor of the platform. Many systems let only the administrator read them.

    Attributes
    ----------
    joules : float or None
        Energy since `__enter__`; None where no counter can be read, or one can no longer be.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self.packages = sorted(path for path in folder.glob("intel-rapl:*") if _is_package(path))
        self.joules: float | None = 0.0 if self.packages else None
        self._last: dict[Path, int] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> EnergyMeter:
        self.read()
        if self.joules is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self.read()

    def read(self) -> float | None:
        """Add what the counters have gone on since the last reading, and return the sum.

        A counter that became smaller has passed its end once and begun again.
        """
        try:
            for package in self.packages:
                now = _number(package / "energy_uj")
                passed = now - self._last.get(package, now)
                passed += _number(package / "max_energy_range_uj") if passed < 0 else 0
                self._last[package] = now
                if self.joules is not None:
                    self.joules += passed / 1e6
        except (OSError, ValueError):
            self.joules = None
        return self.joules

    def _watch(self) -> None:
        """Read often enough that no counter passes its end twice between two readings."""
        while not self._stopped.wait(INTERVAL):
            self.read()


def _is_package(path: Path) -> bool:
    try:
        return path.name.count(":") == 1 and (path / "name").read_text(encoding="utf-8").startswith("package")
    except OSError:
        return False


def _number(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"))
