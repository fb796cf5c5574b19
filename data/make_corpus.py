"""Writes `tiny.txt` beside this file: generated English-like talk for tests and examples.

Every sentence comes from the templates below; nothing is copied from elsewhere. Only `random.Random(seed).random()` is used,
the one method whose sequence Python promises to keep. Invariant: the same script writes the same bytes on every Python.

Usage: python data/make_corpus.py
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

SEED = 20_260_101
NUM_SCENES = 140

WORDS: Mapping[str, Sequence[str]] = {
    "name": ("ADA", "BRUNO", "CLARA", "DMITRI", "ELIF", "FARAH", "GUSTAV", "HANA"),
    "place": (
        "harbour",
        "orchard",
        "library",
        "north road",
        "mill",
        "market",
        "old bridge",
        "lighthouse",
        "kitchen",
        "station",
    ),
    "thing": ("lantern", "letter", "boat", "clock", "map", "kettle", "ladder", "violin", "basket", "key", "bell", "coat"),
    "adjective": ("small", "broken", "quiet", "heavy", "bright", "borrowed", "green", "patient", "crooked", "honest", "cold"),
    "creature": ("heron", "cat", "goat", "miller", "ferryman", "baker", "stranger", "owl", "child", "gardener"),
    "weather": ("rain", "fog", "wind", "snow", "frost", "thunder", "sunlight"),
    "time": ("before dawn", "at noon", "every evening", "after the harvest", "in the spring", "on market days", "all winter"),
    "does": ("carries", "mends", "hides", "counts", "paints", "forgets", "sells", "watches", "finds", "polishes"),
    "did": ("carried", "mended", "hid", "counted", "painted", "forgot", "sold", "watched", "found", "polished"),
    "feels": (
        "I am afraid",
        "I am glad",
        "It seems to me",
        "My mother says",
        "Nobody believes",
        "Everyone knows",
        "I have heard",
    ),
    "number": ("two", "three", "four", "seven", "nine", "eleven", "forty"),
}

SENTENCES: Sequence[str] = (
    "The {creature} {does} the {adjective} {thing} {time}.",
    "{feels} that the {weather} will reach the {place} {time}.",
    "There were {number} {adjective} days of {weather}, and then the {creature} {did} my {thing}.",
    "Where is the {thing} that you {did} near the {place}?",
    "If the {weather} comes back, we shall meet at the {place} with a {thing} and a {adjective} {thing}.",
    "Do not ask the {creature}; ask the {creature} who {does} every {thing} {time}.",
    "{feels} that a {adjective} {creature} once {did} {number} of them.",
    "I walked from the {place} to the {place}, and the {weather} walked with me.",
    "What good is a {adjective} {thing} without a {thing}?",
    "No, the {adjective} one belongs to the {creature} at the {place}.",
    "Then take the {thing}, and leave the {adjective} {thing} by the {place}.",
    "Listen: the {weather} is over the {place} again!",
)

STAGE: Sequence[str] = (
    "A {adjective} room near the {place}. {weather} outside.",
    "The {place}, {time}. A {creature} {does} a {thing}.",
    "On the way to the {place}. The {weather} has stopped.",
)


def corpus() -> str:
    """The whole text: scenes of a stage direction and a few speeches, one blank line between paragraphs."""
    rng = random.Random(SEED)  # noqa: S311  (text, not secrets)
    return "\n\n".join(paragraph for _ in range(NUM_SCENES) for paragraph in _scene(rng)) + "\n"


def _scene(rng: random.Random) -> list[str]:
    first, second = _pick(rng, WORDS["name"]), _pick(rng, WORDS["name"])
    speeches = [_speech(rng, (first, second)[turn % 2]) for turn in range(3 + _below(rng, 5))]
    return [f"[{_filled(rng, _pick(rng, STAGE))}]", *speeches]


def _speech(rng: random.Random, name: str) -> str:
    sentences = [_filled(rng, _pick(rng, SENTENCES)) for _ in range(1 + _below(rng, 3))]
    return f"{name}:\n{' '.join(sentences)}"


def _filled(rng: random.Random, template: str) -> str:
    """`template` with a word for every {slot} and a capital after every full stop."""
    text = re.sub(r"\{(\w+)\}", lambda slot: _pick(rng, WORDS[slot[1]]), template)
    return re.sub(r"(^|[.] )([a-z])", lambda start: start[1] + start[2].upper(), text)


def _pick(rng: random.Random, choices: Sequence[str]) -> str:
    return choices[_below(rng, len(choices))]


def _below(rng: random.Random, limit: int) -> int:
    return int(rng.random() * limit)


if __name__ == "__main__":
    Path(__file__).with_name("tiny.txt").write_bytes(corpus().encode())
