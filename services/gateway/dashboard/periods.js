// @ts-check
// Closed periods: final figures, newest first.

import { el, setText, setVariable, show } from "./dom.js";
import { correctionLines, drawEach } from "./parts.js";
import { failedOf, isFailing, meanDuration } from "./usage.js";

/** Columns of the table. */
const COLUMNS = 7;

export function periodsCard({ format }) {
  const { t } = format;
  const body = el("tbody");
  const heads = ["period", "counted", "successRate", "errors", "meanDuration", "closed"].map((key, index) =>
    el("th", { scope: "col", class: index > 0 && index < 5 ? "number" : null }, t(key)),
  );
  heads.splice(1, 0, el("th", { class: "bar-column" }, el("span", { class: "hidden-text" }, t("counted"))));
  const table = el(
    "table",
    { class: "periods", "aria-labelledby": "periods-title" },
    el("thead", {}, el("tr", {}, ...heads)),
    body,
  );
  const message = el("p", { class: "muted" }, t("loading"));
  const node = el(
    "section",
    { class: "card", "aria-labelledby": "periods-title" },
    el("div", { class: "card-head" }, el("h2", { id: "periods-title" }, t("closedPeriods"))),
    el("div", { class: "scroll" }, table),
    message,
  );
  show(table, false);
  return {
    node,
    update({ periods }) {
      const largest = Math.max(...periods.map((closed) => closed.counted), 1);
      const mark = (sentence) => el("tr", {}, el("td", { colspan: COLUMNS }, sentence));
      body.replaceChildren(...drawEach(periods, (closed) => row(format, closed, largest), mark, format));
      setText(message, t("noClosedPeriods"));
      show(table, periods.length > 0);
      show(message, periods.length === 0);
    },
    fail(error) {
      setText(message, t("loadFailed", { reason: error.message }));
      show(message, true);
    },
  };
}

function row(format, closed, largest) {
  const { t, count, percent, duration, days, dateOfYear, full } = format;
  const bar = el("span", { class: "history", "aria-hidden": "true" }, el("span", { class: "history-late" }));
  setVariable(bar, "--share", String(closed.counted / largest));
  setVariable(bar, "--late", String(closed.counted === 0 ? 0 : Math.min(1, closed.late / closed.counted)));
  const incomplete = closed.incomplete_sources.length > 0;
  const notes = [
    closed.late > 0
      ? el("span", { class: "note", "data-state": "unknown" }, t("lateFound", { count: closed.late }))
      : null,
    ...correctionLines(format, closed).map(([label, figure]) => el("span", { class: "note" }, `${label}: ${figure}`)),
    incomplete
      ? el(
          "span",
          { class: "note", "data-state": "warning" },
          t("incomplete", { sources: closed.incomplete_sources.join(", ") }),
        )
      : null,
  ];
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, days(closed.period, { day: "numeric", month: "short", year: "numeric" })),
    el("td", { class: "bar-column" }, bar),
    el("td", { class: "number strong" }, count(closed.counted)),
    el("td", { class: "number" }, percent(closed.success_rate)),
    el("td", { class: "number", "data-bad": String(isFailing(closed)) }, count(failedOf(closed))),
    el("td", { class: "number" }, duration(meanDuration(closed))),
    el(
      "td",
      { title: full(closed.closed_at) },
      el("span", { class: "muted" }, dateOfYear(closed.closed_at)),
      ...notes.flatMap((note) => (note ? [" ", note] : [])),
    ),
  );
}
