"""What all commands that follow a scheduler share: settings from options, logs, and what is told of each round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.cli.errors import BadInputError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from service.plugins.follower import Round
    from service.plugins.settings import PluginSettings


def plugin_settings(**given: Any) -> PluginSettings:  # noqa: ANN401  (options of any type; the settings check them)
    """The plugin's settings, with the options that were given. Raises BadInputError."""
    from pydantic import ValidationError

    from service.plugins.settings import PluginSettings

    try:
        return PluginSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "".join(f"QUARTERMASTER_PLUGIN_{str(part).upper()}: " for part in first["loc"])
        raise BadInputError(f"{name}{first['msg'].removeprefix('Value error, ')}") from None


def configure_logs() -> None:
    """Log as the service does."""
    from service import logs
    from service.settings import Settings

    logs.configure(Settings())


def counting(stop: threading.Event, rounds: int | None, note: Callable[[Round], None]) -> Callable[[Round], None]:
    """Has each round noted, and stops after so many."""
    count = iter(range(1, 1 + (rounds or 0)))

    def on_round(done: Round) -> None:
        note(done)
        if rounds is not None and next(count, rounds) >= rounds:
            stop.set()

    return on_round
