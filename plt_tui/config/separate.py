"""The secret of a configuration, taken out of it: what is written, shown or handed to a rank does not hold it.

Writes nothing. Invariant: the configuration that comes back names no webhook, and says where one was given.
"""

from __future__ import annotations

from dataclasses import replace

from plt_tui.config.load import LoadedConfig

WEBHOOK = "alerts.webhook"


def separated(loaded: LoadedConfig) -> tuple[LoadedConfig, str]:
    """The configuration without the address of its webhook, and the address, which may be empty."""
    config, origin = loaded.config, loaded.origins[WEBHOOK]
    url = config.alerts.webhook
    if not url:
        return loaded, ""
    without = config.model_copy(update={"alerts": config.alerts.model_copy(update={"webhook": ""})})
    return replace(loaded, config=without, origins={**loaded.origins, WEBHOOK: f"{origin}; given, and not written here"}), url
