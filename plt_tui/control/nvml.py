"""NVIDIA GPUs as NVML, the driver's own library, sees them: which are visible, and what each one's sensors say.

Does not decide where ranks run and does not speak to CUDA. `pynvml` is imported when it is first needed. Invariant: a value
that NVML does not give is None with a reason, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from plt_tui.protocol.text import safe_line

Key = int | str
"""How NVML finds a device: the index of a GPU, or the UUID of a slice of one (MIG)."""

MIG_REASON = "MIG: not measured by NVML"
NO_DRIVER = "no NVIDIA driver"

_REASONS = {
    3: "not supported",  # NVML_ERROR_NOT_SUPPORTED
    4: "no permission",  # NVML_ERROR_NO_PERMISSION
    9: NO_DRIVER,  # NVML_ERROR_DRIVER_NOT_LOADED
    12: NO_DRIVER,  # NVML_ERROR_LIBRARY_NOT_FOUND
    13: "not supported",  # NVML_ERROR_FUNCTION_NOT_FOUND: the driver is older than the question
    15: "the GPU is lost",  # NVML_ERROR_GPU_IS_LOST
}

SLOWDOWNS = {
    0x04: "power cap",  # SwPowerCap
    0x10: "held back by other GPUs",  # SyncBoost
    0x20: "heat",  # SwThermalSlowdown
    0x40: "overheated",  # HwThermalSlowdown
    0x80: "power supply",  # HwPowerBrakeSlowdown
    0x08: "the hardware",  # HwSlowdown: of no kind of its own
}
"""Why a GPU is slower than it could be, by NVML's nvmlClocksEventReasons. Not in it: idleness, and clocks set by hand."""
_HARDWARE, _KINDS_OF_HARDWARE = 0x08, 0x40 | 0x80

_ValueT = TypeVar("_ValueT")


class NvmlError(Exception):
    """NVML would not answer; the message says why in a few words for people."""


class Nvml(Protocol):
    """The questions asked of NVML. Every method can raise NvmlError and can be slow; a `device` is what `device` returned."""

    def open(self) -> None:
        """Load the library and connect to the driver."""

    def close(self) -> None:
        """Disconnect."""

    def count(self) -> int:
        """Number of GPUs."""

    def uuid(self, device: Any) -> str:
        """Name of this very GPU, "GPU-" and hexadecimal digits."""

    def device(self, key: Key) -> Any:
        """The GPU at an index, or the slice with a UUID."""

    def name(self, device: Any) -> str:
        """Product name."""

    def is_sliced(self, device: Any) -> bool:
        """True for a GPU in MIG mode and for a slice of one."""

    def utilisation(self, device: Any) -> float:
        """Share of the last sample period in which a kernel ran, 0 to 100."""

    def memory(self, device: Any) -> tuple[int, int]:
        """Bytes used and bytes in all."""

    def temperature_c(self, device: Any) -> float:
        """Core temperature."""

    def power_w(self, device: Any) -> float:
        """Power drawn by the board."""

    def throttled(self, device: Any) -> int:
        """What keeps the clocks lower than they could be, a sum of the keys of SLOWDOWNS and others."""


class DriverNvml:
    """`Nvml` answered by the driver of this machine."""

    def open(self) -> None:
        """Load `pynvml` and the driver's library. Raises: NvmlError."""
        import pynvml

        self._nvml = pynvml
        self._ask("nvmlInit")

    def close(self) -> None:
        """Disconnect. Raises: NvmlError."""
        self._ask("nvmlShutdown")

    def count(self) -> int:
        """Number of GPUs. Raises: NvmlError."""
        return int(self._ask("nvmlDeviceGetCount"))

    def uuid(self, device: Any) -> str:
        """UUID of a GPU. Raises: NvmlError."""
        return str(self._ask("nvmlDeviceGetUUID", device))

    def device(self, key: Key) -> Any:
        """Handle of a GPU or slice. Raises: NvmlError."""
        return self._ask("nvmlDeviceGetHandleByIndex" if isinstance(key, int) else "nvmlDeviceGetHandleByUUID", key)

    def name(self, device: Any) -> str:
        """Product name. Raises: NvmlError."""
        return str(self._ask("nvmlDeviceGetName", device))

    def is_sliced(self, device: Any) -> bool:
        """Whether MIG is on. Raises: NvmlError."""
        try:
            # The answer is a ctypes integer here, unlike everywhere else in pynvml.
            if self._ask("nvmlDeviceIsMigDeviceHandle", device).value:
                return True
            current, _pending = self._ask("nvmlDeviceGetMigMode", device)
        except NvmlError as error:
            if str(error) == _REASONS[3]:
                return False  # a GPU without MIG
            raise
        return bool(current)

    def utilisation(self, device: Any) -> float:
        """Percent. Raises: NvmlError."""
        return float(self._ask("nvmlDeviceGetUtilizationRates", device).gpu)

    def memory(self, device: Any) -> tuple[int, int]:
        """Bytes used and in all. Raises: NvmlError."""
        memory = self._ask("nvmlDeviceGetMemoryInfo", device)
        return int(memory.used), int(memory.total)

    def temperature_c(self, device: Any) -> float:
        """Degrees Celsius. Raises: NvmlError."""
        return float(self._ask("nvmlDeviceGetTemperature", device, self._nvml.NVML_TEMPERATURE_GPU))

    def power_w(self, device: Any) -> float:
        """Watts. Raises: NvmlError."""
        return float(self._ask("nvmlDeviceGetPowerUsage", device)) / 1000

    def throttled(self, device: Any) -> int:
        """Bits. Raises: NvmlError."""
        try:
            return int(self._ask("nvmlDeviceGetCurrentClocksEventReasons", device))
        except NvmlError:  # a driver before 535 knows it by its older name only
            return int(self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", device))

    def _ask(self, question: str, *args: Any) -> Any:
        try:
            return getattr(self._nvml, question)(*args)
        except self._nvml.NVMLError as error:
            raise NvmlError(reason_of(error.value, str(error))) from None


def reason_of(code: int, message: str) -> str:
    """An NVML return code in words for people; `message` is NVML's own text, used for the codes that need no better one."""
    return _REASONS.get(code) or f"NVML: {safe_line(message)}"


class VisibleGpus:
    """The GPUs that CUDA would show to this process; `visible` is the value of CUDA_VISIBLE_DEVICES, None when unset.

    Opens NVML at the first question, so that making one costs nothing. One thread at a time.
    """

    def __init__(self, nvml: Nvml, visible: str | None) -> None:
        self._nvml = nvml
        self._visible = visible
        self._is_open = False
        self._uuids: list[str] | None = None

    def keys(self) -> list[Key]:
        """Keys of the visible GPUs; the place of a key is the ordinal of torch's `cuda:N`.

        Raises: NvmlError when there is no driver, no GPU, or none is visible; the next call tries again.
        """
        if not self._is_open:
            self._nvml.open()
            self._is_open = True
        if self._uuids is None:
            self._uuids = [self._uuid(index) for index in range(self._nvml.count())]
        keys = select(self._visible, self._uuids)
        if not keys:
            hidden = f"CUDA_VISIBLE_DEVICES={safe_line(repr(self._visible))} hides every GPU"
            raise NvmlError(hidden if self._uuids else "no NVIDIA GPU")
        return keys

    def read(self) -> list[dict[str, Any]]:
        """One entry per visible GPU, as `protocol.events.Gauges.gpus` describes it. Raises: NvmlError, as `keys`."""
        return [read_gpu(self._nvml, ordinal, key) for ordinal, key in enumerate(self.keys())]

    def close(self) -> None:
        """Disconnect from the driver, if connected."""
        if self._is_open:
            self._is_open = False
            with suppress(NvmlError):  # nobody has a use for what a driver says on the way out
                self._nvml.close()

    def _uuid(self, index: int) -> str:
        try:
            return self._nvml.uuid(self._nvml.device(index))
        except NvmlError:
            return ""  # a GPU that does not answer keeps its index, and cannot be chosen by UUID


def select(visible: str | None, uuids: Sequence[str]) -> list[Key]:
    """The devices that CUDA_VISIBLE_DEVICES names, in its order. `uuids`: of all GPUs, by index.

    CUDA's own rules (CUDA C++ Programming Guide, "CUDA Environment Variables"): an entry is an index, or the beginning of one
    GPU's UUID; one that fits none hides itself and all after it; one that repeats hides all; of slices only the first counts.
    """
    if visible is None:
        return list(range(len(uuids)))
    keys: list[Key] = []
    for entry in visible.split(","):
        key = _key_of(entry.strip(), uuids)
        if key is None or (keys and isinstance(key, str)):
            break
        if key in keys:
            return []
        keys.append(key)
    return keys


def _key_of(entry: str, uuids: Sequence[str]) -> Key | None:
    if entry.startswith("MIG-"):
        return entry
    if entry.isdecimal():
        return int(entry) if int(entry) < len(uuids) else None
    fits = [index for index, uuid in enumerate(uuids) if entry.startswith("GPU-") and uuid.startswith(entry)]
    return fits[0] if len(fits) == 1 else None


def read_gpu(nvml: Nvml, ordinal: int, key: Key) -> dict[str, Any]:
    """What the sensors of one GPU say; `reason` lists why values are missing, as "not supported (power_w); ..."."""
    missing: dict[str, list[str]] = {}

    def ask(field: str, question: Callable[[], _ValueT]) -> _ValueT | None:
        try:
            return question()
        except NvmlError as error:
            missing.setdefault(str(error), []).append(field)
            return None

    device = ask("device", lambda: nvml.device(key))
    values: dict[str, Any] = dict.fromkeys(("utilisation", "temperature_c", "power_w", "throttled"))
    name, memory = None, None
    if device is not None:
        name = ask("name", lambda: nvml.name(device))
        memory = ask("memory", lambda: nvml.memory(device))
        values["utilisation"] = ask("utilisation", lambda: _utilisation(nvml, device))
        values["temperature_c"] = ask("temperature_c", lambda: nvml.temperature_c(device))
        values["power_w"] = ask("power_w", lambda: nvml.power_w(device))
        values["throttled"] = ask("throttled", lambda: slowdown_words(nvml.throttled(device)))
    used_bytes, total_bytes = memory or (None, None)
    return {
        "index": ordinal,
        "name": safe_line(name or "GPU"),
        **values,
        "memory_used_bytes": used_bytes,
        "memory_total_bytes": total_bytes,
        "reason": "; ".join(f"{reason} ({', '.join(fields)})" for reason, fields in missing.items()),
    }


def slowdown_words(bits: int) -> str:
    """What `Nvml.throttled` says, for people; empty where nothing slows the GPU down."""
    if bits & _KINDS_OF_HARDWARE:
        bits &= ~_HARDWARE
    return ", ".join(words for bit, words in SLOWDOWNS.items() if bits & bit)


def _utilisation(nvml: Nvml, device: Any) -> float:
    if nvml.is_sliced(device):
        raise NvmlError(MIG_REASON)
    return nvml.utilisation(device)
