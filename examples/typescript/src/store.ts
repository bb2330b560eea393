// The database. Each message is one statement, which recognises repeats by the keys of docs/topics.md.

import { toJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import Database from "libsql";

import type { PeriodEvent, ThresholdCrossed, Totals, UsageCounted } from "./gen/flowmeter/v1/usage_pb.js";

const SCHEMA = `
CREATE TABLE IF NOT EXISTS usage (
    tenant TEXT PRIMARY KEY, revision INTEGER, plan TEXT, starts TEXT, ends TEXT, zone TEXT,
    counted INTEGER, adjusted INTEGER, voided INTEGER, quota INTEGER, success INTEGER, executions INTEGER);
CREATE TABLE IF NOT EXISTS crossings (
    id TEXT PRIMARY KEY, tenant TEXT, percent INTEGER, used INTEGER, quota INTEGER, crossed_at TEXT);
CREATE TABLE IF NOT EXISTS periods (
    tenant TEXT, starts TEXT, ends TEXT, zone TEXT, revision INTEGER, plan TEXT,
    counted INTEGER, adjusted INTEGER, voided INTEGER, uncounted INTEGER, late INTEGER,
    success INTEGER, executions INTEGER, closed_at TEXT, incomplete TEXT, PRIMARY KEY (tenant, starts));
`;

type Value = string | number | bigint | null;
/** A row as SQLite has it: text and numbers, by column. */
export type Row = Record<string, any>;

export class Store {
  /** Whether a statement has failed. */
  failed = false;
  readonly #database: Database.Database;

  constructor(path: string) {
    this.#database = new Database(path);
    this.#database.pragma("journal_mode = wal");
    this.#database.exec(SCHEMA);
  }

  /** The whole current period of a tenant: a larger revision replaces what is stored, any other is a repeat. */
  usage(usage: UsageCounted): void {
    const { totals, period } = usage;
    this.#run(
      `INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (tenant) DO UPDATE SET revision = excluded.revision, plan = excluded.plan,
           starts = excluded.starts, ends = excluded.ends, zone = excluded.zone, counted = excluded.counted,
           adjusted = excluded.adjusted, voided = excluded.voided, quota = excluded.quota,
           success = excluded.success, executions = excluded.executions
       WHERE excluded.revision > usage.revision`,
      usage.tenantId,
      usage.revision,
      usage.planId,
      instant(period?.start),
      instant(period?.end),
      usage.timeZone,
      totals?.counted ?? 0n,
      totals?.adjusted ?? 0n,
      totals?.voided ?? 0n,
      usage.limit ?? null,
      totals?.success ?? 0n,
      executions(totals),
    );
  }

  /** Act once per id: here, one line. An action that needs the database belongs to the same transaction. */
  crossing(crossing: ThresholdCrossed): void {
    const added = this.#run(
      "INSERT INTO crossings VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
      crossing.crossingId,
      crossing.tenantId,
      crossing.thresholdPercent,
      crossing.used,
      crossing.limit,
      instant(crossing.crossedAt),
    );
    if (added === 1) {
      console.log(`${crossing.tenantId} has used ${crossing.thresholdPercent} % of its limit`);
    }
  }

  /** The final figures of a period. Late usage replaces them, never adds to them. */
  period({ event }: PeriodEvent): void {
    if (event.case === "closed") {
      const { totals, period, ...closed } = event.value;
      this.#run(
        "INSERT INTO periods VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        closed.tenantId,
        instant(period?.start),
        instant(period?.end),
        closed.timeZone,
        closed.revision,
        closed.planId,
        ...figures(totals),
        instant(closed.closedAt),
        closed.incompleteSources.join(", "),
      );
    } else if (event.case === "late") {
      const { totals, period, ...late } = event.value;
      this.#run(
        `UPDATE periods SET counted = ?, adjusted = ?, voided = ?, uncounted = ?, late = ?, success = ?,
             executions = ?, revision = ?
         WHERE tenant = ? AND starts = ? AND revision < ?`,
        ...figures(totals),
        late.revision,
        late.tenantId,
        instant(period?.start),
        late.revision,
      );
    }
    // Otherwise a period has begun, or it is an event of a newer kind.
  }

  rows(query: string): Row[] {
    return this.#database.prepare(query).all() as Row[];
  }

  /** Returns how many rows have changed. */
  #run(statement: string, ...values: Value[]): number {
    try {
      return this.#database.prepare(statement).run(...values).changes;
    } catch (error) {
      this.failed = true;
      throw error;
    }
  }
}

/** The columns of a period from `counted` to `executions`. */
function figures(totals: Totals | undefined): bigint[] {
  const { counted, adjusted, voided, uncounted, late, success } = totals ?? {};
  return [counted, adjusted, voided, uncounted, late, success].map((value) => value ?? 0n).concat(executions(totals));
}

/** Counted executions; `counted` also has what was adjusted by hand. */
function executions(totals: Totals | undefined): bigint {
  return totals ? totals.success + totals.error + totals.crashed + totals.canceled : 0n;
}

function instant(timestamp: Timestamp | undefined): string | null {
  return timestamp ? toJson(TimestampSchema, timestamp) : null;
}
