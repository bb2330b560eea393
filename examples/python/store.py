"""The database. Each message is one statement, which recognises repeats by the keys of docs/topics.md."""

import sqlite3

from flowmeter.v1.usage_pb2 import PeriodEvent, ThresholdCrossed, Totals, UsageCounted

SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    tenant TEXT PRIMARY KEY, revision INTEGER, plan TEXT, starts TEXT, ends TEXT, zone TEXT,
    counted INTEGER, adjusted INTEGER, voided INTEGER, quota INTEGER, success INTEGER, executions INTEGER);
CREATE TABLE IF NOT EXISTS crossings (
    id TEXT PRIMARY KEY, tenant TEXT, percent INTEGER, used INTEGER, quota INTEGER, crossed_at TEXT);
CREATE TABLE IF NOT EXISTS periods (
    tenant TEXT, starts TEXT, ends TEXT, zone TEXT, revision INTEGER, plan TEXT,
    counted INTEGER, adjusted INTEGER, voided INTEGER, uncounted INTEGER, late INTEGER,
    success INTEGER, executions INTEGER, closed_at TEXT, incomplete TEXT, PRIMARY KEY (tenant, starts));
"""


def connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA journal_mode = wal")
    database.executescript(SCHEMA)
    return database


def usage(database: sqlite3.Connection, message: UsageCounted) -> None:
    """The whole current period of a tenant: a larger revision replaces what is stored, any other is a repeat."""
    totals, period = message.totals, message.period
    database.execute(
        """INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT (tenant) DO UPDATE SET revision = excluded.revision, plan = excluded.plan,
               starts = excluded.starts, ends = excluded.ends, zone = excluded.zone, counted = excluded.counted,
               adjusted = excluded.adjusted, voided = excluded.voided, quota = excluded.quota,
               success = excluded.success, executions = excluded.executions
           WHERE excluded.revision > usage.revision""",
        (
            message.tenant_id,
            message.revision,
            message.plan_id,
            period.start.ToJsonString(),
            period.end.ToJsonString(),
            message.time_zone,
            totals.counted,
            totals.adjusted,
            totals.voided,
            message.limit if message.HasField("limit") else None,
            totals.success,
            executions(totals),
        ),
    )


def crossing(database: sqlite3.Connection, message: ThresholdCrossed) -> None:
    """Act once per id: here, one line. An action that needs the database belongs to the same transaction."""
    added = database.execute(
        "INSERT INTO crossings VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            message.crossing_id,
            message.tenant_id,
            message.threshold_percent,
            message.used,
            message.limit,
            message.crossed_at.ToJsonString(),
        ),
    )
    if added.rowcount == 1:
        print(f"{message.tenant_id} has used {message.threshold_percent} % of its limit", flush=True)


def period(database: sqlite3.Connection, message: PeriodEvent) -> None:
    """The final figures of a period. Late usage replaces them, never adds to them."""
    match message.WhichOneof("event"):
        case "closed":
            closed, totals = message.closed, message.closed.totals
            database.execute(
                "INSERT INTO periods VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    closed.tenant_id,
                    closed.period.start.ToJsonString(),
                    closed.period.end.ToJsonString(),
                    closed.time_zone,
                    closed.revision,
                    closed.plan_id,
                    totals.counted,
                    totals.adjusted,
                    totals.voided,
                    totals.uncounted,
                    totals.late,
                    totals.success,
                    executions(totals),
                    closed.closed_at.ToJsonString(),
                    ", ".join(closed.incomplete_sources),
                ),
            )
        case "late":
            late, totals = message.late, message.late.totals
            database.execute(
                """UPDATE periods SET revision = :revision, counted = :counted, adjusted = :adjusted, voided = :voided,
                       uncounted = :uncounted, late = :late, success = :success, executions = :executions
                   WHERE tenant = :tenant AND starts = :starts AND revision < :revision""",
                {
                    "tenant": late.tenant_id,
                    "starts": late.period.start.ToJsonString(),
                    "revision": late.revision,
                    "counted": totals.counted,
                    "adjusted": totals.adjusted,
                    "voided": totals.voided,
                    "uncounted": totals.uncounted,
                    "late": totals.late,
                    "success": totals.success,
                    "executions": executions(totals),
                },
            )
        case _:
            pass  # A period has begun, or an event of a newer kind.


def executions(totals: Totals) -> int:
    """Counted executions; `counted` also has what was adjusted by hand."""
    return totals.success + totals.error + totals.crashed + totals.canceled
