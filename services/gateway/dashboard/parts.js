// @ts-check
// Pieces that both views use. Each is built once and updated in place.

import { el, setAttribute, setText, setVariable, show, svg } from "./dom.js";
import { NONE } from "./format.js";
import { BUCKETS, BUCKET_MS, WINDOW_MINUTES, failingSources, isFloor, losingSources } from "./usage.js";

/** @typedef {import("./api.js").Answers} Answers */

const STATE_WORDS = { ok: "stateOk", warning: "stateWarning", over: "stateOver", unknown: "stateUnknown" };

/** The shape shows the state as well as the colour does. */
const STATE_SHAPES = {
  ok: "M2.5 6.4 5 8.8 9.6 3.4",
  warning: "M6 1.6 11 10.4H1Z M6 4.8V7 M6 8.6v.1",
  over: "M3.6 1h4.8L11 3.6v4.8L8.4 11H3.6L1 8.4V3.6Z M6 3.4v3.2 M6 8.5v.1",
  unknown: "M4 4.2a2 2 0 1 1 2.6 2c-.5.2-.6.5-.6 1 M6 9.6v.1",
};

export const stateWord = (state, t) => t(STATE_WORDS[state]);

export function stateIcon(state) {
  const path = svg("path", { d: STATE_SHAPES[state] });
  return svg("svg", { class: "state-icon", viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, path);
}

/** "Within limit", "Near limit", "Over limit", "Unknown". */
export function stateChip({ t }) {
  const text = el("span");
  const node = el("span", { class: "chip" });
  return {
    node,
    /** @param {Answers["UsageJson"]} usage */
    update(usage) {
      const { state } = usage;
      if (node.dataset.state !== state) node.replaceChildren(stateIcon(state), text);
      node.dataset.state = state;
      node.dataset.sure = String(!isFloor(usage));
      setText(text, chipText(usage, t));
    },
  };
}

/** @param {Answers["UsageJson"]} usage */
function chipText(usage, t) {
  if (usage.state !== "ok") return stateWord(usage.state, t);
  if (usage.limit === null) return t("noLimit");
  return t(isFloor(usage) ? "stateOkSoFar" : "stateOk");
}

/**
 * The count, marked if it may be higher, or the word "Unknown".
 * @param {Answers["UsageJson"]} usage
 */
export function countText(usage, { t, count }) {
  if (usage.counted === null) return t("unknown");
  return isFloor(usage) ? t("atLeastMark", { count: usage.counted }) : count(usage.counted);
}

/**
 * What is left of the limit, or by how much it is exceeded.
 * @param {Answers["UsageJson"]} usage
 */
export function leftText(usage, { t }) {
  const { counted, limit, remaining } = usage;
  if (counted === null) return t("unknownHelp");
  if (limit === null) return t("noLimit");
  if (counted > limit) return t("overBy", { count: counted - limit });
  return t(isFloor(usage) ? "leftAtMost" : "left", { count: remaining ?? limit - counted });
}

/**
 * Usage relative to the limit. Beyond the limit the bar is the whole usage and a mark shows the limit, so that "a little
 * over" and "twice as much" look different.
 */
export function usageBar({ t, count, percent }) {
  const node = el(
    "div",
    { class: "meter" },
    el("span", { class: "meter-fill" }),
    el("span", { class: "meter-over" }),
    el("span", { class: "meter-mark warn" }),
    el("span", { class: "meter-mark" }),
  );
  return {
    node,
    /** @param {Answers["UsageJson"]} usage */
    update(usage) {
      const { counted, limit, state } = usage;
      node.dataset.state = state;
      node.dataset.limited = String(limit !== null);
      const share = counted === null || !limit ? 0 : counted / limit;
      const scale = Math.max(1, share);
      setVariable(node, "--fill", String(Math.min(share, 1) / scale));
      setVariable(node, "--beyond", String(Math.max(share - 1, 0) / scale));
      setVariable(node, "--limit-at", String(1 / scale));
      describeBar(node, usage, { t, count, percent });
    },
  };
}

// A meter must have a value and a range; without them the bar is a picture with a description.
function describeBar(node, usage, { t, count, percent }) {
  const { counted, limit, used_percent: share } = usage;
  const used = countText(usage, { t, count });
  const text = limit === null ? `${used}, ${t("noLimit")}` : t("usedOf", { used, limit });
  const isMeter = counted !== null && limit !== null;
  setAttribute(node, "role", isMeter ? "meter" : "img");
  setAttribute(node, "aria-label", isMeter ? t("usage") : text);
  // A picture must not have these: a screen reader would announce a range that does not exist.
  setAttribute(node, "aria-valuemin", isMeter ? 0 : null);
  setAttribute(node, "aria-valuemax", isMeter ? Math.max(limit, counted) : null);
  setAttribute(node, "aria-valuenow", isMeter ? counted : null);
  setAttribute(
    node,
    "aria-valuetext",
    !isMeter ? null : share === null ? text : `${text} (${percent(share / 100, 0)})`,
  );
}

const CHART_HEIGHT = 32;
const BAR_WIDTH = 3;

/** Bars of the last minutes. Unknown time is a dotted line, zero a flat one. */
export function activityChart({ t, count }) {
  const bars = svg("path", { class: "chart-bars" });
  const flat = svg("path", { class: "chart-flat" });
  const unknown = svg("path", { class: "chart-unknown" });
  const box = { viewBox: `0 0 ${BUCKETS * BAR_WIDTH} ${CHART_HEIGHT}`, preserveAspectRatio: "none", role: "img" };
  const node = svg("svg", { class: "chart", ...box }, unknown, flat, bars);
  return {
    node,
    update(series) {
      const peak = Math.max(...series, 1);
      let [barPath, flatPath, unknownPath] = ["", "", ""];
      series.forEach((value, index) => {
        const x = index * BAR_WIDTH;
        const line = `M${x} ${CHART_HEIGHT - 0.5}h${BAR_WIDTH - 1}`;
        if (value === null) unknownPath += index % 2 ? "" : line;
        else if (value === 0) flatPath += line;
        else {
          const height = Math.max(2, (value / peak) * (CHART_HEIGHT - 1));
          barPath += `M${x} ${CHART_HEIGHT}v${-height.toFixed(2)}h${BAR_WIDTH - 1}V${CHART_HEIGHT}z`;
        }
      });
      setAttribute(bars, "d", barPath);
      setAttribute(flat, "d", flatPath);
      setAttribute(unknown, "d", unknownPath);
      setAttribute(
        node,
        "aria-label",
        `${t("recentChart", { minutes: WINDOW_MINUTES })}: ${recentText(series, { t, count })}`,
      );
    },
  };
}

export const recentSum = (series) => series.reduce((sum, value) => sum + (value ?? 0), 0);

export function recentText(series, { t, count }) {
  return series.every((value) => value === null)
    ? t("unknown")
    : t("recentAdded", { count: `+${count(recentSum(series))}` });
}

export function peakText(series, { t }) {
  const peak = Math.max(...series);
  return peak > 0 ? t("peak", { count: peak, seconds: BUCKET_MS / 1_000 }) : "";
}

/**
 * One sentence for each source that needs attention: what is wrong, since when, and the collector's advice; or when
 * executions will be lost.
 */
export function troubles(context) {
  const node = el("ul", { class: "failures" });
  let shown = "";
  return {
    node,
    /** @param {Answers["UsageJson"]} usage */
    update(usage, now) {
      const { format } = context;
      const lines = [
        ...failingSources(usage).map((source) => ({ state: "over", ...failureParts(source, format, now) })),
        ...losingSources(usage).map((source) => lossParts(source, format, now)),
      ];
      const key = JSON.stringify(lines);
      show(node, lines.length > 0);
      if (key === shown) return;
      shown = key;
      node.replaceChildren(
        ...lines.map(({ state, source, reason, since, detail, original }) =>
          el(
            "li",
            { "data-state": state },
            stateIcon(state),
            el(
              "span",
              {},
              el("strong", {}, source),
              " ",
              el("span", { class: "reason" }, `${reason} ${since}`.trim()),
              " ",
              el("span", { class: "detail", title: original }, detail),
            ),
          ),
        ),
      );
    },
  };
}

/**
 * The collector's own sentence is in English and has details. In another language the reader gets the sentence for the
 * reason, and the collector's as a tooltip.
 */
export function failureParts({ source, failing }, { t, moment, language }, now) {
  const attempts = t("attempts", { count: failing.consecutive_failures });
  return {
    source,
    reason: t(`reason_${failing.reason}`),
    since: `${t("failingSince", { time: moment(failing.since, now) })} (${attempts}).`,
    detail: language === "en" ? failing.detail : t(`advice_${failing.reason}`),
    original: failing.detail,
  };
}

const lossParts = ({ source, loss_expected_at }, format, now) => ({
  state: "warning",
  source,
  reason: lossText(loss_expected_at, format, now),
  since: "",
  detail: "",
  original: "",
});

export const lossText = (expectedAt, { t, moment }, now) => t("lossAhead", { time: moment(expectedAt, now) });

/** Executions that a source never showed, and workflows that do not save theirs; empty if there are none. */
export function unseenText(unseen, { t, moment }, now) {
  if (!unseen) return "";
  const { executions_max: max, since, unsaving_workflows: unsaving } = unseen;
  const lines = [];
  if (max > 0) lines.push(t("unseen", { count: max, time: moment(since, now) }));
  if (unsaving > 0) lines.push(t("unsaving", { count: unsaving }));
  return lines.join(" ");
}

/** The clock skew of a source; up to a second is within the measuring error. Empty if it was not measured. */
export function clockText(skew, { t, duration }) {
  if (skew === null) return "";
  if (Math.abs(skew) < 1_000) return t("clockRight");
  return t(skew < 0 ? "clockBehind" : "clockAhead", { by: duration(Math.abs(skew)) });
}

/** A source's warning in the reader's language; an unknown one in the gateway's own words. */
export function warningText(warning, source, { t, moment, duration }, now) {
  const { code, others, since } = warning;
  const skew = source.clock_skew_ms ?? 0;
  const sentence = {
    clock: () => t(skew < 0 ? "warning_clock_behind" : "warning_clock_ahead", { by: duration(Math.abs(skew)) }),
    shared_push_token: () => t("warning_shared_push_token", { count: others.length }),
    same_instance: () => t("warning_same_instance", { others: others.join(", ") }),
    same_address: () => t("warning_same_address", { others: others.join(", ") }),
  }[code];
  if (sentence === undefined) return warning.detail;
  return since === null ? sentence() : `${sentence()} ${t("warningSince", { time: moment(since, now) })}`;
}

/** Which executions are missing, why, and when that was found. */
export function gapText(gap, { t, moment }, now) {
  const { first_execution_id: first, last_execution_id: last } = gap;
  return `${rangeText(first, last, t)}: ${t(`gap_${gap.reason}`)} · ${moment(gap.found_at, now)}`;
}

function rangeText(first, last, t) {
  if (first === "") return t("gapUnknown");
  if (last === "") return t("gapFrom", { first });
  return first === last ? t("gapOne", { first }) : t("gapRange", { first, last });
}

/**
 * Draws each item separately: one that cannot be shown is replaced by what `mark` makes of a sentence, and the others
 * are shown.
 */
export function drawEach(items, draw, mark, { t }) {
  return items.map((item) => {
    try {
      return draw(item);
    } catch (error) {
      console.error("cannot be shown", item, error);
      return mark(brokenMark(error, t));
    }
  });
}

/** Replaces figures that cannot be shown. */
export const brokenMark = (error, t) =>
  el(
    "span",
    { class: "broken", "data-state": "over" },
    stateIcon("over"),
    " ",
    t("cannotBeShown", { reason: String(error) }),
  );

/** A card that shows a note if its figures cannot be shown, without affecting other cards. */
export function isolated(card, { t }) {
  const note = el("p", { class: "card-note", role: "status" });
  show(note, false);
  card.node.append(note);
  return {
    ...card,
    update(...figures) {
      try {
        card.update(...figures);
        note.replaceChildren();
        show(note, false);
      } catch (error) {
        // Logged once: the card is redrawn every few seconds.
        if (note.hidden) console.error("cannot be shown", figures, error);
        note.replaceChildren(brokenMark(error, t));
        show(note, true);
      }
    },
  };
}

/** A label over a figure, with a line beneath. */
export function figure(label, { hint = "" } = {}) {
  const value = el("dd", { class: "figure-value" }, NONE);
  const note = el("dd", { class: "figure-note" }, hint);
  const node = el("div", { class: "figure" }, el("dt", {}, label), value, note);
  return {
    node,
    update(text, noteText = hint) {
      setText(value, text);
      setText(note, noteText);
      show(note, noteText !== "");
    },
  };
}

/** The operator's corrections as lines of label and figure; none if there are no corrections. */
export function correctionLines({ t, count }, { adjusted, voided }) {
  const lines = [
    ["adjusted", adjusted],
    ["voided", voided],
  ];
  return lines.filter(([, figure]) => Boolean(figure)).map(([key, figure]) => [t(key), count(figure)]);
}
