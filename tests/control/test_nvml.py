"""GPUs: which of them are visible, what each says, and why it does not say the rest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from plt_tui.control.nvml import (
    SLOWDOWNS,
    DriverNvml,
    Key,
    NvmlError,
    VisibleGpus,
    read_gpu,
    reason_of,
    select,
    slowdown_words,
)

UUIDS = ("GPU-aa11", "GPU-aa22", "GPU-bb33")
GIB = 2**30


class FakeNvml:
    """A driver with `uuids`; `errors` maps a method, or (method, device), to the reason it gives instead of an answer."""

    def __init__(self, uuids: tuple[str, ...] = UUIDS, errors: dict[Any, str] | None = None, *, sliced: bool = False) -> None:
        self._uuids = uuids
        self.errors = errors or {}
        self._sliced = sliced
        self.connections = 0

    def _fail(self, method: str, device: Key | None = None) -> None:
        reason = self.errors.get(method) or self.errors.get((method, device))
        if reason:
            raise NvmlError(reason)

    def open(self) -> None:
        self._fail("open")
        self.connections += 1

    def close(self) -> None:
        self.connections -= 1
        self._fail("close")

    def count(self) -> int:
        self._fail("count")
        return len(self._uuids)

    def uuid(self, device: Any) -> str:
        self._fail("uuid", device)
        return self._uuids[device]

    def device(self, key: Key) -> Any:
        self._fail("device", key)
        return key

    def name(self, device: Any) -> str:
        self._fail("name", device)
        return "H200"

    def is_sliced(self, device: Any) -> bool:
        return self._sliced

    def utilisation(self, device: Any) -> float:
        self._fail("utilisation", device)
        return 37.0

    def memory(self, device: Any) -> tuple[int, int]:
        self._fail("memory", device)
        return GIB, 4 * GIB

    def temperature_c(self, device: Any) -> float:
        self._fail("temperature_c", device)
        return 41.0

    def power_w(self, device: Any) -> float:
        self._fail("power_w", device)
        return 250.5

    def throttled(self, device: Any) -> int:
        self._fail("throttled", device)
        return 0x1 | 0x4


@pytest.mark.parametrize(
    ("visible", "keys"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("0", [0]),
        ("2, 0", [2, 0]),
        ("1,7,0", [1]),
        ("1,-1,0", [1]),
        ("1,1", []),
        ("0,GPU-aa11", []),
        ("GPU-bb", [2]),
        ("GPU-bb33,GPU-aa1", [2, 0]),
        ("GPU-aa", []),
        ("bb33", []),
        ("NoDevFiles", []),
        ("MIG-5c", ["MIG-5c"]),
        ("MIG-5c,MIG-6d", ["MIG-5c"]),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(visible: str | None, keys: list[Key]) -> None:
    """Indices and beginnings of UUIDs choose in order; a wrong entry hides what follows, a repeated one hides all."""
    assert select(visible, UUIDS) == keys


def test_a_healthy_gpu_says_everything_and_no_reason() -> None:
    """With every sensor answering, the entry holds all values in their units and `reason` is empty."""
    assert read_gpu(FakeNvml(), 0, 2) == {
        "index": 0,
        "name": "H200",
        "utilisation": 37.0,
        "memory_used_bytes": GIB,
        "memory_total_bytes": 4 * GIB,
        "temperature_c": 41.0,
        "power_w": 250.5,
        "throttled": "power cap",
        "reason": "",
    }


@pytest.mark.parametrize(
    ("method", "missing"),
    [
        ("utilisation", {"utilisation"}),
        ("memory", {"memory_used_bytes", "memory_total_bytes"}),
        ("temperature_c", {"temperature_c"}),
        ("power_w", {"power_w"}),
        ("throttled", {"throttled"}),
    ],
)
def test_a_sensor_that_fails_costs_its_own_value_only(method: str, missing: set[str]) -> None:
    """A value that cannot be read is None, never 0; the others stand, and the reason names what is missing."""
    gpu = read_gpu(FakeNvml(errors={method: "no permission"}), 0, 0)
    assert {name for name, value in gpu.items() if value is None} == missing
    assert gpu["reason"] == f"no permission ({method})"


def test_several_missing_values_are_grouped_by_reason() -> None:
    """Values missing for the same reason share it."""
    errors = {"temperature_c": "not supported", "power_w": "not supported", "memory": "no permission"}
    gpu = read_gpu(FakeNvml(errors=dict(errors)), 0, 0)
    assert gpu["reason"] == "no permission (memory); not supported (temperature_c, power_w)"


def test_a_gpu_in_mig_mode_has_no_utilisation() -> None:
    """NVML's utilisation of a sliced GPU is not asked for: people took its 0 % for idleness."""
    gpu = read_gpu(FakeNvml(sliced=True), 0, "MIG-5c")
    assert gpu["utilisation"] is None
    assert gpu["reason"] == "MIG: not measured by NVML (utilisation)"
    assert gpu["memory_used_bytes"] == GIB


def test_a_lost_gpu_keeps_its_place_between_the_others() -> None:
    """One GPU off the bus neither hides the others nor shifts their ordinals."""
    nvml = FakeNvml(errors={("device", 1): "the GPU is lost"})
    gpus = VisibleGpus(nvml, None).read()
    assert [gpu["index"] for gpu in gpus] == [0, 1, 2]
    assert [gpu["reason"] for gpu in gpus] == ["", "the GPU is lost (device)", ""]
    assert {gpus[1][name] for name in ("utilisation", "memory_used_bytes", "temperature_c", "power_w")} == {None}


def test_an_unprintable_product_name_is_made_visible() -> None:
    """The name reaches terminals: nothing in it can be an escape sequence."""
    nvml = FakeNvml()
    nvml.name = lambda device: "GPU\x1b[31m"  # type: ignore[method-assign]
    assert read_gpu(nvml, 0, 0)["name"] == "GPU\\x1b[31m"


@pytest.mark.parametrize(
    ("uuids", "visible", "errors", "reason"),
    [
        (UUIDS, None, {"open": "no NVIDIA driver"}, "no NVIDIA driver"),
        (UUIDS, None, {"count": "no permission"}, "no permission"),
        ((), None, {}, "no NVIDIA GPU"),
        ((), "0", {}, "no NVIDIA GPU"),
        (UUIDS, "", {}, "CUDA_VISIBLE_DEVICES='' hides every GPU"),
        (UUIDS, "\x1b[2J", {}, r"CUDA_VISIBLE_DEVICES='\x1b[2J' hides every GPU"),
    ],
)
def test_without_a_visible_gpu_the_reason_is_said_each_time(
    uuids: tuple[str, ...], visible: str | None, errors: dict[Any, str], reason: str
) -> None:
    """No entry, and the same sentence at every reading; the driver is left once, however often it was asked."""
    nvml = FakeNvml(uuids, errors)
    gpus = VisibleGpus(nvml, visible)
    for _ in range(2):
        with pytest.raises(NvmlError) as caught:
            gpus.read()
        assert str(caught.value) == reason
    gpus.close()
    assert nvml.connections == 0


def test_a_driver_that_appears_later_is_found() -> None:
    """A reading that failed is tried anew: the driver may still be loading when the run starts."""
    nvml = FakeNvml(errors={"open": "no NVIDIA driver"})
    gpus = VisibleGpus(nvml, "1")
    with pytest.raises(NvmlError):
        gpus.keys()
    nvml.errors.clear()
    assert gpus.keys() == [1]


def test_leaving_a_driver_that_complains_is_quiet() -> None:
    """An error at disconnecting interests nobody."""
    nvml = FakeNvml(errors={"close": "NVML: Uninitialized"})
    gpus = VisibleGpus(nvml, None)
    gpus.keys()
    gpus.close()
    assert nvml.connections == 0


@pytest.mark.parametrize(
    ("constant", "reason"),
    [
        ("NVML_ERROR_NOT_SUPPORTED", "not supported"),
        ("NVML_ERROR_FUNCTION_NOT_FOUND", "not supported"),
        ("NVML_ERROR_NO_PERMISSION", "no permission"),
        ("NVML_ERROR_DRIVER_NOT_LOADED", "no NVIDIA driver"),
        ("NVML_ERROR_LIBRARY_NOT_FOUND", "no NVIDIA driver"),
        ("NVML_ERROR_GPU_IS_LOST", "the GPU is lost"),
        ("NVML_ERROR_UNKNOWN", "NVML: Unknown Error"),
    ],
)
def test_codes_of_the_driver_become_words(constant: str, reason: str) -> None:
    """The common codes have a phrase for people; the others keep NVML's own text."""
    assert reason_of(getattr(pynvml, constant), "Unknown Error") == reason


class FakePynvml:
    """The functions of `pynvml` that DriverNvml calls, with the types that the real ones return."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        """Carries NVML's code, as the real one does."""

        def __init__(self, value: int) -> None:
            super().__init__(f"code {value}")
            self.value = value

    def __init__(self, mig_mode: list[int] | int) -> None:
        self._mig_mode = mig_mode

    def nvmlDeviceIsMigDeviceHandle(self, device: object) -> Any:
        return SimpleNamespace(value=0)

    def nvmlDeviceGetMigMode(self, device: object) -> list[int]:
        if isinstance(self._mig_mode, int):
            raise self.NVMLError(self._mig_mode)
        return self._mig_mode

    def nvmlDeviceGetUtilizationRates(self, device: object) -> Any:
        return SimpleNamespace(gpu=55, memory=10)

    def nvmlDeviceGetMemoryInfo(self, device: object) -> Any:
        return SimpleNamespace(used=GIB, free=3 * GIB, total=4 * GIB)

    def nvmlDeviceGetTemperature(self, device: object, sensor: int) -> int:
        return 60

    def nvmlDeviceGetPowerUsage(self, device: object) -> int:
        return 250_500

    def nvmlDeviceGetCurrentClocksEventReasons(self, device: object) -> int:
        return 0x60

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:
        return object()

    def nvmlDeviceGetName(self, device: object) -> str:
        return "H200"


def _driver_with(mig_mode: list[int] | int) -> DriverNvml:
    driver = DriverNvml()
    driver._nvml = FakePynvml(mig_mode)
    return driver


def test_the_driver_s_units_become_ours() -> None:
    """Milliwatts become watts; bytes, percent and degrees stay."""
    gpu = read_gpu(_driver_with(mig_mode=[0, 0]), 0, 0)
    assert (gpu["utilisation"], gpu["temperature_c"], gpu["power_w"]) == (55.0, 60.0, 250.5)
    assert (gpu["memory_used_bytes"], gpu["memory_total_bytes"]) == (GIB, 4 * GIB)
    assert gpu["throttled"] == "heat, overheated"
    assert gpu["reason"] == ""


class OldPynvml(FakePynvml):
    """Of a driver that knows the reasons by their older name only."""

    def nvmlDeviceGetCurrentClocksEventReasons(self, device: object) -> int:
        raise self.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: object) -> int:
        return 0x4


def test_an_older_driver_tells_why_it_is_slow_too() -> None:
    """Under the name that the question had before."""
    driver = _driver_with(mig_mode=[0, 0])
    driver._nvml = OldPynvml([0, 0])
    gpu = read_gpu(driver, 0, 0)
    assert (gpu["throttled"], gpu["reason"]) == ("power cap", "")


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x0, ""),
        (0x1, ""),  # idle
        (0x2, ""),  # clocks set by hand
        (0x4, "power cap"),
        (0x8, "the hardware"),
        (0x48, "overheated"),
        (0x88, "power supply"),
        (0x24, "power cap, heat"),
        (0x10, "held back by other GPUs"),
        (1 << 40, ""),
    ],
)
def test_why_a_gpu_is_slow_is_told_in_words(bits: int, words: str) -> None:
    """Each reason once, the general one only where no other says more; what is no slowdown is not one."""
    assert slowdown_words(bits) == words
    assert {bit for bit in SLOWDOWNS if slowdown_words(bit) == ""} == set()


@pytest.mark.parametrize(("mig_mode", "sliced"), [([1, 1], True), ([0, 1], False), (3, False), (13, False)])
def test_mig_counts_when_it_is_on_now(mig_mode: list[int] | int, sliced: bool) -> None:
    """The current mode counts, not the pending one, and a GPU or driver that knows no MIG has it off."""
    assert _driver_with(mig_mode).is_sliced(object()) is sliced


def test_an_error_in_the_mig_question_is_no_answer() -> None:
    """Without permission to ask for the mode, the utilisation is not trusted."""
    gpu = read_gpu(_driver_with(mig_mode=4), 0, 0)
    assert gpu["utilisation"] is None
    assert gpu["reason"] == "no permission (utilisation)"


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library that cannot be loaded becomes a reason in our words."""

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    with pytest.raises(NvmlError, match=r"^no NVIDIA driver$"):
        DriverNvml().open()
