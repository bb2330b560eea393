// @ts-check
// Refused runs of the current period, by reason and workflow. Shadow refusals have a column of their own.

import { el, setText, show } from "./dom.js";
import { drawEach } from "./parts.js";

/** Rows that are shown; the smaller ones are summed in one line. */
const ROWS_SHOWN = 10;

/** A reason in the reader's language; the name of a reason that is newer than this page. */
export function reasonName(reason, t) {
  const key = `refusal_${reason}`;
  const text = t(key);
  return text === key ? reason : text;
}

const plus = (one, other) => ({
  refused: one.refused + other.refused,
  would_be_refused: one.would_be_refused + other.would_be_refused,
});

export function refusalsCard({ format }) {
  const { t, count } = format;
  const head = el("tr");
  const body = el("tbody");
  const foot = el("tfoot");
  const table = el(
    "table",
    { class: "refusals", "aria-labelledby": "refusals-title" },
    el("thead", {}, head),
    body,
    foot,
  );
  const message = el("p", { class: "muted" }, t("loading"));
  const node = el(
    "section",
    { class: "card", "aria-labelledby": "refusals-title" },
    el("div", { class: "card-head" }, el("h2", { id: "refusals-title" }, t("refusedRuns"))),
    el("div", { class: "scroll" }, table),
    message,
  );
  show(table, false);

  /** A column without a run is left out. */
  function draw({ rows, totals, omitted }) {
    const columns = [
      ["refused", "refusedCount"],
      ["would_be_refused", "wouldBeRefused"],
    ].filter(([figure]) => totals[figure] > 0);
    const figures = (runs) => columns.map(([figure]) => el("td", { class: "number" }, count(runs[figure])));
    const line = (label, runs) => el("tr", {}, el("th", { scope: "row", colspan: 2 }, label), ...figures(runs));
    const names = ["reason", "workflow"].map((key) => el("th", { scope: "col" }, t(key)));
    head.replaceChildren(...names, ...columns.map(([, key]) => el("th", { scope: "col", class: "number" }, t(key))));
    const row = (one) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, reasonName(one.reason, t)),
        el("td", {}, workflowOf(one, t)),
        ...figures(one),
      );
    const mark = (sentence) => el("tr", {}, el("td", { colspan: 2 + columns.length }, sentence));
    body.replaceChildren(...drawEach(rows.slice(0, ROWS_SHOWN), row, mark, format));
    const smaller = rows.slice(ROWS_SHOWN).reduce(plus, omitted);
    const hasSmaller = smaller.refused + smaller.would_be_refused > 0;
    foot.replaceChildren(...(hasSmaller ? [line(t("otherRefusals"), smaller)] : []), line(t("total"), totals));
    show(table, columns.length > 0);
    setText(message, t("noRefusals"));
    show(message, columns.length === 0);
  }

  return {
    node,
    update: draw,
    fail(error) {
      setText(message, t("loadFailed", { reason: error.message }));
      show(message, true);
    },
  };
}

function workflowOf({ workflow, name, is_further: isFurther }, t) {
  if (workflow !== null) return name ?? workflow;
  return el("span", { class: "muted" }, t(isFurther ? "furtherWorkflows" : "noWorkflowNamed"));
}
