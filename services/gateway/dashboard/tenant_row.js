// @ts-check
// One tenant in the list.

import { el, setAttribute, setText, show } from "./dom.js";
import { activityChart, brokenMark, countText, leftText, recentText, stateChip, troubles, usageBar } from "./parts.js";
import {
  WINDOW_MINUTES,
  failedOf,
  failingSources,
  gapsOf,
  isFailing,
  isReadable,
  losingSources,
  meanDuration,
  sourceState,
} from "./usage.js";

/** @typedef {import("./api.js").Answers} Answers */

function cell(label, ...children) {
  return el("div", { class: "tenants-cell", role: "cell", "data-label": label }, ...children);
}

export function tenantRow(context, tenant) {
  const { format } = context;
  const { t } = format;
  const chip = stateChip(format);
  const bar = usageBar(format);
  const chart = activityChart(format);
  const trouble = troubles(context);
  const text = (name) => el("span", { class: name });
  const parts = {
    name: el("a", { class: "tenant-link", href: `#/tenants/${encodeURIComponent(tenant)}` }),
    plan: text("muted small"),
    used: text("used"),
    limit: text("muted"),
    percent: text("percent"),
    left: text("muted small"),
    resets: text("muted small"),
    recent: text("muted small"),
    success: text("value"),
    failed: text("muted small"),
    duration: text("value"),
    mean: text("muted small"),
    cost: text("value"),
    costNote: text("muted small"),
    fresh: text("value"),
    open: text("muted small"),
  };
  const cells = [
    el(
      "div",
      { class: "tenants-cell tenant-name", role: "rowheader" },
      parts.name,
      el("span", { class: "line" }, chip.node, parts.plan),
    ),
    cell(
      t("usage"),
      el("span", { class: "line spread" }, el("span", {}, parts.used, " ", parts.limit), parts.percent),
      bar.node,
      el("span", { class: "line spread" }, parts.left, parts.resets),
    ),
    cell(t("recent", { minutes: WINDOW_MINUTES }), chart.node, parts.recent),
    cell(t("success"), parts.success, parts.failed),
    cell(t("duration"), parts.duration, parts.mean),
    cell(t("costEstimate"), parts.cost, parts.costNote),
    cell(t("freshness"), parts.fresh, parts.open),
  ];
  cells[1].classList.add("cell-usage");
  cells[2].classList.add("cell-chart");
  const troubleCell = el("div", { class: "failures-cell", role: "cell", "aria-colspan": cells.length }, trouble.node);
  const node = el("div", { class: "tenants-row", role: "row" }, ...cells, troubleCell);
  const broken = brokenRow(tenant, cells.length, format);
  let drawn = null;

  /** @param {Answers["UsageJson"]} usage */
  function draw(usage) {
    if (!isReadable(usage)) throw new TypeError("not a tenant's figures");
    const now = context.book.now();
    node.dataset.state = usage.state;
    chip.update(usage);
    bar.update(usage);
    const series = context.book.activity.series([usage.tenant]);
    chart.update(series);
    setText(parts.recent, recentText(series, format));
    writeUsage(parts, usage, format, now);
    writeFigures(parts, usage, format, now);
    trouble.update(usage, now);
    show(troubleCell, failingSources(usage).length + losingSources(usage).length > 0);
  }

  return {
    node,
    /** @param {Answers["UsageJson"]} usage */
    update(usage, timeMoved) {
      if (drawn === usage && !timeMoved) return;
      drawn = usage;
      try {
        draw(usage);
        if (node.contains(troubleCell)) return;
        node.replaceChildren(...cells, troubleCell);
      } catch (error) {
        // A row with half new and half old figures would be wrong: none is shown.
        if (node.contains(troubleCell)) console.error("a row cannot be shown", usage, error);
        node.dataset.state = "unknown";
        broken.update(usage, error);
        node.replaceChildren(...broken.cells);
      }
    },
  };
}

function brokenRow(tenant, columns, { t }) {
  const name = el("a", { class: "tenant-link", href: `#/tenants/${encodeURIComponent(tenant)}` });
  const mark = el("div", { class: "failures-cell", role: "cell", "aria-colspan": columns - 1 });
  return {
    cells: [el("div", { class: "tenants-cell tenant-name", role: "rowheader" }, name), mark],
    /** @param {Answers["UsageJson"]} usage */
    update(usage, error) {
      setText(name, typeof usage.name === "string" ? usage.name : tenant);
      mark.replaceChildren(brokenMark(error, t));
    },
  };
}

function writeUsage(parts, usage, format, now) {
  const { t, until, percent, count, days, full } = format;
  setText(parts.name, usage.name);
  setText(parts.plan, usage.plan);
  setText(parts.used, countText(usage, format));
  setText(parts.limit, usage.limit === null ? "" : `/ ${count(usage.limit)}`);
  setText(parts.percent, usage.used_percent === null ? "" : percent(usage.used_percent / 100, 0));
  setText(parts.left, leftText(usage, format));
  setText(parts.resets, `${days(usage.period)} · ${t("resets", { when: until(usage.period.end, now) })}`);
  setAttribute(parts.resets, "title", full(usage.period.end));
}

function writeFigures(parts, usage, { t, ...format }, now) {
  const failed = failedOf(usage);
  const mean = meanDuration(usage);
  setText(parts.success, format.percent(usage.success_rate));
  parts.success.dataset.bad = String(isFailing(usage));
  setText(parts.failed, !usage.counted ? "" : t("failed", { count: failed }));
  setText(parts.duration, format.duration(usage.duration_ms));
  setText(parts.mean, mean === null ? "" : t("mean", { duration: format.duration(mean) }));
  setText(parts.cost, format.money(usage.cost_estimate));
  setText(parts.costNote, usage.cost_estimate === null && usage.counted !== null ? t("noPrice") : "");
  setText(parts.fresh, usage.complete_until === null ? t("never") : format.ago(usage.complete_until, now));
  setAttribute(parts.fresh, "title", usage.complete_until === null ? null : format.full(usage.complete_until));
  const gaps = gapsOf(usage);
  const notes = [
    ...(usage.open_executions === null ? [] : [t("open", { count: usage.open_executions })]),
    ...(gaps === 0 ? [] : [t("gapsCount", { count: gaps })]),
  ];
  setText(parts.open, notes.join(" · "));
  setAttribute(parts.open, "title", gaps === 0 ? null : t("gapsHelp"));
  const states = usage.sources.map((source) => sourceState(source, now));
  const fresh = states.includes("failing")
    ? "over"
    : losingSources(usage).length > 0 || states.some((state) => state === "waiting" || state === "stale")
      ? "warning"
      : "ok";
  parts.fresh.dataset.fresh = states.length === 0 ? "none" : fresh;
}
