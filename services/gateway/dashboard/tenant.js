// @ts-check
// One tenant: its period, the limit check, its sources, workflows and closed periods.

import * as api from "./api.js";
import { archivedText } from "./archived.js";
import { dailyCard } from "./daily.js";
import { el, setAttribute, setText, show } from "./dom.js";
import { limitCheckCard } from "./limit_check.js";
import {
  activityChart,
  countText,
  figure,
  isolated,
  leftText,
  peakText,
  recentText,
  stateChip,
  usageBar,
} from "./parts.js";
import { periodsCard } from "./periods.js";
import { refusalsCard } from "./refusals.js";
import { sourcesCard } from "./sources.js";
import { WINDOW_MINUTES, isFailing, isFloor, meanDuration } from "./usage.js";
import { workflowsCard } from "./workflows.js";

/** @typedef {import("./api.js").Answers} Answers */

/** Workflows and the limit check are fetched again after an event, at most this often. */
const REFRESH_MIN_MS = 3_000;

export function tenantView(context, tenant, { alone }) {
  const usage = context.book.get(tenant);
  if (!usage) return archivedView(context, tenant);
  return tenantPage(context, tenant, { alone, current: () => context.book.get(tenant) });
}

/** A tenant that is not in the list: it is either archived or not found. */
function archivedView(context, tenant) {
  const { t } = context.format;
  const node = el("div", { class: "page" }, el("p", { class: "muted" }, t("loading")));
  let page = notFound(context, tenant);
  const show = (shown) => {
    page = shown;
    node.replaceChildren(shown.node);
  };
  load(context, api.tenantUsage(tenant), {
    /** @param {Answers["UsageJson"]} usage */
    update(usage) {
      if (usage.archived) show(tenantPage(context, tenant, { alone: false, current: () => usage }));
      else show(page);
    },
    fail: () => show(page),
  });
  return {
    node,
    title: tenant,
    update: () => page.update(),
    tick: () => page.tick(),
    close: () => page.close?.(),
  };
}

function tenantPage(context, tenant, { alone, current }) {
  const usage = current();
  const head = isolated(heading(context, alone), context.format);
  const period = isolated(periodCard(context), context.format);
  const check = limitCheckCard(context);
  const sources = isolated(sourcesCard(context), context.format);
  const workflows = workflowsCard(context);
  const refusals = refusalsCard(context);
  const periods = periodsCard(context);
  const daily = dailyCard(context);
  const node = el(
    "div",
    { class: "page" },
    head.node,
    el(
      "div",
      { class: "columns" },
      el("div", { class: "column" }, period.node),
      // Nothing runs for an archived tenant: there is nothing to check and nothing to sweep.
      el("div", { class: "column" }, ...(usage.archived ? [] : [check.node, sources.node])),
    ),
    daily.node,
    workflows.node,
    refusals.node,
    periods.node,
  );

  const detail = {
    /** @param {Answers["UsageDetail"]} usage */
    update(usage) {
      try {
        workflows.update(usage);
      } finally {
        try {
          daily.updateForecast(usage);
        } finally {
          sources.updateGaps(usage.gaps);
        }
      }
    },
    fail: workflows.fail,
  };
  // The workflows are shown even without durations.
  const durations = { update: workflows.updateDurations, fail() {} };
  const refresh = throttled(REFRESH_MIN_MS, () => {
    load(context, api.tenantUsage(tenant), detail);
    if (!usage.archived) load(context, api.limitCheck(tenant), check);
    load(context, api.dailySeries(tenant), daily);
    load(context, api.topWorkflows(tenant), durations);
    load(context, api.refusals(tenant), refusals);
  });

  function draw() {
    const now = current();
    if (!now) return;
    [head, period, sources].forEach((part) => part.update(now));
  }

  draw();
  refresh();
  load(context, api.closedPeriods(tenant), periods);
  let periodStart = usage.period?.start;
  return {
    node,
    title: String(usage.name),
    update() {
      const now = current();
      draw();
      // The figures of an archived tenant change only by a correction, which the next visit shows.
      if (!usage.archived) refresh();
      if (now && now.period?.start !== periodStart) {
        periodStart = now.period?.start;
        load(context, api.closedPeriods(tenant), periods);
      }
    },
    tick: () => {
      draw();
      check.tick();
    },
    close: refresh.cancel,
  };
}

function notFound({ format: { t } }, tenant) {
  const node = el(
    "div",
    { class: "page" },
    backLink(t),
    el("h1", { class: "hidden-text" }, t("tenant")),
    el("p", { class: "notice" }, t("notFound", { tenant })),
  );
  return { node, title: t("tenants"), update() {}, tick() {} };
}

async function load(context, request, part) {
  try {
    part.update(await request);
  } catch (error) {
    if (error.status === 401) context.onSessionEnd();
    else part.fail(error);
  }
}

/** Runs at once, then at most once per interval; a call in between runs at the interval's end. */
function throttled(intervalMs, run) {
  let timer = null;
  let again = false;
  const call = () => {
    if (timer !== null) {
      again = true;
      return;
    }
    run();
    timer = setTimeout(() => {
      timer = null;
      if (again) {
        again = false;
        call();
      }
    }, intervalMs);
  };
  call.cancel = () => clearTimeout(timer);
  return call;
}

const backLink = (t) => el("nav", { class: "back" }, el("a", { href: "#/" }, "‹ ", t("allTenants")));

function heading(context, alone) {
  const { format } = context;
  const { t, days, until, full, dateOfYear } = format;
  const name = el("h1");
  const id = el("span", { class: "muted" });
  const chip = stateChip(format);
  const archived = el("span", { class: "chip archived", "data-state": "unknown" });
  const period = el("p", { class: "strong" });
  const resets = el("p", { class: "muted" });
  const node = el(
    "div",
    { class: "tenant-head" },
    ...(alone ? [] : [backLink(t)]),
    el("div", { class: "tenant-title" }, name, chip.node, archived, id),
    el("div", { class: "tenant-period" }, period, resets),
  );
  return {
    node,
    /** @param {Answers["UsageJson"]} usage */
    update(usage) {
      const now = context.book.now();
      setText(name, usage.name);
      setText(id, `${usage.tenant} · ${usage.plan}`);
      chip.update(usage);
      show(chip.node, !usage.archived);
      show(archived, Boolean(usage.archived));
      if (usage.archived) setText(archived, archivedText(usage, context));
      setText(period, days(usage.period, { day: "numeric", month: "long", year: "numeric" }));
      setText(
        resets,
        t("resetsOn", {
          date: dateOfYear(usage.period.end, usage.period.time_zone),
          when: until(usage.period.end, now),
        }),
      );
      setAttribute(resets, "title", full(usage.period.end));
      show(resets, !usage.archived);
    },
  };
}

function periodCard(context) {
  const { format } = context;
  const { t, count } = format;
  const used = el("span", { class: "hero-used" });
  const limit = el("span", { class: "hero-limit" });
  const percent = el("span", { class: "hero-percent" });
  const left = el("span", { class: "muted" });
  const asOf = el("span", { class: "muted" });
  const note = el("p", { class: "card-note" });
  const bar = usageBar(format);
  bar.node.classList.add("large");
  const chart = activityChart(format);
  const recent = el("span", { class: "strong" });
  const peak = el("span", { class: "muted" });
  const axis = el(
    "div",
    { class: "axis muted", "aria-hidden": "true" },
    el("span", {}, t("agoMinutes", { minutes: WINDOW_MINUTES })),
    peak,
    el("span", {}, t("now")),
  );
  const figures = periodFigures(format);
  const node = el(
    "section",
    { class: "card period", "aria-labelledby": "period-title" },
    el("div", { class: "card-head" }, el("h2", { id: "period-title" }, t("thisPeriod")), asOf),
    el("p", { class: "hero" }, used, limit, percent),
    bar.node,
    el("p", { class: "line spread" }, left),
    note,
    el(
      "div",
      { class: "pulse" },
      el(
        "div",
        { class: "pulse-head" },
        el("span", { class: "muted" }, t("recent", { minutes: WINDOW_MINUTES })),
        recent,
      ),
      chart.node,
      axis,
    ),
    figures.node,
  );
  return {
    node,
    /** @param {Answers["UsageJson"]} usage */
    update(usage) {
      const now = context.book.now();
      setText(used, countText(usage, format));
      used.dataset.unknown = String(usage.counted === null);
      setText(
        limit,
        usage.limit === null ? t("executions") : `${t("ofLimit", { limit: count(usage.limit) })} ${t("executions")}`,
      );
      setText(percent, usage.used_percent === null ? "" : format.percent(usage.used_percent / 100, 0));
      percent.dataset.state = usage.state;
      setText(left, leftText(usage, format));
      setText(asOf, usage.as_of === null ? "" : t("asOf", { time: format.moment(usage.as_of, now) }));
      setText(note, usage.counted === null ? t("unknownNote") : t("floorNote"));
      show(note, usage.counted === null || isFloor(usage));
      bar.update(usage);
      const series = context.book.activity.series([usage.tenant]);
      chart.update(series);
      setText(recent, recentText(series, format));
      setText(peak, peakText(series, format));
      figures.update(usage);
    },
  };
}

function periodFigures(format) {
  const { t, count, percent, duration, money } = format;
  const figures = {
    success: figure(t("successRate")),
    errors: figure(t("errors")),
    crashed: figure(t("crashed")),
    canceled: figure(t("canceled")),
    mean: figure(t("meanDuration")),
    total: figure(t("totalDuration")),
    open: figure(t("openExecutions")),
    uncounted: figure(t("uncounted")),
    late: figure(t("late")),
    adjusted: figure(t("adjusted")),
    voided: figure(t("voided")),
    cost: figure(t("costEstimate")),
  };
  setAttribute(figures.open.node, "title", t("openHelp"));
  setAttribute(figures.uncounted.node, "title", t("uncountedHelp"));
  setAttribute(figures.late.node, "title", t("lateHelp"));
  setAttribute(figures.adjusted.node, "title", t("adjustedHelp"));
  setAttribute(figures.voided.node, "title", t("voidedHelp"));
  setAttribute(figures.cost.node, "title", t("costHelp"));
  return {
    node: el("dl", { class: "figures" }, ...Object.values(figures).map(({ node }) => node)),
    /** @param {Answers["UsageJson"]} usage */
    update(usage) {
      figures.success.update(percent(usage.success_rate));
      figures.errors.update(count(usage.error));
      figures.crashed.update(count(usage.crashed));
      figures.canceled.update(count(usage.canceled));
      figures.mean.update(duration(meanDuration(usage)));
      figures.total.update(duration(usage.duration_ms));
      figures.open.update(count(usage.open_executions));
      figures.uncounted.update(count(usage.uncounted));
      figures.late.update(count(usage.late));
      figures.adjusted.update(count(usage.adjusted));
      figures.voided.update(count(usage.voided));
      figures.cost.update(money(usage.cost_estimate));
      figures.success.node.dataset.bad = String(isFailing(usage));
    },
  };
}
