"""Prints what is stored, with the columns of `flowmeter usage` and `flowmeter usage TENANT --periods`."""

import sqlite3
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo


def show(database: sqlite3.Connection) -> None:
    print("| tenant | plan | period | counted | adjusted | voided | limit | % | success |")
    for row in database.execute("SELECT * FROM usage ORDER BY tenant"):
        limit = row["quota"]
        line(
            row["tenant"],
            row["plan"],
            days(row),
            f"{row['counted']:,}",
            f"{row['adjusted']:+,}",
            f"{row['voided']:,}",
            "no limit" if limit is None else f"{limit:,}",
            percent(row["counted"], limit),
            percent(row["success"], row["executions"]),
        )
    print()
    print(
        "| tenant | period | plan | counted | adjusted | voided | not counted | late | success | closed at | incomplete |"
    )
    for row in database.execute("SELECT * FROM periods ORDER BY tenant, starts DESC"):
        line(
            row["tenant"],
            days(row),
            row["plan"],
            f"{row['counted']:,}",
            f"{row['adjusted']:+,}",
            f"{row['voided']:,}",
            f"{row['uncounted']:,}",
            f"{row['late']:,}",
            percent(row["success"], row["executions"]),
            row["closed_at"],
            row["incomplete"],
        )
    print()
    print("| tenant | threshold | used | limit | crossed at |")
    for row in database.execute("SELECT * FROM crossings ORDER BY crossed_at, percent"):
        line(row["tenant"], f"{row['percent']} %", f"{row['used']:,}", f"{row['quota']:,}", row["crossed_at"])


def line(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


def days(row: sqlite3.Row) -> str:
    """The first and the last day of a period, in the time zone that cut it; its end is exclusive."""
    zone = ZoneInfo(row["zone"])
    start, end = (datetime.fromisoformat(row[column]).astimezone(zone) for column in ("starts", "ends"))
    return f"{start.date()} .. {(end - timedelta(microseconds=1)).date()}"


def percent(part: int, whole: int | None) -> str:
    """Cut, not rounded: 100 % is shown only once it is reached."""
    if not whole:
        return "-"
    tenths = part * 1000 // whole
    return f"{tenths // 10}.{tenths % 10} %"
