// Prints what is stored, with the columns of `flowmeter usage` and `flowmeter usage TENANT --periods`.

import type { Row, Store } from "./store.js";

export function show(store: Store): void {
  line("tenant", "plan", "period", "counted", "adjusted", "voided", "limit", "%", "success");
  for (const row of store.rows("SELECT * FROM usage ORDER BY tenant")) {
    line(
      row.tenant,
      row.plan,
      days(row),
      number(row.counted),
      signed(row.adjusted),
      number(row.voided),
      row.quota === null ? "no limit" : number(row.quota),
      percent(row.counted, row.quota),
      percent(row.success, row.executions),
    );
  }
  console.log();
  const counts = ["counted", "adjusted", "voided", "not counted", "late"];
  line("tenant", "period", "plan", ...counts, "success", "closed at", "incomplete");
  for (const row of store.rows("SELECT * FROM periods ORDER BY tenant, starts DESC")) {
    line(
      row.tenant,
      days(row),
      row.plan,
      number(row.counted),
      signed(row.adjusted),
      number(row.voided),
      number(row.uncounted),
      number(row.late),
      percent(row.success, row.executions),
      row.closed_at,
      row.incomplete,
    );
  }
  console.log();
  line("tenant", "threshold", "used", "limit", "crossed at");
  for (const row of store.rows("SELECT * FROM crossings ORDER BY crossed_at, percent")) {
    line(row.tenant, `${row.percent} %`, number(row.used), number(row.quota), row.crossed_at);
  }
}

function line(...cells: string[]): void {
  console.log(`| ${cells.join(" | ")} |`);
}

/** The first and the last day of a period, in the time zone that cut it; its end is exclusive. */
function days(row: Row): string {
  // Swedish dates are those of ISO 8601.
  const format = new Intl.DateTimeFormat("sv-SE", { timeZone: row.zone, dateStyle: "short" });
  return `${format.format(Date.parse(row.starts))} .. ${format.format(Date.parse(row.ends) - 1)}`;
}

/** Cut, not rounded: 100 % is shown only once it is reached. */
function percent(part: number, whole: number | null): string {
  if (!whole) return "-";
  const tenths = Math.floor((part * 1_000) / whole);
  return `${Math.floor(tenths / 10)}.${tenths % 10} %`;
}

function number(value: number): string {
  return value.toLocaleString("en-US");
}

function signed(value: number): string {
  return `${value < 0 ? "-" : "+"}${number(Math.abs(value))}`;
}
