// @ts-check
// All tenants together: the sums over the current periods, and the state of metering.

import { el, setText } from "./dom.js";
import { NONE } from "./format.js";
import { activityChart, figure, peakText, recentText } from "./parts.js";
import { WINDOW_MINUTES, executionsOf, failedOf, gapsOf, isFloor, isLosing, isReadable, sourceState } from "./usage.js";

export function summaryOf(context) {
  const { t } = context.format;
  const counted = figure(t("countedThisPeriod"));
  const success = figure(t("successRate"));
  const cost = figure(t("costEstimate"));
  const open = figure(t("openExecutions"), { hint: t("openHelp") });
  const metering = figure(t("metering"));
  const chart = activityChart(context.format);
  const recent = el("span", { class: "strong" });
  const peak = el("span", { class: "muted" });
  const pulse = el(
    "div",
    { class: "pulse" },
    el(
      "div",
      { class: "pulse-head" },
      el("span", { class: "muted" }, t("recent", { minutes: WINDOW_MINUTES })),
      recent,
    ),
    chart.node,
    peak,
  );
  const node = el(
    "section",
    { class: "card summary", "aria-label": t("overview") },
    el("dl", { class: "summary-lead" }, counted.node),
    pulse,
    el("dl", { class: "summary-rest" }, success.node, cost.node, open.node, metering.node),
  );
  return {
    node,
    update(tenants) {
      // A tenant that cannot be read has a note in its own row, and counts as unknown here.
      const all = tenants.filter(isReadable);
      const known = all.filter((usage) => usage.counted !== null);
      updateTotals(context, { counted, success, cost, open }, known, tenants.length - known.length);
      const series = context.book.activity.series(all.map((usage) => usage.tenant));
      chart.update(series);
      setText(recent, recentText(series, context.format));
      setText(peak, peakText(series, context.format));
      updateMetering(context, metering, all);
    },
  };
}

const sumOf = (list, read) => (list.length === 0 ? null : list.reduce((sum, usage) => sum + (read(usage) ?? 0), 0));

function updateTotals({ format }, { counted, success, cost, open }, known, unknown) {
  const { t, count, percent, money } = format;
  const total = sumOf(known, (usage) => usage.counted);
  const executions = sumOf(known, executionsOf);
  const failed = sumOf(known, failedOf);
  const least = unknown > 0 || known.some(isFloor);
  counted.update(
    total === null ? t("unknown") : least ? t("atLeastMark", { count: total }) : count(total),
    unknown > 0 ? t("tenantsUnknown", { count: unknown }) : t("countedHelp"),
  );
  success.update(
    executions ? percent(sumOf(known, (usage) => usage.success) / executions) : NONE,
    failed === null ? "" : t("failed", { count: failed }),
  );
  const costs = new Map();
  for (const { cost_estimate: estimate } of known) {
    if (!Number.isInteger(estimate?.exponent)) continue;
    const sum = costs.get(estimate.currency)?.amount_minor ?? 0;
    costs.set(estimate.currency, { ...estimate, amount_minor: sum + estimate.amount_minor });
  }
  const amounts = [...costs.values()].map(money);
  cost.update(amounts.join(" + ") || NONE, t("costHelp"));
  const reporting = known.filter((usage) => usage.open_executions !== null);
  open.update(count(sumOf(reporting, (usage) => usage.open_executions)));
}

function updateMetering({ book, isOffline, format: { t, ago } }, metering, all) {
  const now = book.now();
  const sources = all.flatMap((usage) => usage.sources);
  const total = sources.length;
  const of = (state) => sources.filter((source) => sourceState(source, now) === state).length;
  const [failing, waiting, stale] = [of("failing"), of("waiting"), of("stale")];
  const oldest = all
    .map((usage) => usage.complete_until)
    .filter((instant) => instant !== null)
    .sort((a, b) => Date.parse(a) - Date.parse(b))[0];
  const losing = sources.filter(isLosing).length;
  const gaps = all.reduce((sum, usage) => sum + gapsOf(usage), 0);
  const note = [
    ...(oldest ? [t("completeAgo", { when: ago(oldest, now) })] : []),
    ...(gaps === 0 ? [] : [t("gapsCount", { count: gaps })]),
  ].join(" · ");
  metering.node.dataset.state = isOffline()
    ? "unknown"
    : failing > 0
      ? "over"
      : losing + waiting + stale > 0
        ? "warning"
        : "ok";
  if (total === 0) metering.update(t("noSources"));
  // Without a connection it is not known whether the sources are still read.
  else if (isOffline()) metering.update(t("unknown"), note);
  else if (failing > 0) metering.update(t("sourcesFailing", { count: failing, total }), note);
  else if (losing > 0) metering.update(t("sourcesLosing", { count: losing, total }), note);
  else if (stale > 0) metering.update(t("sourcesStale", { count: stale, total }), note);
  else if (waiting > 0) metering.update(t("sourcesWaiting", { count: waiting, total }), note);
  else metering.update(t("sourcesCurrent", { count: total }), note);
}
