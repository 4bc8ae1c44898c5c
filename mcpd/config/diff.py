"""Two configurations → what a reload has to do, without doing any of it.

A server is its name: one under a new name is another server. What cannot change while mcpd runs keeps the value that is
in effect, and is named as long as the file says something else.

Rules.
1. A server that is disabled is none: to disable one removes it, to enable one adds it.
2. Only what is read at every use changes in place (IN_PLACE); any other key of a server needs a new process or
   connection, so that the server is replaced.
3. A setting that is not known to apply to a running mcpd needs a restart. To say so wrongly is a nuisance; the opposite
   would be a lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from mcpd.config.model import Config, ServerSpec

IN_PLACE: Final = frozenset({"prefix", "validate", "description"})
"""Keys of a server that are read at every use."""

LIVE: Final = frozenset(
    {
        *("naming", "limits", "streams", "shutdown", "caching", "control", "log", "audit"),
        *("extensions", "instructions", "watch"),
    }
)
"""Sections and settings that apply to a running mcpd."""

FIXED: Final = frozenset({"limits.session_age", "control.socket"})
"""Exceptions from LIVE. Ended sessions are remembered for as long as their ids are good: after a longer age had been
allowed, those forgotten before would be good again. A socket stays where it is."""

_NOT_SETTINGS: Final = frozenset({"servers", "source", "drop_ins", "origins", "conflicts", "problems", "secrets"})


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What differs. Names of servers in the order of the file, removed ones in that of the former one."""

    added: tuple[str, ...] = ()
    changed: dict[str, tuple[str, ...]] = {}
    """Servers to be replaced, with the keys that differ."""
    adjusted: dict[str, tuple[str, ...]] = {}
    """Servers that go on running with other settings, and which."""
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    reordered: bool = False
    """Servers that stay have another order, hence lists too."""
    settings: tuple[str, ...] = ()
    """Settings of mcpd itself that apply now, e.g. `limits.calls`."""
    needs_restart: tuple[str, ...] = ()
    """Settings that differ and do not apply before mcpd is restarted."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.added or self.changed or self.adjusted or self.removed or self.reordered or self.settings)

    def __str__(self) -> str:
        """One line for the log: the names, and how many are unchanged."""
        parts = [
            f"{word}={','.join(names)}"
            for word, names in (
                ("added", self.added),
                ("changed", self.changed),
                ("adjusted", self.adjusted),
                ("removed", self.removed),
                ("settings", self.settings),
                ("needs_restart", self.needs_restart),
            )
            if names
        ]
        return " ".join([*parts, f"unchanged={len(self.unchanged)}"])


def diff(running: Config, wanted: Config) -> Plan:
    """What has to be done to get from one configuration to the other."""
    before, after = _enabled(running), _enabled(wanted)
    stay = [name for name in after if name in before]
    keys = {name: changed_keys(before[name], after[name]) for name in stay}
    differ = _differing(_settings(running), _settings(wanted))
    return Plan(
        added=tuple(name for name in after if name not in before),
        changed={name: keys[name] for name in stay if not IN_PLACE.issuperset(keys[name])},
        adjusted={name: keys[name] for name in stay if keys[name] and IN_PLACE.issuperset(keys[name])},
        removed=tuple(name for name in before if name not in after),
        unchanged=tuple(name for name in stay if not keys[name]),
        reordered=stay != [name for name in before if name in after],
        settings=tuple(name for name in differ if is_live(name)),
        needs_restart=tuple(name for name in differ if not is_live(name)),
    )


def effective(running: Config, wanted: Config) -> Config:
    """The wanted configuration, but for what needs a restart: that is as it was."""
    kept: dict[str, object] = {}
    for field in _sections(wanted):
        old, new = getattr(running, field), getattr(wanted, field)
        if field not in LIVE:
            kept[field] = old
        elif isinstance(new, msgspec.Struct):
            fixed = {name: getattr(old, name) for name in new.__struct_fields__ if f"{field}.{name}" in FIXED}
            kept[field] = msgspec.structs.replace(new, **fixed)
    return msgspec.structs.replace(wanted, **kept)


def is_live(setting: str) -> bool:
    """Whether a setting, by its dotted name, applies to a running mcpd (rule 3)."""
    return setting.partition(".")[0] in LIVE and setting not in FIXED


def changed_keys(before: ServerSpec, after: ServerSpec) -> tuple[str, ...]:
    """The keys in which two servers differ, those of inner maps with a dot: `timeouts.init`."""
    return _differing(flatten(before), flatten(after))


def _differing(old: dict[str, object], new: dict[str, object]) -> tuple[str, ...]:
    """Names whose values differ. A map that only one of the two has is named with all that is in it."""
    return tuple(name for name in {**new, **old} if name not in old or name not in new or old[name] != new[name])


def flatten(struct: msgspec.Struct, prefix: str = "") -> dict[str, object]:
    """The values of a struct and of the structs in it, by dotted name."""
    found: dict[str, object] = {}
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if isinstance(value, msgspec.Struct):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _sections(config: Config) -> list[str]:
    return [name for name in config.__struct_fields__ if name not in _NOT_SETTINGS]


def _settings(config: Config) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in _sections(config):
        value = getattr(config, name)
        found |= flatten(value, f"{name}.") if isinstance(value, msgspec.Struct) else {name: value}
    return found


def _enabled(config: Config) -> dict[str, ServerSpec]:
    return {spec.name: spec for spec in config.servers if spec.enabled}
