// @ts-check
// All tenants at a glance.

import { archivedCard } from "./archived.js";
import { el, setAttribute, setText, show } from "./dom.js";
import { isolated, stateIcon, stateWord } from "./parts.js";
import { summaryOf } from "./summary.js";
import { tenantRow } from "./tenant_row.js";
import { unmappedCard } from "./unmapped.js";
import { STATES, WINDOW_MINUTES } from "./usage.js";

/** @typedef {import("./api.js").Answers} Answers */

/** From this many tenants on there is a search field. */
const FIND_FROM_TENANTS = 9;

export function overview(context) {
  const { t } = context.format;
  const summary = isolated(summaryOf(context), context.format);
  const unmapped = unmappedCard(context);
  const archived = archivedCard(context);
  const rows = new Map();
  const filter = { state: null, text: "" };
  const body = el("div", { class: "tenants-body", role: "rowgroup" });
  const nothing = el("p", { class: "nothing muted" });
  const chips = stateFilter(context, (state) => {
    filter.state = state;
    update();
  });
  const find = el("input", {
    type: "search",
    class: "find",
    placeholder: t("findTenant"),
    "aria-label": t("findTenant"),
    autocomplete: "off",
    oninput: (event) => {
      filter.text = event.target.value.trim().toLowerCase();
      update();
    },
  });
  const table = el("div", { class: "card tenants", role: "table", "aria-label": t("tenants") }, headings(t), body);
  const welcome = el(
    "div",
    { class: "card welcome" },
    el("h2", {}, t("noTenants")),
    el("p", { class: "muted" }, t("noTenantsHelp")),
  );
  const list = el(
    "section",
    { "aria-labelledby": "tenants-title" },
    el("div", { class: "section-head" }, el("h2", { id: "tenants-title" }, t("tenants")), chips.node, find),
    table,
    nothing,
  );
  const node = el(
    "div",
    { class: "page" },
    el("h1", { class: "hidden-text" }, t("overview")),
    summary.node,
    unmapped.node,
    list,
    welcome,
    archived.node,
  );

  // Time changes every row, an event only one; with hundreds of tenants a redraw of all for each event would
  // be slow.
  function update({ timeMoved = false } = {}) {
    const all = context.book.all();
    forgetGone(all);
    summary.update(all);
    chips.update(all, filter.state);
    const shown = all.filter((usage) => matches(usage, filter));
    for (const usage of shown) {
      if (!rows.has(usage.tenant)) rows.set(usage.tenant, tenantRow(context, usage.tenant));
      rows.get(usage.tenant).update(usage, timeMoved);
    }
    place(
      body,
      shown.map((usage) => rows.get(usage.tenant).node),
    );
    show(find, all.length >= FIND_FROM_TENANTS);
    show(list, all.length > 0);
    show(summary.node, all.length > 0);
    show(welcome, all.length === 0);
    show(table, shown.length > 0);
    show(nothing, all.length > 0 && shown.length === 0);
    setText(nothing, t(filter.text === "" ? "noneInState" : "noMatch"));
  }

  // Drops the rows of removed tenants: on a page that stays open for days they would add up.
  function forgetGone(all) {
    if (rows.size <= all.length) return;
    const there = new Set(all.map((usage) => usage.tenant));
    for (const tenant of rows.keys()) if (!there.has(tenant)) rows.delete(tenant);
  }

  update();
  unmapped.tick();
  archived.tick();
  return {
    node,
    title: t("overview"),
    update,
    tick() {
      update({ timeMoved: true });
      unmapped.tick();
      archived.tick();
    },
  };
}

/** @param {Answers["UsageJson"]} usage */
function matches(usage, { state, text }) {
  const named = [usage.name, usage.tenant, usage.plan].some((word) => String(word).toLowerCase().includes(text));
  return named && (state === null || usage.state === state);
}

// Moves a row only if it is in the wrong place: a row that is removed and inserted again loses the keyboard
// focus.
function place(parent, nodes) {
  const kept = new Set(nodes);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  nodes.forEach((node, index) => {
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
}

function headings(t) {
  const cells = [
    t("tenant"),
    t("usage"),
    t("recent", { minutes: WINDOW_MINUTES }),
    t("success"),
    t("duration"),
    t("costEstimate"),
    t("freshness"),
  ];
  const row = el(
    "div",
    { class: "tenants-row", role: "row" },
    ...cells.map((text) => el("span", { role: "columnheader" }, text)),
  );
  return el("div", { class: "tenants-head", role: "rowgroup" }, row);
}

function stateFilter({ format: { t, count } }, choose) {
  const buttons = [null, ...STATES].map((state) => {
    const number = el("span", { class: "number" });
    const label = el("span", {}, state === null ? t("filterAll") : stateWord(state, t));
    const button = el("button", {
      type: "button",
      class: "filter",
      "data-state": state ?? "all",
      onclick: () => choose(state),
    });
    button.append(...(state === null ? [] : [stateIcon(state)]), label, number);
    return { state, button, number };
  });
  const node = el(
    "div",
    { class: "filters", role: "group", "aria-label": t("filterLabel") },
    ...buttons.map(({ button }) => button),
  );
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
