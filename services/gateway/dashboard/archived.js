// @ts-check
// Archived tenants: removed, with figures that stay readable. Only the operator may list them.

import * as api from "./api.js";
import { el, setText, show } from "./dom.js";
import { drawEach } from "./parts.js";

/** Tenants are archived by hand, and rarely. */
const REFRESH_MS = 60_000;
/** The command line lists more. */
const TENANTS_LISTED = 500;

export function archivedCard(context) {
  const { format } = context;
  const { t } = format;
  const title = el("summary");
  const list = el("ul");
  const more = el("p", { class: "muted small" });
  const node = el(
    "details",
    { class: "card", hidden: true },
    title,
    el("p", { class: "muted small" }, t("archivedHelp")),
    list,
    more,
  );
  let askedAt = null;

  async function refresh() {
    try {
      draw((await api.archivedTenants()).tenants);
    } catch {
      // A tenant's token may not list them; and the last list stays visible if the gateway is unavailable.
    }
  }

  function draw(tenants) {
    show(node, tenants.length > 0);
    setText(title, t("archivedTenants", { count: tenants.length }));
    const item = (line) => el("li", {}, line);
    const shown = tenants.slice(0, TENANTS_LISTED);
    list.replaceChildren(...drawEach(shown, (tenant) => item(linkTo(tenant, context)), item, format));
    const rest = tenants.length - shown.length;
    show(more, rest > 0);
    setText(more, t("archivedMore", { count: rest }));
  }

  return {
    node,
    tick() {
      const now = Date.now();
      if (askedAt !== null && now - askedAt < REFRESH_MS) return;
      askedAt = now;
      return refresh();
    },
  };
}

function linkTo(tenant, context) {
  const link = el("a", { href: `#/tenants/${encodeURIComponent(tenant.id)}` }, tenant.name);
  return el("span", {}, link, " ", el("span", { class: "muted small" }, archivedText(tenant, context)));
}

/** "Archived on 24 November", or only "Archived" if the date was not recorded. */
export function archivedText({ archived_at: at }, { format: { t, moment }, book }) {
  return at === null ? t("archived") : t("archivedOn", { date: moment(at, book.now()) });
}
