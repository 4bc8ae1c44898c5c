"""What a reload does in which order, with backends that only say when they are ready; with real ones: tests/e2e."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
import trio

from mcpd.config.build import definitions
from mcpd.config.diff import Plan
from mcpd.config.model import Config, Limits, Listen, Secrets, ServerSpec, Tls
from mcpd.config.origins import Conflict, Provenance
from mcpd.config.overlay import ChangeRefused, Overlay
from mcpd.config.sources import Reading
from mcpd.errors import ConfigError
from mcpd.gateway.succession import Succession
from mcpd.reload import ADDED_WAIT, CHANGED_WAIT, Reloader
from mcpd.roster import Roster
from mcpd.supervisor.states import State
from tests.gateway.fakes import FakeBackend, catalogue, make_gateway


class Runner(FakeBackend):
    """A backend that runs, and keeps what it was told."""

    held = False

    def __init__(self, spec: ServerSpec, takes: float = 0.0) -> None:
        super().__init__(spec.name, catalogue(tools=["t"]), takes=takes)
        self.spec = spec
        self.calls = 0
        self.tenure = self
        self.adjusted: list[tuple[ServerSpec, int, bool]] = []
        self.runs = False
        self.why = ""

    def adjust(self, spec: ServerSpec, limits: Limits, *, labelled: bool) -> None:
        self.spec = spec
        self.adjusted.append((spec, limits.calls, labelled))

    def describe(self):
        return {"state": self.state.value, "calls_in_flight": self.calls}

    async def drain(self, seconds: float) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    async def close(self) -> None:
        self.closed = True

    def stop(self, why: str) -> None:
        self.why = why

    async def run(self) -> None:
        self.runs = True
        try:
            await trio.sleep_forever()
        finally:
            self.runs = False


def server(name: str, **members) -> ServerSpec:
    return ServerSpec(name=name, transport="stdio", **{"command": "true", **members})


class Mcpd:
    """A roster, a gateway and a reloader, as the daemon has them; `wanted` is what the file says."""

    def __init__(self, directory, *specs: ServerSpec, takes: float = 0.0) -> None:
        self.wanted = Config(servers=specs)
        self.takes = takes
        self.fault: ConfigError | None = None
        self.disk: ChangeRefused | None = None
        self.overlay = Overlay()
        self.built: list[str] = []
        self.log: list[str] = []
        self.roster = Roster()
        self.gateway = make_gateway(directory, config=self.wanted)
        self.roster.backends = tuple(self._build(SimpleNamespace(spec=spec)) for spec in specs)
        self.gateway.use(self.roster.backends)
        self.reloader = Reloader(
            self.wanted,
            sources=self,
            prepare=self._prepare,
            build=self._build,
            roster=self.roster,
            gateway=self.gateway,
        )
        self.reloader.settings.append(lambda config: self.log.append(f"calls={config.limits.calls}"))

    async def run(self, nursery) -> None:
        await nursery.start(self.gateway.run)
        await nursery.start(self.roster.run)
        self.roster.start(self.roster.backends)
        await trio.testing.wait_all_tasks_blocked()
        self.built.clear()

    def want(self, *specs: ServerSpec, **settings) -> None:
        self.wanted = Config(servers=specs, **settings)

    def backend(self, name: str) -> Runner:
        return next(backend for backend in self.roster.backends if backend.name == name)

    async def read(self, change=None) -> Reading:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
        overlay = change(self.overlay, definitions([])) if change is not None else self.overlay
        specs = (*self.wanted.servers, *(server(name, **entry.table) for name, entry in overlay.servers.items()))
        off = {name for name, mark in overlay.marks.items() if not mark.enabled}
        specs = tuple(msgspec.structs.replace(spec, enabled=spec.name not in off) for spec in specs)
        return Reading(msgspec.structs.replace(self.wanted, servers=specs), overlay)

    async def write(self, reading: Reading) -> bool:
        await trio.lowlevel.checkpoint()
        if self.disk is not None:
            raise self.disk
        self.overlay = reading.overlay
        return True

    def _prepare(self, spec, config):
        if spec.tls.ca is not None:
            raise ConfigError("no such file", path=f"mcpServers.{spec.name}.tls")
        return SimpleNamespace(spec=spec)

    def _build(self, connector) -> Runner:
        backend = Runner(connector.spec, self.takes)
        backend.news = self.gateway.notices
        self.built.append(backend.name)
        return backend


A, B, C = server("a"), server("b"), server("c")
UNTRUSTED = server("c", tls=Tls(ca="/none"))


async def test_only_what_differs_is_done(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path, A, B, C)
    await mcpd.run(nursery)
    a, b, c = mcpd.roster.backends
    mcpd.want(server("b", args=("x",)), server("d"), A)
    outcome = await mcpd.reloader.reload()
    assert outcome.plan == Plan(
        added=("d",), changed={"b": ("args",)}, removed=("c",), unchanged=("a",), reordered=True
    )
    assert mcpd.built == ["b", "d"]
    assert [backend.name for backend in mcpd.gateway.backends] == ["b", "d", "a"]
    assert mcpd.backend("a") is a
    assert mcpd.gateway.backends == mcpd.roster.backends
    assert outcome.servers == {"b": {"state": "ready"}, "d": {"state": "ready"}}
    await trio.testing.wait_all_tasks_blocked()
    assert (a.runs, b.runs, c.runs, mcpd.backend("b").runs, mcpd.backend("d").runs) == (True, False, False, True, True)
    assert (a.why, b.why, c.why) == ("", "its configuration was changed", "it was removed from the configuration")
    assert mcpd.reloader.last.ok


async def test_a_dry_run_does_nothing_but_finds_every_fault(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    before = mcpd.roster.backends
    mcpd.want(B, limits=Limits(calls=1))
    outcome = await mcpd.reloader.reload(dry_run=True)
    assert (outcome.dry_run, outcome.plan.added, outcome.plan.removed) == (True, ("b",), ("a",))
    mcpd.want(UNTRUSTED)
    with pytest.raises(ConfigError, match="no such file"):
        await mcpd.reloader.reload(dry_run=True)
    assert (mcpd.roster.backends, mcpd.built, mcpd.log, mcpd.reloader.last) == (before, [], [], None)


@pytest.mark.parametrize("where", ["read", "check", "prepare"])
async def test_a_fault_changes_nothing(tmp_path, nursery, autojump_clock, caplog, where):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    before = mcpd.roster.backends
    fault = ConfigError("it is wrong", file="f", line=3)
    mcpd.want(B, limits=Limits(calls=1))
    if where == "read":
        mcpd.fault = fault
    elif where == "check":
        mcpd.reloader.check = _raising(fault)
    else:
        mcpd.want(B, UNTRUSTED)
    with pytest.raises(ConfigError):
        await mcpd.reloader.reload()
    assert (mcpd.roster.backends, mcpd.built, mcpd.log) == (before, [], [])
    assert mcpd.reloader.config.servers == (A,)
    assert not mcpd.reloader.last.ok
    assert mcpd.reloader.last.errors
    assert "nothing has changed" in caplog.text
    assert mcpd.reloader.note.startswith("configuration not in effect: ")
    mcpd.fault = mcpd.reloader.check = None
    mcpd.want(A)
    await mcpd.reloader.reload()
    assert mcpd.reloader.note == ""


def _raising(error):
    async def check(config):
        raise error

    return check


async def test_the_old_one_serves_until_the_new_one_is_ready(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    old = mcpd.backend("a")
    mcpd.takes = 7.0
    mcpd.want(server("a", args=("x",)))
    async with trio.open_nursery() as inner:
        inner.start_soon(mcpd.reloader.reload)
        await trio.sleep(6.9)
        assert mcpd.gateway.backends == (old,)
        assert old.runs
        await trio.sleep(0.2)
        assert mcpd.gateway.backends[0] is not old
    assert not old.runs


@pytest.mark.parametrize(("wanted", "limit"), [((A, B), ADDED_WAIT), ((server("a", args=("x",)),), CHANGED_WAIT)])
async def test_one_that_hangs_is_waited_for_with_a_bound(tmp_path, nursery, autojump_clock, wanted, limit):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    mcpd.takes = 1000.0
    mcpd.want(*wanted)
    began = trio.current_time()
    outcome = await mcpd.reloader.reload()
    assert trio.current_time() - began == limit == outcome.seconds
    assert list(outcome.servers.values()) == [{"state": "starting"}]
    assert len(mcpd.gateway.backends) == len(wanted)


async def test_settings_go_to_those_that_stay(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    adjusted = server("a", prefix="p_")
    mcpd.want(adjusted, B, limits=Limits(calls=9, session_age=1.0), listen=Listen(port=1))
    outcome = await mcpd.reloader.reload()
    assert outcome.plan.adjusted == {"a": ("prefix",)}
    assert outcome.plan.needs_restart == ("listen.port", "limits.session_age")
    assert mcpd.backend("a").adjusted == [(adjusted, 9, True)]
    assert list(mcpd.gateway.catalog.tools.routes) == ["p_t", "b_t"]
    assert mcpd.log == ["calls=9"]
    assert mcpd.reloader.config.listen == Listen()
    assert mcpd.gateway.config is mcpd.reloader.config
    assert mcpd.reloader.note == "restart needed for listen.port, limits.session_age"
    again = await mcpd.reloader.reload()
    assert again.plan == Plan(unchanged=("a", "b"), needs_restart=outcome.plan.needs_restart)


async def test_one_at_a_time_and_each_reads_when_its_turn_comes(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path)
    await mcpd.run(nursery)
    mcpd.takes = 2.0
    plans = []

    async def reload():
        plans.append((await mcpd.reloader.reload()).plan)

    mcpd.want(A)
    async with trio.open_nursery() as inner:
        inner.start_soon(reload)
        await trio.sleep(1)
        inner.start_soon(reload)
        inner.start_soon(reload)
        mcpd.want(A, B)
    assert plans == [Plan(added=("a",)), Plan(added=("b",), unchanged=("a",)), Plan(unchanged=("a", "b"))]


async def test_what_was_begun_is_ended_when_a_reload_is_given_up(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    mcpd.takes = 1000.0
    mcpd.want(A, B)
    with trio.move_on_after(1):
        await mcpd.reloader.reload()
    await trio.sleep(1)
    assert [backend.name for backend in mcpd.gateway.backends] == ["a"]
    assert mcpd.roster.draining == []
    assert mcpd.backend("a").state is State.READY


async def test_what_was_secret_stays_so_for_one_more_reload(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path)
    hidden: list[Secrets] = []
    mcpd.reloader.redact = hidden.append
    await mcpd.run(nursery)
    for word in ("first-secret", "second-secret", "third-secret"):
        mcpd.want(secrets=Secrets.of({word}))
        await mcpd.reloader.reload()
    assert [set(secrets.values) for secrets in hidden] == [
        {"first-secret"},
        {"first-secret", "second-secret"},
        {"second-secret", "third-secret"},
    ]


async def test_draining_ones_are_named(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path, A, B)
    await mcpd.run(nursery)
    mcpd.backend("a").calls = 1
    mcpd.want()
    outcome = await mcpd.reloader.reload()
    assert outcome.draining == ("a",)


async def test_what_lost_its_place_is_ended_whatever_its_successor_does(tmp_path, nursery, autojump_clock, monkeypatch):
    async def finish(succession) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a bug")

    monkeypatch.setattr(Succession, "finish", finish)
    mcpd = Mcpd(tmp_path, A, B)
    await mcpd.run(nursery)
    a, b = mcpd.roster.backends
    mcpd.want(server("a", args=("x",)))
    with pytest.raises(RuntimeError, match="a bug"):
        await mcpd.reloader.reload()
    await trio.testing.wait_all_tasks_blocked()
    assert (a.runs, b.runs, mcpd.backend("a").runs) == (False, False, True)


# ---- what is changed while it runs: with a real disk in tests/config/test_sources.py


def changed(outcome):
    return outcome.names, outcome.servers, outcome.plan.added, outcome.plan.changed, outcome.plan.removed


async def test_servers_are_added_replaced_switched_and_removed(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    reloader = mcpd.reloader
    outcome = await reloader.add({"n": {"command": "x"}}, "alice", "mcpctl")
    assert changed(outcome) == (("n",), {"n": {"state": "ready"}}, ("n",), {}, ())
    entry = mcpd.overlay.servers["n"]
    assert (entry.table, entry.added.by, entry.added.how) == ({"command": "x"}, "alice", "mcpctl")
    with pytest.raises(ChangeRefused):
        await reloader.add({"n": {"command": "y"}}, "bob", "curl")
    outcome = await reloader.add({"n": {"command": "y"}}, "bob", "curl", replace=True)
    assert changed(outcome) == (("n",), {"n": {"state": "ready"}}, (), {"n": ("command",)}, ())
    outcome = await reloader.disable("n", "alice", "mcpctl")
    assert changed(outcome) == (("n",), {"n": {"state": "disabled"}}, (), {}, ("n",))
    assert [backend.name for backend in mcpd.gateway.backends] == ["a"]
    outcome = await reloader.enable("n", "alice", "mcpctl")
    assert changed(outcome) == (("n",), {"n": {"state": "ready"}}, ("n",), {}, ())
    outcome = await reloader.remove("n", "alice", "mcpctl")
    assert changed(outcome) == (("n",), {}, (), {}, ("n",))
    assert mcpd.overlay == Overlay()
    assert reloader.last.ok


async def test_nothing_is_in_effect_that_could_not_be_written(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    before, config = mcpd.roster.backends, mcpd.reloader.config
    mcpd.disk = ChangeRefused("not_written", "the disk is full", "make room")
    with pytest.raises(ChangeRefused, match="the disk is full"):
        await mcpd.reloader.add({"n": {"command": "x"}}, "alice", "mcpctl")
    assert (mcpd.roster.backends, mcpd.built, mcpd.reloader.config) == (before, [], config)
    mcpd.disk = None
    assert (await mcpd.reloader.add({"n": {"command": "x"}}, "alice", "mcpctl")).plan.added == ("n",)


async def test_a_fault_in_what_is_added_is_nothing_that_is_wrong_with_the_configuration(
    tmp_path, nursery, autojump_clock
):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    with pytest.raises(ConfigError):
        await mcpd.reloader.add({"n": {"command": "x", "tls": Tls(ca="/none")}}, "alice", "mcpctl")
    assert (mcpd.overlay, mcpd.reloader.last, mcpd.reloader.note) == (Overlay(), None, "")


async def test_what_is_tried_out_or_compared_changes_nothing(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    outcome = await mcpd.reloader.try_out({"n": {"command": "x"}})
    assert (outcome.dry_run, outcome.plan.added) == (True, ("n",))
    assert (mcpd.overlay, mcpd.built) == (Overlay(), [])
    await mcpd.reloader.add({"n": {"command": "x"}}, "alice", "mcpctl")
    mcpd.want(A, B)
    found = await mcpd.reloader.compare()
    assert found["plan"].added == ("b",)
    assert [(each["name"], each["in_effect"], each["by"]) for each in found["added"]] == [("n", True, "alice")]
    assert (found["marked"], found["conflicts"], found["problems"]) == ([], (), ())


async def test_changes_take_turns_and_none_is_lost(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path)
    await mcpd.run(nursery)
    mcpd.takes = 2.0
    async with trio.open_nursery() as inner:
        for name in ("a", "b", "c"):
            inner.start_soon(mcpd.reloader.add, {name: {"command": "x"}}, "alice", "mcpctl")
        inner.start_soon(mcpd.reloader.reload)
    assert sorted(mcpd.overlay.servers) == ["a", "b", "c"]
    assert sorted(backend.name for backend in mcpd.gateway.backends) == ["a", "b", "c"]


async def test_who_no_longer_wants_it_when_it_is_their_turn_changes_nothing(tmp_path, nursery, autojump_clock):
    mcpd = Mcpd(tmp_path)
    await mcpd.run(nursery)

    def refuse() -> None:
        raise RuntimeError("changed meanwhile")

    with pytest.raises(RuntimeError, match="changed meanwhile"):
        await mcpd.reloader.add({"n": {"command": "x"}}, "alice", "mcpctl", begin=refuse)
    assert mcpd.overlay == Overlay()


async def test_a_conflict_is_told_wherever_somebody_looks(tmp_path, nursery, autojump_clock, caplog):
    mcpd = Mcpd(tmp_path, A)
    await mcpd.run(nursery)
    added = Provenance(at="2026-11-28T10:00:00Z", by="alice", how="mcpctl")
    conflict = Conflict(name="a", file="/etc/m.yaml", line=3, added=added)
    mcpd.want(A, conflicts=(conflict,), problems=("overlay.json.broken was set aside",))
    await mcpd.reloader.reload()
    assert mcpd.reloader.note == "overlay.json.broken was set aside"
    assert mcpd.reloader.describe()["conflicts"] == (conflict,)
    levels = {(record.levelname, record.getMessage().split(" ")[0]) for record in caplog.records}
    assert {("WARNING", "event=overlay_conflict"), ("ERROR", "event=overlay_problem")} <= levels
