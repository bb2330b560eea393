// @ts-check
// What the page knows: each tenant's current period, the service's clock, and the recent changes of the
// counts.

/** @typedef {import("./api.js").Answers} Answers */

/** The span and the resolution of the small charts. */
export const BUCKET_MS = 15_000;
export const BUCKETS = 60;
export const WINDOW_MINUTES = (BUCKET_MS * BUCKETS) / 60_000;

/** Three of the collector's default polls: a source that is further behind may need attention. */
export const STALE_SECONDS = 1_800;

const STORED = "flowmeter.activity";

/** Most urgent first. */
export const STATES = ["over", "warning", "unknown", "ok"];

/** @param {Answers["UsageJson"]} usage */
export const failingSources = (usage) => usage.sources.filter((source) => source.failing);

/**
 * Sources that are swept, but not often enough to see executions before they are pruned.
 * @param {Answers["UsageJson"]} usage
 */
export const losingSources = (usage) => usage.sources.filter(isLosing);

/** @param {Answers["SourceFreshnessJson"]} source */
export const isLosing = (source) => !source.failing && !source.paused && source.loss_expected_at !== null;

/**
 * The number of gaps of all sources.
 * @param {Answers["UsageJson"]} usage
 */
export const gapsOf = (usage) => usage.sources.reduce((sum, source) => sum + source.gaps, 0);

/**
 * Whether a source is missing from the figure, so that the true one may be higher.
 * @param {Answers["UsageJson"]} usage
 */
export const isFloor = (usage) =>
  usage.counted !== null && usage.sources.some((source) => source.failing || source.complete_until === null);

/** Failed executions; null if not known. */
export const failedOf = ({ error, crashed }) => (error === null || crashed === null ? null : error + crashed);

/** The failure rate that is highlighted; a few in a thousand are normal. */
const NOTABLE_FAILURES = 0.05;

/** Counted executions without adjustments: the base of rates and means. */
export const executionsOf = ({ success, error, crashed, canceled }) => success + error + crashed + canceled;

export const isFailing = (figures) => {
  const executions = executionsOf(figures);
  return executions > 0 && failedOf(figures) / executions >= NOTABLE_FAILURES;
};

export const meanDuration = (figures) => {
  const executions = executionsOf(figures);
  return executions > 0 ? figures.duration_ms / executions : null;
};

export const lagSeconds = (completeUntil, now) => Math.max(0, (now - Date.parse(completeUntil)) / 1_000);

/**
 * The state of a source: "failing", "waiting" (never swept), "stale", "paused" or "current".
 * @param {Answers["SourceFreshnessJson"]} source
 */
export function sourceState(source, now) {
  if (source.failing) return "failing";
  if (source.paused) return "paused";
  if (source.complete_until === null) return "waiting";
  return lagSeconds(source.complete_until, now) > STALE_SECONDS ? "stale" : "current";
}

/**
 * Whether the page can read the figures. If not (another version's answer, a damaged value), only their own row is
 * affected, and the sums over all tenants leave them out.
 * @param {Answers["UsageJson"]} usage
 */
export function isReadable(usage) {
  const isInstant = (instant) => !Number.isNaN(Date.parse(instant));
  const isInstantOrNull = (instant) => instant === null || isInstant(instant);
  try {
    return (
      [usage.name, usage.plan].every((text) => typeof text === "string") &&
      [usage.period.start, usage.period.end].every(isInstant) &&
      [usage.as_of, usage.complete_until, ...usage.sources.map((source) => source.complete_until)].every(
        isInstantOrNull,
      ) &&
      (!usage.cost_estimate || isAmount(usage.cost_estimate))
    );
  } catch {
    return false;
  }
}

/** A formatter's maximum; no currency has more than four decimals. */
const EXPONENT_MAX = 20;

// An amount without an exponent comes from another version of the gateway, and is shown as unknown.
const isAmount = ({ currency, exponent = 0 }) =>
  /^[a-z]{3}$/i.test(currency) && Number.isInteger(exponent) && exponent >= 0 && exponent <= EXPONENT_MAX;

/** The tenants' usage; the newest figures win. */
export class UsageBook {
  #usage = new Map();
  activity = new Activity();
  /** The service's clock minus the browser's: they differ if one is wrong, or if time is simulated. */
  #clockOffsetMs = 0;

  now() {
    return Date.now() + this.#clockOffsetMs;
  }

  get(tenant) {
    return this.#usage.get(tenant) ?? null;
  }

  get size() {
    return this.#usage.size;
  }

  /** Most urgent first, then by name: the order changes only when a state does, never with each event. */
  all() {
    /** @param {Answers["UsageJson"]} usage */
    const urgency = (usage) => STATES.indexOf(usage.state);
    return [...this.#usage.values()].sort(
      (a, b) => urgency(a) - urgency(b) || String(a.name).localeCompare(String(b.name), undefined, { numeric: true }),
    );
  }

  /** Replaces the whole list, and sets the service's clock from the list's `as_of`. */
  replaceAll({ usage: list, as_of }) {
    this.#clockOffsetMs = Date.parse(as_of) - Date.now();
    const kept = new Set(list.map((usage) => usage.tenant));
    for (const tenant of this.#usage.keys()) if (!kept.has(tenant)) this.#forget(tenant);
    list.forEach((usage) => this.put(usage));
  }

  /** @param {Answers["UsageJson"]} usage */
  put(usage) {
    const held = this.get(usage.tenant);
    if (held && isOlder(usage, held)) return false;
    this.#usage.set(usage.tenant, usage);
    if (isReadable(usage)) this.activity.observe(usage);
    return true;
  }

  #forget(tenant) {
    this.#usage.delete(tenant);
    this.activity.forget(tenant);
  }

  clear() {
    this.#usage.clear();
    this.activity.clear();
  }
}

// An event sent before the list was made must not undo the list.
/** @param {Answers["UsageJson"]} usage */
function isOlder(usage, held) {
  if (usage.as_of === null || held.as_of === null) return false;
  return Date.parse(usage.as_of) < Date.parse(held.as_of);
}

/**
 * Newly counted executions per tenant and bucket of time.
 *
 * A bucket in which the page was not connected, or none of the tenant's sources could be read, is missing, not zero.
 */
export class Activity {
  /** Tenant to bucket to count. */
  #added = new Map();
  /** Tenant to the last figure seen. */
  #last = new Map();

  observe({ tenant, counted, period }) {
    if (counted === null) return;
    const last = this.#last.get(tenant);
    this.#last.set(tenant, { counted, start: period.start });
    if (last?.start === period.start && counted > last.counted) this.#add(tenant, counted - last.counted);
  }

  /** Marks the current bucket as watched for tenants with a readable source; called while connected. */
  watch(usages, now) {
    const read = usages
      .filter(isReadable)
      .filter((usage) => usage.sources.some((source) => sourceState(source, now) === "current"));
    for (const usage of read) if (usage.counted !== null) this.#add(usage.tenant, 0);
    this.#forgetOld();
  }

  /** After an interruption the next figure is a new base: it is not known when the executions meanwhile were counted. */
  interrupt() {
    this.#last.clear();
  }

  /** Drops everything about a removed tenant. */
  forget(tenant) {
    this.#added.delete(tenant);
    this.#last.delete(tenant);
  }

  /** The numbers of tenants and buckets in memory, for the checks. */
  get kept() {
    const buckets = [...this.#added.values()].reduce((sum, held) => sum + held.size, 0);
    return { tenants: this.#last.size, buckets };
  }

  /** The sums over the tenants, oldest bucket first; null if nothing is known. */
  series(tenants) {
    const first = bucketNow() - BUCKETS + 1;
    return Array.from({ length: BUCKETS }, (_, index) => {
      const known = tenants
        .map((tenant) => this.#added.get(tenant)?.get(first + index))
        .filter((added) => added !== undefined);
      return known.length === 0 ? null : known.reduce((sum, added) => sum + added, 0);
    });
  }

  clear() {
    this.#added.clear();
    this.#last.clear();
    sessionStorage.removeItem(STORED);
  }

  /** Stores the last minutes, so that a reload keeps them. */
  save() {
    const added = [...this.#added].map(([tenant, buckets]) => [tenant, [...buckets]]);
    sessionStorage.setItem(STORED, JSON.stringify(added));
  }

  restore() {
    try {
      const added = JSON.parse(sessionStorage.getItem(STORED) ?? "[]");
      this.#added = new Map(added.map(([tenant, buckets]) => [tenant, new Map(buckets)]));
    } catch {
      sessionStorage.removeItem(STORED);
    }
  }

  #add(tenant, count) {
    const buckets = this.#added.get(tenant) ?? new Map();
    const now = bucketNow();
    buckets.set(now, (buckets.get(now) ?? 0) + count);
    this.#added.set(tenant, buckets);
    // Events may come even if `watch` is not called.
    if (buckets.size > BUCKETS + 1) forgetBefore(buckets, now - BUCKETS);
  }

  #forgetOld() {
    const oldest = bucketNow() - BUCKETS;
    for (const [tenant, buckets] of this.#added) {
      forgetBefore(buckets, oldest);
      if (buckets.size === 0) this.#added.delete(tenant);
    }
  }
}

function forgetBefore(buckets, oldest) {
  for (const bucket of buckets.keys()) if (bucket < oldest) buckets.delete(bucket);
}

const bucketNow = () => Math.floor(Date.now() / BUCKET_MS);
