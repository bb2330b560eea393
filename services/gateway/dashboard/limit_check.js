// @ts-check
// What the limit check would answer now: a preview that reserves nothing.

import { el, setAttribute, setText, show } from "./dom.js";
import { NONE } from "./format.js";

/**
 * The reason for the answer in the reader's language; the answer's own message is in the tenant's. That message is used
 * if the reason is newer than this page.
 */
export function reasonText(admission, { t, moment }, now) {
  const { allowed, reason, used, limit, message } = admission;
  const key = `check_${reason}${reason === "metering_stale" && !allowed ? "_refused" : ""}`;
  const until = moment(admission.resets_at, now);
  const again = moment(admission.retry_at ?? admission.resets_at, now);
  const text = t(key, { used: used ?? "?", limit: limit ?? NONE, until, again });
  const own = text === key ? message : text;
  if (!admission.shadow) return own;
  // In shadow mode the reason for which the run would be refused is added.
  const refused = { ...admission, ...admission.shadow, allowed: false, shadow: null };
  return `${own} ${reasonText(refused, { t, moment }, now)}`;
}

export function limitCheckCard(context) {
  const { t, count, until, full } = context.format;
  const verdict = el("p", { class: "verdict" });
  const message = el("p", { class: "muted" });
  const term = (label) => {
    const value = el("dd", {}, NONE);
    return { value, node: el("div", {}, el("dt", {}, label), value) };
  };
  const [used, limit, remaining, resets] = [
    term(t("checkUsed")),
    term(t("limit")),
    term(t("remaining")),
    term(t("resetsAt")),
  ];
  const terms = el("dl", { class: "terms" }, used.node, limit.node, remaining.node, resets.node);
  const node = el(
    "section",
    { class: "card", "aria-labelledby": "check-title" },
    el("div", { class: "card-head" }, el("h2", { id: "check-title" }, t("limitCheck"))),
    el("p", { class: "muted small" }, t("limitCheckHelp")),
    verdict,
    message,
    terms,
  );
  let answer = null;

  function tick() {
    if (!answer?.resets_at) return;
    setText(resets.value, until(answer.resets_at, context.book.now()));
    setAttribute(resets.value, "title", full(answer.resets_at));
  }

  return {
    node,
    tick,
    update(admission) {
      answer = admission;
      verdict.dataset.state = !admission.allowed
        ? "over"
        : admission.over_limit || admission.shadow || ["metering_stale", "grace"].includes(admission.reason)
          ? "warning"
          : "ok";
      setText(verdict, t(admission.allowed ? "allowed" : "refused"));
      setText(message, reasonText(admission, context.format, context.book.now()));
      setText(used.value, admission.used === null ? t("unknown") : count(admission.used));
      setText(limit.value, admission.limit === null ? t("noLimit") : count(admission.limit));
      setText(remaining.value, count(admission.remaining));
      show(terms, true);
      tick();
    },
    fail(error) {
      answer = null;
      verdict.dataset.state = "unknown";
      setText(verdict, t("unknown"));
      setText(message, t("checkFailed", { reason: error.message }));
      show(terms, false);
    },
  };
}
