"""The texts that a run's model has written, in the order in which they came, to be walked through by step.

Compares and draws nothing. Invariant: a sample keeps its number for ever, and of a run with more text than MAX_SAMPLE_CHARS the
newest stay.
"""

from __future__ import annotations

from plt_tui.protocol.events import Sample

MAX_SAMPLE_CHARS = 8_000_000


class SampleShelf:
    """Samples by number: sample i is `samples[i - first]`. Of one step there may be several, or none."""

    def __init__(self, max_chars: int = MAX_SAMPLE_CHARS) -> None:
        self.samples: list[Sample] = []
        """Oldest first."""
        self.first = 0
        """Number of the oldest one kept."""
        self._max_chars = max_chars
        self._num_chars = 0
        self._left: set[int] = set()
        """Numbers of those whose step a rewind, or a resume, took off the line that the run is on."""

    @property
    def stop(self) -> int:
        """Number of the next one to come."""
        return self.first + len(self.samples)

    def __getitem__(self, number: int) -> Sample:
        return self.samples[number - self.first]

    def add(self, sample: Sample) -> None:
        """Keep `sample`; the oldest make room, though never for one that is too large all by itself."""
        self.samples.append(sample)
        self._num_chars += len(sample.prompt) + len(sample.text)
        while self._num_chars > self._max_chars and len(self.samples) > 1:
            oldest = self.samples.pop(0)
            self._num_chars -= len(oldest.prompt) + len(oldest.text)
            self._left.discard(self.first)
            self.first += 1

    def leave(self, last_step: int) -> None:
        """What was written after `last_step` is on a branch from now on."""
        self._left.update(self.first + place for place, sample in enumerate(self.samples) if sample.step > last_step)

    def is_left(self, number: int) -> bool:
        """True for a sample of steps that a rewind or a resume has left."""
        return number in self._left

    def at(self, step: int) -> int | None:
        """Number of what the model wrote at `step`, or last before it, on the line of the run; None: nothing so early."""
        line = range(self.stop - 1, self.first - 1, -1)  # the steps of the line only grow
        return next((number for number in line if number not in self._left and self[number].step <= step), None)

    def before(self, number: int) -> int | None:
        """Number of the sample before `number` that continues the same prompt; None when there is none."""
        prompt = self[number].prompt
        return next((older for older in range(number - 1, self.first - 1, -1) if self[older].prompt == prompt), None)
