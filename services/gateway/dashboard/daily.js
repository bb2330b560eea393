// @ts-check
// The period day by day: a bar per day with its failures, and the forecast of the period.

import { el, setAttribute, setText, show, svg } from "./dom.js";
import { correctionLines } from "./parts.js";

const WIDTH = 620;
const HEIGHT = 120;
/** Share of a day's width that its bar takes. */
const BAR_SHARE = 0.78;
/** The smallest bar: a day on which something ran stays visible, however large another day is. */
const BAR_MIN = 2;

const failedOf = (slice) => slice.error + slice.crashed;

/** The days' bars in a box of WIDTH by HEIGHT. Days are placed by time, because one may have 23 or 25 hours. */
export function barsOf({ start, end }, slices) {
  const [from, to] = [Date.parse(start), Date.parse(end)];
  const peak = Math.max(...slices.map((slice) => slice.counted), 1);
  const x = (instant) => ((Date.parse(instant) - from) / (to - from)) * WIDTH;
  return slices
    .filter((slice) => slice.counted > 0)
    .map((slice) => {
      const place = x(slice.end) - x(slice.start);
      const height = Math.max(BAR_MIN, (slice.counted / peak) * HEIGHT);
      return {
        slice,
        x: x(slice.start) + (place * (1 - BAR_SHARE)) / 2,
        width: place * BAR_SHARE,
        height,
        failed: failedOf(slice) === 0 ? 0 : Math.max(1, (failedOf(slice) / slice.counted) * height),
      };
    });
}

export function dailyCard(context) {
  const { format } = context;
  const { t } = format;
  const bars = svg("g");
  const chart = svg(
    "svg",
    { class: "daily", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
    svg("path", { class: "chart-flat", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }),
    bars,
  );
  const [first, last] = [el("span"), el("span")];
  const peak = el("span", { class: "muted" });
  const axis = el("div", { class: "axis muted", "aria-hidden": "true" }, first, peak, last);
  const forecast = el("p", { class: "forecast" });
  const byHand = el("p", { class: "muted small" });
  const message = el("p", { class: "muted" }, t("loading"));
  const node = el(
    "section",
    { class: "card", "aria-labelledby": "daily-title" },
    el("div", { class: "card-head" }, el("h2", { id: "daily-title" }, t("byDay"))),
    chart,
    axis,
    byHand,
    forecast,
    message,
  );
  [chart, axis, byHand, forecast].forEach((part) => show(part, false));

  function draw({ from, to, time_zone: zone, slices }) {
    const largest = slices.reduce((most, slice) => (slice.counted > (most?.counted ?? 0) ? slice : most), null);
    bars.replaceChildren(...barsOf({ start: from, end: to }, slices).map((bar) => barNode(bar, format, zone)));
    const top = largest ? t("peakDay", { count: largest.counted, date: format.dateOfYear(largest.start, zone) }) : "";
    setText(first, format.dateOfYear(from, zone));
    setText(last, format.dateOfYear(new Date(Date.parse(to) - 1).toISOString(), zone));
    setText(peak, top);
    setAttribute(chart, "aria-label", `${t("byDay")}: ${top}`);
    setText(message, t("noDays"));
    [chart, axis].forEach((part) => show(part, largest !== null));
    show(message, largest === null);
  }

  return {
    node,
    update: draw,
    updateForecast(usage) {
      // Corrections are in the period's count but in no day: the days and these lines add up to it.
      const lines = correctionLines(format, usage).map(([label, figure]) => `${label}: ${figure}`);
      setText(byHand, lines.join(" · "));
      show(byHand, lines.length > 0);
      setText(forecast, forecastText(usage, format));
      show(forecast, usage.forecast !== null);
    },
    fail(error) {
      setText(message, t("loadFailed", { reason: error.message }));
      show(message, true);
    },
  };
}

function barNode({ slice, x, width, height, failed }, { t, count, duration, dateOfYear }, zone) {
  const box = (top, high) =>
    `M${x.toFixed(2)} ${(HEIGHT - top).toFixed(2)}h${width.toFixed(2)}v${high.toFixed(2)}h${(-width).toFixed(2)}z`;
  const text = [
    `${dateOfYear(slice.start, zone)}: ${count(slice.counted)}`,
    t("failed", { count: failedOf(slice) }),
    `p50 ${duration(slice.duration_p50_ms)}, p95 ${duration(slice.duration_p95_ms)}`,
  ].join(" · ");
  return svg(
    "g",
    {},
    svg("title", {}, text),
    svg("path", { class: "chart-bars", d: box(height, height) }),
    failed > 0 ? svg("path", { class: "chart-failed", d: box(failed, failed) }) : null,
  );
}

/** "About 9,300 at the period's end (€41.20); the limit is reached on 27 Nov 2026." */
export function forecastText({ forecast }, { t, money, dateOfYear }) {
  if (!forecast) return "";
  const parts = [t("forecastEnd", { count: forecast.counted_at_end })];
  if (forecast.cost_estimate) parts.push(t("forecastCost", { cost: money(forecast.cost_estimate) }));
  if (forecast.limit_reached_on)
    // A date has no time zone: it is read and shown in UTC.
    parts.push(t("forecastLimit", { date: dateOfYear(`${forecast.limit_reached_on}T12:00:00Z`, "UTC") }));
  return parts.join(" · ");
}
