// All tenants at a glance.

import { el, setAttribute, setText, show } from "./dom.js";
import { NONE } from "./format.js";
import { activityChart, countText, failures, figure, leftText, peakText, recentText, stateChip, stateIcon, stateWord, usageBar } from "./parts.js";
import { STATES, WINDOW_MINUTES, failedOf, failingSources, isFailing, isFloor, meanDuration, sourceState } from "./usage.js";

/** Fewer than this are found by looking. */
const FIND_FROM_TENANTS = 9;

export function overview(context) {
  const { t } = context.format;
  const summary = summaryOf(context);
  const rows = new Map();
  const filter = { state: null, text: "" };
  const body = el("div", { class: "tenants-body", role: "rowgroup" });
  const nothing = el("p", { class: "nothing muted" });
  const chips = stateFilter(context, (state) => { filter.state = state; update(); });
  const find = el("input", {
    type: "search", class: "find", placeholder: t("findTenant"), "aria-label": t("findTenant"), autocomplete: "off",
    oninput: (event) => { filter.text = event.target.value.trim().toLowerCase(); update(); },
  });
  const table = el("div", { class: "card tenants", role: "table", "aria-label": t("tenants") }, headings(t), body);
  const welcome = el("div", { class: "card welcome" }, el("h2", {}, t("noTenants")), el("p", { class: "muted" }, t("noTenantsHelp")));
  const list = el("section", { "aria-labelledby": "tenants-title" },
    el("div", { class: "section-head" }, el("h2", { id: "tenants-title" }, t("tenants")), chips.node, find), table, nothing);
  const node = el("div", { class: "page" }, el("h1", { class: "hidden-text" }, t("overview")), summary.node, list, welcome);

  // Time moves every row; an event moves one, and with hundreds of tenants drawing them all would be felt.
  function update({ timeMoved = false } = {}) {
    const all = context.book.all();
    summary.update(all);
    chips.update(all, filter.state);
    const shown = all.filter((usage) => matches(usage, filter));
    for (const usage of shown) {
      if (!rows.has(usage.tenant)) rows.set(usage.tenant, tenantRow(context, usage.tenant));
      rows.get(usage.tenant).update(usage, timeMoved);
    }
    place(body, shown.map((usage) => rows.get(usage.tenant).node));
    show(find, all.length >= FIND_FROM_TENANTS);
    show(list, all.length > 0);
    show(summary.node, all.length > 0);
    show(welcome, all.length === 0);
    show(table, shown.length > 0);
    show(nothing, all.length > 0 && shown.length === 0);
    setText(nothing, t(filter.text === "" ? "noneInState" : "noMatch"));
  }

  update();
  return { node, title: t("overview"), update, tick: () => update({ timeMoved: true }) };
}

function matches(usage, { state, text }) {
  const named = [usage.name, usage.tenant, usage.plan].some((word) => word.toLowerCase().includes(text));
  return named && (state === null || usage.state === state);
}

// Moves a row only where it stands wrong: a row that is taken out and put back loses the keyboard's focus.
function place(parent, nodes) {
  const kept = new Set(nodes);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  nodes.forEach((node, index) => {
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
}

function headings(t) {
  const cells = [t("tenant"), t("usage"), t("recent", { minutes: WINDOW_MINUTES }), t("success"), t("duration"), t("costEstimate"), t("freshness")];
  const row = el("div", { class: "tenants-row", role: "row" }, ...cells.map((text) => el("span", { role: "columnheader" }, text)));
  return el("div", { class: "tenants-head", role: "rowgroup" }, row);
}

function stateFilter({ format: { t, count } }, choose) {
  const buttons = [null, ...STATES].map((state) => {
    const number = el("span", { class: "number" });
    const label = el("span", {}, state === null ? t("filterAll") : stateWord(state, t));
    const button = el("button", { type: "button", class: "filter", "data-state": state ?? "all", onclick: () => choose(state) });
    button.append(...(state === null ? [] : [stateIcon(state)]), label, number);
    return { state, button, number };
  });
  const node = el("div", { class: "filters", role: "group", "aria-label": t("filterLabel") }, ...buttons.map(({ button }) => button));
  return {
    node,
    update(all, chosen) {
      for (const { state, button, number } of buttons) {
        const total = state === null ? all.length : all.filter((usage) => usage.state === state).length;
        setText(number, count(total));
        setAttribute(button, "aria-pressed", String(state === chosen));
        show(button, state === null || total > 0 || state === chosen);
      }
    },
  };
}

function summaryOf(context) {
  const { t } = context.format;
  const counted = figure(t("countedThisPeriod"));
  const success = figure(t("successRate"));
  const cost = figure(t("costEstimate"));
  const open = figure(t("openExecutions"), { hint: t("openHelp") });
  const metering = figure(t("metering"));
  const chart = activityChart(context.format);
  const recent = el("span", { class: "strong" });
  const peak = el("span", { class: "muted" });
  const pulse = el("div", { class: "pulse" },
    el("div", { class: "pulse-head" }, el("span", { class: "muted" }, t("recent", { minutes: WINDOW_MINUTES })), recent), chart.node, peak);
  const node = el("section", { class: "card summary", "aria-label": t("overview") },
    el("dl", { class: "summary-lead" }, counted.node), pulse,
    el("dl", { class: "summary-rest" }, success.node, cost.node, open.node, metering.node));
  return {
    node,
    update(all) {
      const known = all.filter((usage) => usage.counted !== null);
      updateTotals(context, { counted, success, cost, open }, known, all.length - known.length);
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
  const failed = sumOf(known, failedOf);
  const least = unknown > 0 || known.some(isFloor);
  counted.update(total === null ? t("unknown") : least ? t("atLeastMark", { count: total }) : count(total), unknown > 0 ? t("tenantsUnknown", { count: unknown }) : t("countedHelp"));
  success.update(total ? percent(sumOf(known, (usage) => usage.success) / total) : NONE, failed === null ? "" : t("failed", { count: failed }));
  const costs = new Map();
  for (const { cost_estimate: estimate } of known) {
    if (estimate) costs.set(estimate.currency, (costs.get(estimate.currency) ?? 0) + estimate.amount_minor);
  }
  const amounts = [...costs].map(([currency, amount_minor]) => money({ currency, amount_minor }));
  cost.update(amounts.join(" + ") || NONE, t("costHelp"));
  const reporting = known.filter((usage) => usage.open_executions !== null);
  open.update(count(sumOf(reporting, (usage) => usage.open_executions)));
}

function updateMetering({ book, isLive, format: { t, ago } }, metering, all) {
  const now = book.now();
  const sources = all.flatMap((usage) => usage.sources);
  const total = sources.length;
  const of = (state) => sources.filter((source) => sourceState(source, now) === state).length;
  const [failing, waiting, stale] = [of("failing"), of("waiting"), of("stale")];
  const oldest = all.map((usage) => usage.complete_until).filter((instant) => instant !== null).sort((a, b) => Date.parse(a) - Date.parse(b))[0];
  const note = oldest ? t("completeAgo", { when: ago(oldest, now) }) : "";
  metering.node.dataset.state = !isLive() ? "unknown" : failing > 0 ? "over" : waiting + stale > 0 ? "warning" : "ok";
  if (total === 0) metering.update(t("noSources"));
  // Without a connection nobody knows whether the sources are still read.
  else if (!isLive()) metering.update(t("unknown"), note);
  else if (failing > 0) metering.update(t("sourcesFailing", { count: failing, total }), note);
  else if (stale > 0) metering.update(t("sourcesStale", { count: stale, total }), note);
  else if (waiting > 0) metering.update(t("sourcesWaiting", { count: waiting, total }), note);
  else metering.update(t("sourcesCurrent", { count: total }), note);
}

function cell(label, ...children) {
  return el("div", { class: "tenants-cell", role: "cell", "data-label": label }, ...children);
}

function tenantRow(context, tenant) {
  const { format } = context;
  const { t } = format;
  const chip = stateChip(format);
  const bar = usageBar(format);
  const chart = activityChart(format);
  const failing = failures(context);
  const text = (name) => el("span", { class: name });
  const parts = {
    name: el("a", { class: "tenant-link", href: `#/tenants/${encodeURIComponent(tenant)}` }), plan: text("muted small"),
    used: text("used"), limit: text("muted"), percent: text("percent"), left: text("muted small"), resets: text("muted small"),
    recent: text("muted small"), success: text("value"), failed: text("muted small"), duration: text("value"), mean: text("muted small"),
    cost: text("value"), costNote: text("muted small"), fresh: text("value"), open: text("muted small"),
  };
  const cells = [
    el("div", { class: "tenants-cell tenant-name", role: "rowheader" }, parts.name, el("span", { class: "line" }, chip.node, parts.plan)),
    cell(t("usage"), el("span", { class: "line spread" }, el("span", {}, parts.used, " ", parts.limit), parts.percent), bar.node,
      el("span", { class: "line spread" }, parts.left, parts.resets)),
    cell(t("recent", { minutes: WINDOW_MINUTES }), chart.node, parts.recent),
    cell(t("success"), parts.success, parts.failed),
    cell(t("duration"), parts.duration, parts.mean),
    cell(t("costEstimate"), parts.cost, parts.costNote),
    cell(t("freshness"), parts.fresh, parts.open),
  ];
  cells[1].classList.add("cell-usage");
  cells[2].classList.add("cell-chart");
  const failingCell = el("div", { class: "failures-cell", role: "cell", "aria-colspan": cells.length }, failing.node);
  const node = el("div", { class: "tenants-row", role: "row" }, ...cells, failingCell);
  let drawn = null;
  return {
    node,
    update(usage, timeMoved) {
      if (drawn === usage && !timeMoved) return;
      drawn = usage;
      const now = context.book.now();
      node.dataset.state = usage.state;
      chip.update(usage);
      bar.update(usage);
      const series = context.book.activity.series([usage.tenant]);
      chart.update(series);
      setText(parts.recent, recentText(series, format));
      writeUsage(parts, usage, format, now);
      writeFigures(parts, usage, format, now);
      failing.update(failingSources(usage), now);
      show(failingCell, failingSources(usage).length > 0);
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
  setText(parts.open, usage.open_executions === null ? "" : t("open", { count: usage.open_executions }));
  const states = usage.sources.map((source) => sourceState(source, now));
  const fresh = states.includes("failing") ? "over" : states.some((state) => state === "waiting" || state === "stale") ? "warning" : "ok";
  parts.fresh.dataset.fresh = states.length === 0 ? "none" : fresh;
}
