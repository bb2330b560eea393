// Sample answers of the gateway, for the checks.

export const NOW = Date.parse("2026-11-24T12:00:00Z");
export const at = (secondsAgo) => new Date(NOW - secondsAgo * 1_000).toISOString();

export function source(values = {}) {
  return {
    source: "north-main",
    complete_until: at(20),
    lag_seconds: 20,
    open_executions: 0,
    paused: false,
    failing: null,
    loss_expected_at: null,
    gaps: 0,
    clock_skew_ms: 0,
    warnings: [],
    ...values,
  };
}

export function usage(values = {}) {
  return {
    tenant: "north",
    name: "North",
    plan: "growth",
    state: "ok",
    counted: 10,
    uncounted: 0,
    success: 9,
    error: 1,
    crashed: 0,
    canceled: 0,
    late: 0,
    success_rate: 0.9,
    duration_ms: 1_000,
    used_percent: 10,
    remaining: 90,
    limit: 100,
    as_of: at(1),
    complete_until: at(20),
    open_executions: 0,
    cost_estimate: { amount_minor: 4_120, currency: "eur", exponent: 2 },
    period: { start: "2026-11-01T00:00:00Z", end: "2026-12-01T00:00:00Z", time_zone: "UTC" },
    sources: [source()],
    ...values,
  };
}
