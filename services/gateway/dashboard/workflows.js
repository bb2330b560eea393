// @ts-check
// The workflows of the current period, in a table that can be sorted and searched.

import { el, setAttribute, setText, setVariable, show } from "./dom.js";
import { drawEach } from "./parts.js";
import { failedOf, isFailing } from "./usage.js";

/** @typedef {import("./api.js").Answers} Answers */

/** Rows drawn at first; a tenant may have a thousand workflows, which are redrawn after every event. */
const PAGE_ROWS = 50;
const FIND_FROM_WORKFLOWS = 11;

const keyOf = ({ source, workflow }) => JSON.stringify([source, workflow]);
/** @type {(workflow: Answers["WorkflowJson"]) => string} */
const nameOf = (workflow) => workflow.name ?? workflow.workflow;

/**
 * `read` returns the value by which a column is sorted; figures start with the largest.
 * @type {Column[]}
 */
const COLUMNS = [
  { key: "workflow", read: nameOf },
  { key: "source", read: (workflow) => workflow.source },
  { key: "counted", read: (workflow) => workflow.counted, number: true },
  { key: "successRate", read: (workflow) => workflow.success_rate ?? -1, number: true },
  { key: "failures", read: failedOf, number: true },
  { key: "meanDuration", read: (workflow) => workflow.mean_duration_ms ?? -1, number: true },
  { key: "durationP50", read: (workflow) => workflow.duration_p50_ms ?? -1, number: true },
  { key: "durationP95", read: (workflow) => workflow.duration_p95_ms ?? -1, number: true },
  { key: "uncounted", read: (workflow) => workflow.uncounted, number: true },
];

export function workflowsCard(context) {
  const { t, count } = context.format;
  const view = { column: COLUMNS[2], descending: true, text: "", rows: PAGE_ROWS };
  let answer = null;
  /** From another answer, which may come earlier, later, or not at all. */
  let durations = new Map();
  const heads = COLUMNS.map((column) =>
    heading(t, column, () => {
      sortBy(view, column);
      draw();
    }),
  );
  const body = el("tbody");
  /** The rest of the tenant's count, so that the rows add up to it. */
  const foot = el("tfoot");
  const total = el("span", { class: "muted" });
  const find = el("input", {
    type: "search",
    class: "find",
    placeholder: t("findWorkflow"),
    "aria-label": t("findWorkflow"),
    autocomplete: "off",
    oninput: (event) => {
      view.text = event.target.value.trim().toLowerCase();
      draw();
    },
  });
  const more = el("button", {
    type: "button",
    class: "button quiet",
    onclick: () => {
      view.rows = Infinity;
      draw();
    },
  });
  const message = el("p", { class: "muted" }, t("loading"));
  const omitted = el("p", { class: "muted small" });
  const table = el(
    "table",
    { class: "workflows", "aria-labelledby": "workflows-title" },
    el("thead", {}, el("tr", {}, ...heads)),
    body,
    foot,
  );
  const node = el(
    "section",
    { class: "card", "aria-labelledby": "workflows-title" },
    el("div", { class: "card-head" }, el("h2", { id: "workflows-title" }, t("workflows")), total, find),
    el("div", { class: "scroll" }, table),
    message,
    more,
    omitted,
  );
  [table, find, more, omitted].forEach((part) => show(part, false));

  function draw() {
    const all = answer.workflows.map((workflow) => ({ ...workflow, ...durations.get(keyOf(workflow)) }));
    const found = sorted(
      all.filter((workflow) => matches(workflow, view.text)),
      view,
    );
    const largest = Math.max(...all.map((workflow) => workflow.counted), 1);
    const mark = (sentence) => el("tr", {}, el("td", { colspan: COLUMNS.length }, sentence));
    const rows = found.slice(0, view.rows);
    body.replaceChildren(...drawEach(rows, (workflow) => row(context.format, workflow, largest), mark, context.format));
    foot.replaceChildren(...footRows(context.format, answer));
    heads.forEach((head, index) => {
      const order = COLUMNS[index] !== view.column ? null : view.descending ? "descending" : "ascending";
      setAttribute(head, "aria-sort", order);
    });
    const rest = Math.max(0, found.length - view.rows);
    setText(total, count(all.length + answer.workflows_omitted));
    setText(more, t("showAll", { count: rest }));
    setText(message, t(all.length === 0 ? "noWorkflows" : "noMatch"));
    setText(omitted, t("workflowsOmitted", { count: answer.workflows_omitted }));
    show(table, found.length > 0);
    show(find, all.length >= FIND_FROM_WORKFLOWS);
    show(more, rest > 0);
    show(message, found.length === 0);
    show(omitted, answer.workflows_omitted > 0);
  }

  return {
    node,
    update(detail) {
      answer = detail;
      draw();
    },
    updateDurations({ workflows }) {
      durations = new Map(
        workflows.map((workflow) => {
          const { duration_p50_ms, duration_p95_ms } = workflow;
          return [keyOf(workflow), { duration_p50_ms, duration_p95_ms }];
        }),
      );
      if (answer) draw();
    },
    fail(error) {
      setText(message, t("loadFailed", { reason: error.message }));
      show(message, true);
    },
  };
}

/** @typedef {{ key: string, read: (workflow: any) => any, number?: boolean }} Column */

/**
 * @param {any} t
 * @param {Column} column
 * @param {() => void} sort
 */
function heading(t, { key, number }, sort) {
  return el(
    "th",
    { scope: "col", class: number ? "number" : null },
    el("button", { type: "button", onclick: sort }, t(key === "failures" ? "errors" : key)),
  );
}

function sortBy(view, column) {
  view.descending = view.column === column ? !view.descending : Boolean(column.number);
  view.column = column;
}

/** @param {Answers["WorkflowJson"]} workflow */
const matches = (workflow, text) =>
  [nameOf(workflow), workflow.workflow, workflow.source].some((word) => String(word).toLowerCase().includes(text));

function sorted(workflows, { column, descending }) {
  const sign = descending ? -1 : 1;
  const compare = (a, b) => {
    const [left, right] = [column.read(a), column.read(b)];
    return typeof left === "string" ? left.localeCompare(right, undefined, { numeric: true }) : left - right;
  };
  // The id breaks ties, so that rows do not swap places from one event to the next.
  return [...workflows].sort((a, b) => sign * compare(a, b) || a.workflow.localeCompare(b.workflow));
}

/** The omitted workflows, the adjustment, the total and the voided executions, if there are any. */
function footRows({ t, count }, { counted, adjusted, voided, workflows_omitted_totals: omitted }) {
  if (!omitted && !adjusted && !voided) return [];
  const lines = [
    ...(omitted ? [["otherWorkflows", omitted.counted]] : []),
    ...(adjusted ? [["adjusted", adjusted]] : []),
    ["total", counted],
    ...(voided ? [["voided", voided]] : []),
  ];
  return lines.map(([key, figure]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", colspan: 2 }, t(key)),
      el("td", { class: "number" }, count(figure)),
      el("td", { colspan: COLUMNS.length - 3 }),
    ),
  );
}

function row({ count, percent, duration }, workflow, largest) {
  const bar = el("span", { class: "share", "aria-hidden": "true" });
  setVariable(bar, "--share", String(workflow.counted / largest));
  const number = (text, attributes = {}) => el("td", { class: "number", ...attributes }, text);
  return el(
    "tr",
    {},
    el(
      "th",
      { scope: "row" },
      nameOf(workflow),
      workflow.name === null ? null : el("span", { class: "muted small" }, workflow.workflow),
    ),
    el("td", { class: "muted" }, workflow.source),
    el("td", { class: "number with-share" }, bar, el("span", {}, count(workflow.counted))),
    number(percent(workflow.success_rate)),
    number(count(failedOf(workflow)), { "data-bad": String(isFailing(workflow)) }),
    number(duration(workflow.mean_duration_ms)),
    number(duration(workflow.duration_p50_ms)),
    number(duration(workflow.duration_p95_ms)),
    number(count(workflow.uncounted)),
  );
}
