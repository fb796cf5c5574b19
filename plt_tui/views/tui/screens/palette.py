"""The command palette: the key table by name, only what can be done now."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from plt_tui.views.tui.keys import Key
from plt_tui.views.tui.person import keys_in_force


class RunCommands(Provider):
    """Entries of the key table of the screen that is seen."""

    def _allowed(self) -> Iterator[Key]:
        table = getattr(self.screen, "keys", None)
        if table is not None:
            refused: Collection[str] = getattr(self.screen, "refused_keys", tuple)()
            yield from (key for key in keys_in_force(self.app, table) if key.id not in ("palette", *refused))

    async def discover(self) -> Hits:
        """Everything, before anything is typed."""
        for key in self._allowed():
            yield DiscoveryHit(
                f"{key.label}  ({key.shown})", partial(self.screen.run_action, f"perform('{key.id}')"), help=key.help
            )

    async def search(self, query: str) -> Hits:
        """Entries whose label or sentence matches."""
        matcher = self.matcher(query)
        for key in self._allowed():
            text = f"{key.label}: {key.help}"
            score = matcher.match(text)
            if score > 0:
                yield Hit(score, matcher.highlight(text), partial(self.screen.run_action, f"perform('{key.id}')"))
