"""Some values of a configuration as people type them, by "section.key": as `--set` texts and as a TOML file.

Pure; validates nothing, so that what is half done can be kept too. Invariant: both say the same: read back, they give the same
values, or the same mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping

import tomli_w

from plt_tui.config.fields import describe
from plt_tui.config.sources import converted, toml_value

Texts = Mapping[str, str]
"""What was typed for each of some keys; what is left out keeps its default."""


def set_texts(texts: Texts) -> list[str]:
    """The texts of `--set`, in the schema's order; characters that a terminal would not show are spelled out."""
    found = {key: texts[key] for key in describe() if key in texts}
    return [f"{key}={text if text.isprintable() else toml_text(key, text)}" for key, text in found.items()]


def toml_file(texts: Texts) -> str:
    """A TOML file that sets the given keys, in the schema's order, each below a comment with its meaning and type."""
    lines: list[str] = []
    for name, field in describe().items():
        if name in texts:
            if f"[{field.section}]" not in lines:
                lines += ["", f"[{field.section}]"]
            lines += [f"# {field.doc} ({field.type})", f"{field.key} = {toml_text(name, texts[name])}"]
    return "\n".join(lines[1:]) + "\n"


def toml_text(key: str, text: str) -> str:
    """`text` as TOML writes the value that it means for `key`: as it was typed where that is TOML already."""
    value, typed = converted(key, text), toml_value(text)
    if not isinstance(value, str) and type(value) is type(typed):
        return text.strip()
    written = tomli_w.dumps({"": value}).removeprefix('"" = ').removesuffix("\n")
    return "".join(char if char.isprintable() else _escaped(char) for char in written)


def _escaped(char: str) -> str:
    """A character of a TOML string by its number."""
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
