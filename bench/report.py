"""The report: medians of the rounds, ratios to mcpd, and the targets with what was measured for each."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bench.bridge import Bridge, bridge_lines, errors
from bench.bridge import ratio as bridge_ratio
from bench.command import Command, command_lines
from bench.exact import BYTES, Exact
from bench.memory import KINDS, Memory
from bench.startup import MANY, SLOW_SECONDS, Startup

if TYPE_CHECKING:
    from bench.peers import Peer
    from bench.throughput import Throughput

IDLE_MIB = 45.0
SESSION_KIB = 10.0
ENVOY_HTTP_RATIO = 1.3
TRANSLATION_RATIO = 1.25
SDK_CPU_RATIO = 10.0
SDK_RESULT_RATIO = 2.0
HANG_SECONDS = 1.0
COMMAND_SECONDS = 0.1
READY_SECONDS = 1.0
FIRST_LIST_SECONDS = 0.05
# Ten thousand sessions that leave less behind leave 0.2 KiB each: the noise of the allocator, and no leak.
FLAT_KIB = 2048
# Ten slow servers may take this much longer than one: ten interpreters start on two cores, but none waits.
PARALLEL_SECONDS = 1.0
MAX_PROBLEM = 160


@dataclass
class Report:
    """What was measured; None for a section that did not run."""

    machine: dict[str, Any]
    peers: list[Peer]
    throughput: Throughput | None = None
    memory: dict[str, Memory] | None = None
    startup: Startup | None = None
    command: Command | None = None
    exact: Exact | None = None
    bridge: Bridge | None = None


@dataclass
class Target:
    """One of the figures to reach. `met` is None when it could not be measured here."""

    text: str
    measured: str
    met: bool | None

    def line(self) -> str:
        verdict = "not measured" if self.met is None else "met" if self.met else "NOT met"
        return f"  {self.text:<66} {self.measured:<34} {verdict}"


@dataclass
class Cell:
    """Medians of one variant at one point."""

    req_s: float
    p50_us: float
    p99_us: float
    cpu_us: float
    pss_mib: float
    errors: int
    first_error: str
    rounds: int


def cell(t: Throughput, variant: str, payload: str, clients: int) -> Cell | None:
    samples = list(t.samples.get((variant, payload, clients), {}).values())
    if not samples:
        return None

    def median(key: str) -> float:
        return statistics.median(float(s.get(key, 0)) for s in samples)

    first_error = next((s["first_error"] for s in samples if s["first_error"]), "")
    errors = sum(s["errors"] for s in samples)
    figures = (
        median("req_s"),
        median("p50_us"),
        median("p99_us"),
        median("cpu_us"),
        median("pss_kib") / 1024,
    )
    return Cell(*figures, errors, first_error, len(samples))


def ratio(t: Throughput, key: str, a: str, b: str, payload: str, clients: int) -> float | None:
    """a ÷ b, taken in each round and then the median: both saw the same state of the machine."""
    xs, ys = (t.samples.get((v, payload, clients), {}) for v in (a, b))
    pairs = [(xs[r].get(key, 0.0), ys[r].get(key, 0.0)) for r in xs.keys() & ys.keys()]
    ratios = [x / y for x, y in pairs if x and y]
    return statistics.median(ratios) if ratios else None


def counterpart(t: Throughput, variant: str) -> str:
    """The mcpd variant with the same kind of backend."""
    return "mcpd-stdio" if variant.endswith("-stdio") else "mcpd-http"


def times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def throughput_lines(t: Throughput) -> list[str]:
    lines = []
    for payload, clients in t.points:
        lines += ["", f"tools/call, {payload.name}, {clients} client{'s' if clients > 1 else ''}"]
        head = f"  {'variant':<15}{'req/s':>10}{'÷ mcpd':>8}{'p50 µs':>10}{'p99 µs':>10}"
        lines.append(f"{head}{'CPU µs':>10}{'÷ mcpd':>8}{'PSS MiB':>9}{'errors':>8}")
        for variant in t.variants:
            c = cell(t, variant, payload.name, clients)
            if c is None:
                lines.append(f"  {variant:<15}{'-':>10}   {t.problems.get(variant, 'not run')[:MAX_PROBLEM]}")
                continue
            base = counterpart(t, variant)
            speed, cpu = (ratio(t, k, variant, base, payload.name, clients) for k in ("req_s", "cpu_us"))
            lines.append(
                f"  {variant:<15}{c.req_s:>10,.0f}{times(speed):>8}{c.p50_us:>10,.0f}{c.p99_us:>10,.0f}"
                f"{figure(c.cpu_us or None):>10}{times(cpu):>8}{c.pss_mib:>9.1f}{c.errors:>8}"
                f"{'  ' + c.first_error[:60] if c.errors else ''}"
            )
        for a, b in (("mcpd-stdio", "envoy"), ("sdk-stdio", "mcpd-stdio")):
            speed, p50, cpu = (ratio(t, k, a, b, payload.name, clients) for k in ("req_s", "p50_us", "cpu_us"))
            if cpu is not None:
                lines.append(f"  {a} ÷ {b}: req/s {times(speed)}, p50 {times(p50)}, CPU {times(cpu)}")
    return lines


def figure(value: float | None, form: str = "{:,.1f}") -> str:
    return "-" if value is None else form.format(value)


def memory_lines(memories: dict[str, Memory]) -> list[str]:
    lines = ["", "Memory of the gateway's processes, without backends"]
    lines.append(
        f"  {'peer':<10}{'idle, ten stdio backends':>26}{'KiB for each idle':>46}"
        f"{'RSS MiB before and after sessions opened and closed':>60}"
    )
    kinds = "".join(f"{k[:-1]:>15}" for k in KINDS)
    lines.append(
        f"  {'':<10}{'PSS MiB':>13}{'RSS MiB':>13} {kinds}{'before':>17}{'after':>9}{'sessions':>12}{'left':>8}"
    )
    for name, m in memories.items():
        idle = [figure(None if v is None else v / 1024) for v in (m.idle_pss_kib, m.idle_rss_kib)]
        kinds = "".join(f"{figure(m.per_session_kib.get(k)):>15}" for k in KINDS)
        churn = [figure(None if v is None else v / 1024) for v in (m.churn_before_kib, m.churn_after_kib)]
        left = figure(m.backend_sessions_left, "{}")
        lines.append(
            f"  {name:<10}{idle[0]:>13}{idle[1]:>13} {kinds}{churn[0]:>17}{churn[1]:>9}{m.churned:>12,}{left:>8}"
        )
        if m.deletes_refused:
            lines.append(f"  {'':<10}{m.deletes_refused:,} of these sessions could not be ended: DELETE was refused")
        lines += [f"  {'':<10}{p[:MAX_PROBLEM]}" for p in m.problems]
    lines.append("  (left: sessions still open at the HTTP echo backend after all of the client's were ended)")
    return lines


def startup_lines(startup: Startup) -> list[str]:
    lines = [
        "",
        f"Start with Python stdio servers (slow: {SLOW_SECONDS:g} s in the handshake); seconds from exec",
    ]
    lines.append(f"  {'peer':<10}{'case':<26}{'first answer':>14}{'which took':>12}{'with tools':>12}{'all tools':>11}")
    for peer, cases in startup.results.items():
        for case, s in cases.items():
            figures = f"{figure(s.first, '{:.2f}'):>14}{figure(s.first_answer, '{:.3f}'):>12}"
            row = f"  {peer:<10}{case:<26}{figures}{s.first_tools:>12}{figure(s.complete, '{:.2f}'):>11}"
            lines.append(f"{row}  {s.problem[:MAX_PROBLEM]}" if s.complete is None else row)
    if known := startup.known:
        figures = f"ready {figure(known.ready, '{:.2f}')}, first list {figure(known.first_answer, '{:.3f}')}"
        lines.append(
            f"  mcpd, {MANY} servers that it knows from an earlier run: {figures} {known.problem[:MAX_PROBLEM]}"
        )
    return lines


def exact_lines(exact: Exact) -> list[str]:
    lines = ["", "10 MiB in one call: what arrived, and the seconds it took"]
    for variant, results in exact.results.items():
        for direction, (verdict, seconds) in results.items():
            lines.append(f"  {variant:<15}{direction:<10}{seconds:>6.2f}  {verdict[:MAX_PROBLEM]}")
    return lines


def judge(report: Report) -> list[Target]:
    """Every target whose section ran."""
    targets: list[Target] = []
    if report.throughput:
        targets += _throughput_targets(report.throughput)
    if report.bridge:
        targets.append(_bridge_target(report.bridge))
    if report.exact:
        targets += _exact_targets(report.exact)
    if report.memory is not None and "mcpd" in report.memory:
        targets += _memory_targets(report.memory["mcpd"])
    if report.startup:
        targets += _startup_targets(report.startup)
    if report.command:
        text = f"mcpctl status, from its start to its end: ≤ {1000 * COMMAND_SECONDS:g} ms (median)"
        took = report.command.median
        met = None if took is None else took <= COMMAND_SECONDS
        targets.append(Target(text, report.command.problem[:34] if took is None else f"{1000 * took:.1f} ms", met))
    return targets


def _bridge_target(bridge: Bridge) -> Target:
    text = f"CPU per call, modern client, legacy stdio backend: ≤ {TRANSLATION_RATIO}x a legacy client's"
    measured, problem = bridge_ratio(bridge, "modern client"), errors(bridge)
    if measured is None:
        return Target(text, problem, None)
    return Target(text, problem or times(measured), not problem and measured <= TRANSLATION_RATIO)


@dataclass
class _Comparison:
    """`key` of variant a is to be `limit` times that of b, at most (or at least, with `more`)."""

    text: str
    key: str
    a: str
    b: str
    limit: float
    payload: str = "small"
    clients: int = 16
    more: bool = False
    note: str = field(default="")


COMPARISONS = [
    _Comparison("CPU per call, stdio backend, 16 clients: ≤ Envoy's", "cpu_us", "mcpd-stdio", "envoy", 1.0),
    _Comparison(
        "CPU per call, stdio backend, 16 clients: ≤ 1/10 of the SDK's",
        "cpu_us",
        "mcpd-stdio",
        "sdk-stdio",
        1 / SDK_CPU_RATIO,
    ),
    _Comparison("p50, stdio backend, 1 client: ≤ Envoy's", "p50_us", "mcpd-stdio", "envoy", 1.0, clients=1),
    _Comparison(
        "CPU per call, HTTP backend, 16 clients: ≤ 1.3 x Envoy's",
        "cpu_us",
        "mcpd-http",
        "envoy",
        ENVOY_HTTP_RATIO,
    ),
    _Comparison(
        "p50, HTTP backend, 1 client: ≤ 1.3 x Envoy's",
        "p50_us",
        "mcpd-http",
        "envoy",
        ENVOY_HTTP_RATIO,
        clients=1,
    ),
    *(
        _Comparison(
            f"1 MiB result, {kind} backend, clients: {clients}: ≥ 2 x the SDK's req/s",
            "req_s",
            f"mcpd-{kind}",
            f"sdk-{kind}",
            SDK_RESULT_RATIO,
            "1 MiB result",
            clients,
            more=True,
        )
        for kind in ("stdio", "http")
        for clients in (1, 16)
    ),
]


def _throughput_targets(t: Throughput) -> list[Target]:
    targets = []
    for c in COMPARISONS:
        value = ratio(t, c.key, c.a, c.b, c.payload, c.clients)
        a, b = (cell(t, v, c.payload, c.clients) for v in (c.a, c.b))
        if value is None or a is None or b is None:
            missing = next((v for v, x in ((c.a, a), (c.b, b)) if x is None), c.a)
            targets.append(Target(c.text, t.problems.get(missing, f"no figures for {missing}")[:34], None))
            continue
        measured = f"{getattr(a, c.key):,.1f} / {getattr(b, c.key):,.1f} = {value:.3f}"
        targets.append(Target(c.text, measured, value >= c.limit if c.more else value <= c.limit))
    wrong = sum(s["errors"] for (v, _, _), rounds in t.samples.items() if v.startswith("mcpd") for s in rounds.values())
    broken = [f"{v}: {p}" for v, p in t.problems.items() if v.startswith("mcpd")]
    if any(v.startswith("mcpd") for v in t.variants):
        targets.append(
            Target(
                "no call through mcpd fails",
                f"{wrong} errors {'; '.join(broken)}"[:60],
                not wrong and not broken,
            )
        )
    return targets


def _exact_targets(exact: Exact) -> list[Target]:
    return [
        Target(f"a 10 MiB {direction} passes byte for byte, {variant}", verdict[:34], verdict == BYTES)
        for variant, results in exact.results.items()
        if variant.startswith("mcpd")
        for direction, (verdict, _) in results.items()
    ]


def _memory_targets(m: Memory) -> list[Target]:
    def target(text: str, value: float | None, unit: str, limit: float) -> Target:
        return Target(text, figure(value) + f" {unit}", None if value is None else value <= limit)

    idle = None if m.idle_pss_kib is None else m.idle_pss_kib / 1024
    grown = None
    if m.churn_before_kib is not None and m.churn_after_kib is not None:
        grown = float(m.churn_after_kib - m.churn_before_kib)
    return [
        target(f"idle with ten stdio backends: ≤ {IDLE_MIB:g} MiB (PSS)", idle, "MiB", IDLE_MIB),
        target(f"an idle session: ≤ {SESSION_KIB:g} KiB", m.per_session_kib.get("sessions"), "KiB", SESSION_KIB),
        target(f"flat after {m.churned or 10_000:,} sessions (RSS ± {FLAT_KIB} KiB)", grown, "KiB", FLAT_KIB),
        target("and none of them left open behind mcpd", m.backend_sessions_left, "sessions", 0),
    ]


def _startup_targets(startup: Startup) -> list[Target]:
    cases = startup.results.get("mcpd", {})
    ten, one, hang = (cases.get(n) for n in ("ten slow servers", "one slow server", "ten servers, one hangs"))
    targets = []
    if ten and one:
        met = None if ten.complete is None or one.complete is None else ten.complete <= one.complete + PARALLEL_SECONDS
        text = f"ten slow servers listed ≤ {PARALLEL_SECONDS:g} s after one alone would be"
        measured = f"{figure(ten.complete, '{:.2f}')} s / {figure(one.complete, '{:.2f}')} s"
        targets.append(Target(text, measured, met))
    if hang:
        met = hang.complete is not None and hang.complete < HANG_SECONDS
        text = f"one of ten hangs in its handshake: the others listed in < {HANG_SECONDS:g} s"
        targets.append(Target(text, f"{figure(hang.complete, '{:.2f}')} s {hang.problem[:24]}", met))
    if known := startup.known:
        listed = (
            f"{figure(known.first_answer, '{:.3f}')} s {'' if known.complete else 'incomplete'} {known.problem[:24]}"
        )
        for text, measured, value, limit in (
            (f"{MANY} known servers: ready", f"{figure(known.ready, '{:.2f}')} s", known.ready, READY_SECONDS),
            ("and their tools listed, the first time,", listed, known.first_answer, FIRST_LIST_SECONDS),
        ):
            met = None if value is None else value < limit and known.complete
            targets.append(Target(f"{text} in < {limit:g} s", measured.strip(), met))
    return targets


def render(report: Report) -> str:
    """The whole report as text."""
    m = report.machine
    lines = [f"mcpd benchmark · {m['date']} · Python {m['python']} · Linux {m['kernel']} · {m['cpu']}"]
    where = f"gateway on CPU {m['gateway_cpu']}, load and echo backends on CPU {m['load_cpu']}"
    lines.append(f"{m['rounds']} interleaved rounds of {m['seconds']:g} s each; {where}")
    if m["gateway_cpu"] == m["load_cpu"]:
        lines.append("THERE IS ONLY ONE CPU: throughput and latency include the load generator; CPU per call does not")
    lines.append("")
    lines += [f"  {p.name:<10}{p.title}{': ' + p.problem if p.problem else ''}" for p in report.peers]
    if report.throughput:
        lines += throughput_lines(report.throughput)
    if report.bridge:
        lines += bridge_lines(report.bridge)
    if report.memory is not None:
        lines += memory_lines(report.memory)
    if report.startup:
        lines += startup_lines(report.startup)
    if report.command:
        lines += command_lines(report.command)
    if report.exact:
        lines += exact_lines(report.exact)
    lines += ["", "Targets", *(t.line() for t in judge(report))]
    return "\n".join(lines)


def as_json(report: Report) -> dict[str, Any]:
    """Everything measured, every round, for machines."""
    t = report.throughput
    runs = [
        {"variant": v, "payload": p, "clients": c, "round": r, **s}
        for (v, p, c), rounds in (t.samples if t else {}).items()
        for r, s in rounds.items()
    ]
    return {
        "machine": report.machine,
        "peers": [{"name": p.name, "title": p.title, "problem": p.problem} for p in report.peers],
        "throughput": {"runs": runs, "problems": t.problems} if t else None,
        "memory": {n: asdict(m) for n, m in report.memory.items()} if report.memory is not None else None,
        "startup": asdict(report.startup)["results"] if report.startup else None,
        "known": asdict(report.startup)["known"] if report.startup else None,
        "mcpctl": asdict(report.command) if report.command else None,
        "bridge": report.bridge.samples if report.bridge else None,
        "exact": report.exact.results if report.exact else None,
        "targets": [asdict(t) for t in judge(report)],
    }
