// @ts-check
// Executions that belong to no tenant. Only the operator can map them.

import * as api from "./api.js";
import { el, setText, show } from "./dom.js";
import { drawEach } from "./parts.js";

/** @typedef {import("./api.js").Answers} Answers */

/** New ones come with sweeps, and the request is cheap. */
const REFRESH_MS = 60_000;
/** The largest; the command line lists all. */
const WORKFLOWS_LISTED = 10;

export function unmappedCard(context) {
  const { format } = context;
  const { t } = format;
  const title = el("h2", { id: "unmapped-title" });
  const list = el("ul");
  const more = el("p", { class: "muted small" });
  const node = el(
    "section",
    { class: "card", "aria-labelledby": "unmapped-title", hidden: true },
    el("div", { class: "card-head" }, title),
    el("p", { class: "muted small" }, t("unmappedHelp")),
    list,
    more,
  );
  let askedAt = null;

  async function refresh() {
    try {
      draw(await api.unmapped());
    } catch {
      // The last list stays visible: while the aggregator is unavailable nothing is mapped.
    }
  }

  /** @param {Answers["UnmappedList"]} answer */
  function draw(answer) {
    show(node, answer.executions > 0);
    setText(title, t("unmapped", { count: answer.executions }));
    const shown = answer.workflows.slice(0, WORKFLOWS_LISTED);
    const item = (line) => el("li", {}, line);
    list.replaceChildren(...drawEach(shown, (workflow) => item(lineOf(workflow, format)), item, format));
    const rest = answer.workflows_total - shown.length;
    show(more, rest > 0);
    setText(more, t("unmappedMore", { count: rest }));
  }

  return {
    node,
    tick() {
      const now = Date.now();
      if (askedAt !== null && now - askedAt < REFRESH_MS) return;
      askedAt = now;
      refresh();
    },
  };
}

function lineOf({ source, workflow, name, tags, project, executions }, { t, count }) {
  const where = [source, ...(project === null ? [] : [project]), ...tags].join(" · ");
  return t("unmappedLine", { count: count(executions), name: name ?? workflow, where });
}
