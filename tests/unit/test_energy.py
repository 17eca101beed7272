from pathlib import Path

import pytest

from mmrepro.runtime.energy import EnergyMeter


def write_zone(folder: Path, zone: str, name: str, microjoules: int, span: int = 1_000_000_000) -> Path:
    path = folder / zone
    path.mkdir(parents=True, exist_ok=True)
    for file, value in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", span)):
        (path / file).write_text(f"{value}\n")
    return path / "energy_uj"


def test_energy_of_all_packages_is_added_and_of_nothing_else(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:0:0": "core", "intel-rapl:2": "psys"}
    counters = [write_zone(tmp_path, zone, name, 5_000_000) for zone, name in zones.items()]
    write_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0)
    with EnergyMeter(tmp_path) as meter:
        for counter, value in zip(counters, (7_000_000, 5_500_000, 9_000_000, 9_000_000), strict=True):
            counter.write_text(str(value))
    assert meter.joules == pytest.approx(2.5)


def test_a_counter_that_passes_its_end_goes_on_from_zero_each_time(tmp_path: Path) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 900_000_000)
    with EnergyMeter(tmp_path) as meter:
        for value in (100_000_000, 950_000_000, 50_000_000):  # 200, 850 and 100 joules
            counter.write_text(str(value))
            meter.read()
    assert meter.joules == pytest.approx(1150)


def test_counters_are_read_in_between_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 900_000_000)
    meter, answers = EnergyMeter(tmp_path), iter([False, False, True])
    monkeypatch.setattr(meter._stopped, "wait", lambda seconds: counter.write_text("100000000") and next(answers))
    meter.read()
    meter._watch()
    assert meter.joules == pytest.approx(200) and next(answers, "none left") == "none left"
    with EnergyMeter(tmp_path) as meter:
        assert meter._thread.is_alive()
    assert not meter._thread.is_alive()


def test_energy_is_unknown_where_nothing_can_be_read(tmp_path: Path) -> None:
    with EnergyMeter(tmp_path / "absent") as meter:
        pass
    assert meter.joules is None
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    with EnergyMeter(tmp_path) as meter:
        counter.unlink()
    assert meter.joules is None
    write_zone(tmp_path, "intel-rapl:0", "package-0", 1).write_text("secret")
    with EnergyMeter(tmp_path) as meter:
        pass
    assert meter.joules is None
