// @ts-check
// The tenant's sources: how far each is counted, why it cannot be read, and what is missing.

import { el, setAttribute, setText, show } from "./dom.js";
import { brokenMark, clockText, drawEach, failureParts, gapText, lossText, unseenText, warningText } from "./parts.js";
import { isLosing, sourceState } from "./usage.js";

/** @typedef {import("./api.js").Answers} Answers */

/** Gaps that a row lists; the command line lists all. */
const GAPS_LISTED = 5;

const WORDS = {
  failing: "sourceFailing",
  waiting: "sourceWaiting",
  stale: "sourceStale",
  paused: "sourcePaused",
  current: "sourceOk",
};
const COLOURS = { failing: "over", waiting: "unknown", stale: "warning", paused: "unknown", current: "ok" };

export function sourcesCard(context) {
  const { t, count } = context.format;
  const total = el("span", { class: "muted" });
  const list = el("ul", { class: "sources" });
  const none = el("p", { class: "muted" }, t("noSources"));
  const node = el(
    "section",
    { class: "card", "aria-labelledby": "sources-title" },
    el("div", { class: "card-head" }, el("h2", { id: "sources-title" }, t("sources")), total),
    list,
    none,
  );
  const rows = new Map();
  return {
    node,
    update({ sources }) {
      setText(total, count(sources.length));
      show(none, sources.length === 0);
      for (const source of sources) {
        if (!rows.has(source.source)) rows.set(source.source, sourceRow(context));
        rows.get(source.source).update(source);
      }
      const there = new Set(sources.map((source) => source.source));
      for (const source of rows.keys()) if (!there.has(source)) rows.delete(source);
      const nodes = sources.map((source) => rows.get(source.source).node);
      if (nodes.length !== list.childElementCount || nodes.some((row, index) => row !== list.children[index]))
        list.replaceChildren(...nodes);
    },
    /** Updates the latest gaps of the sources that have any. */
    updateGaps(gaps) {
      const bySource = new Map(gaps.map((one) => [one.source, one]));
      for (const [source, row] of rows) row.updateGaps(bySource.get(source));
    },
  };
}

function sourceRow(context) {
  const { format } = context;
  const { t, moment, ago, full } = format;
  const name = el("span", { class: "strong" });
  const state = el("span", { class: "source-state" });
  const complete = el("span", { class: "muted small" });
  const open = el("span", { class: "muted small" });
  const clock = el("span", { class: "muted small" });
  const failure = el("p", { class: "source-failure" });
  const loss = el("p", { class: "source-loss" });
  const unseen = el("p", { class: "muted small" });
  const warnings = el("div", { class: "source-warnings" });
  const gaps = gapList(context);
  const node = el(
    "li",
    {},
    el("div", { class: "line spread" }, name, state),
    el("div", { class: "line spread" }, complete, clock, open),
    failure,
    loss,
    warnings,
    unseen,
    gaps.node,
  );
  const broken = el("p", { class: "source-failure" });
  node.append(broken);
  return {
    node,
    updateGaps: gaps.update,
    /** @param {Answers["SourceFreshnessJson"]} source */
    update(source) {
      setText(name, source.source);
      try {
        draw(source);
        broken.replaceChildren();
        show(broken, false);
      } catch (error) {
        // Earlier figures must not stay beside the note.
        [state, complete, open, clock].forEach((part) => setText(part, ""));
        [failure, loss, unseen, warnings].forEach((part) => show(part, false));
        broken.replaceChildren(brokenMark(error, t));
        show(broken, true);
      }
    },
  };

  /** @param {Answers["SourceFreshnessJson"]} source */
  function draw(source) {
    const now = context.book.now();
    const stands = sourceState(source, now);
    setText(state, t(WORDS[stands]));
    state.dataset.state = COLOURS[stands];
    const until = source.complete_until;
    setText(
      complete,
      until === null ? t("notSwept") : `${t("complete", { time: moment(until, now) })} · ${ago(until, now)}`,
    );
    setAttribute(complete, "title", until === null ? null : full(until));
    setText(open, source.open_executions === null ? "" : t("open", { count: source.open_executions }));
    setText(clock, clockText(source.clock_skew_ms ?? null, format));
    show(loss, isLosing(source));
    if (isLosing(source)) setText(loss, lossText(source.loss_expected_at, format, now));
    const unseenSaid = unseenText(source.unseen, format, now);
    show(unseen, unseenSaid !== "");
    setText(unseen, unseenSaid);
    const lines = (source.warnings ?? []).map((warning) =>
      el("p", { class: "source-loss" }, warningText(warning, source, format, now)),
    );
    show(warnings, lines.length > 0);
    warnings.replaceChildren(...lines);
    show(failure, stands === "failing");
    if (stands !== "failing") return;
    const { reason, since, detail, original } = failureParts(source, format, now);
    setText(failure, `${reason} ${since} ${detail}`);
    setAttribute(failure, "title", original);
  }
}

/** The latest gaps of a source, newest first. */
function gapList(context) {
  const { format } = context;
  const total = el("p", { class: "small", title: format.t("gapsHelp") });
  const list = el("ul", { class: "gaps" });
  const node = el("div", { class: "source-gaps" }, total, list);
  show(node, false);
  return {
    node,
    update(gaps) {
      show(node, gaps !== undefined);
      if (gaps === undefined) return;
      const { t } = format;
      const now = context.book.now();
      const listed = gaps.recent.slice(0, GAPS_LISTED);
      const item = (line) => el("li", { class: "muted small" }, line);
      const lines = drawEach(listed, (gap) => item(gapText(gap, format, now)), item, format);
      const rest = gaps.count - listed.length;
      if (rest > 0) lines.push(item(t("gapsMore", { count: rest })));
      setText(total, t("gapsCount", { count: gaps.count }));
      list.replaceChildren(...lines);
    },
  };
}
