// Checks of the views on a small document: `node --test services/gateway/dashboard/check_views.mjs`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { elements, withClass } from "./check_dom.mjs";
import { at, source, usage } from "./check_samples.mjs";

const { WORDS } = await import("./phrases.js");
const { formatsOf } = await import("./format.js");
const { BUCKETS, UsageBook } = await import("./usage.js");
const { overview } = await import("./overview.js");
const { tenantView } = await import("./tenant.js");
const { reasonText } = await import("./limit_check.js");
const { periodsCard } = await import("./periods.js");
const { sourcesCard } = await import("./sources.js");
const { reasonName, refusalsCard } = await import("./refusals.js");
const { usageBar } = await import("./parts.js");
const { workflowsCard } = await import("./workflows.js");

globalThis.fetch = () => Promise.reject(new Error("no gateway here"));
const NOON = Date.parse(at(0));

function page(list) {
  const book = new UsageBook();
  book.replaceAll({ as_of: at(0), usage: list });
  const context = { book, format: formatsOf("en"), isOffline: () => false };
  return { book, context, view: overview(context) };
}

const rowsOf = (view) => withClass(view.node, "tenants-body")[0].children;
const rowOf = (view, name) => rowsOf(view).find((row) => row.textContent.includes(name));

/** Silences the console's errors, which are expected here. */
function quietly(run) {
  const { error } = console;
  console.error = () => {};
  try {
    return run();
  } finally {
    console.error = error;
  }
}

test("a time zone that this browser does not know is shown in UTC, and hides no tenant", () => {
  for (const zone of ["localtime", "posixrules", "Factory", "right/Europe/Madrid"]) {
    const odd = usage({ name: "Odd", tenant: "odd", period: { ...usage().period, time_zone: zone } });
    const { view } = page([usage(), odd, usage({ tenant: "south", name: "South" })]);
    assert.equal(rowsOf(view).length, 3, zone);
    assert.match(rowOf(view, "Odd").textContent, /1\s?–\s?30 Nov \(UTC\)/);
    assert.match(rowOf(view, "South").textContent, /1\s?–\s?30 Nov ·/);
  }
});

test("a value that cannot be shown affects only its own row, which says so", () => {
  for (const [what, values] of Object.entries({
    period: { period: null },
    instant: { period: { start: "soon", end: "later", time_zone: "UTC" } },
    sources: { sources: null },
    name: { name: null },
    currency: { cost_estimate: { amount_minor: 1, currency: "e", exponent: 2 } },
    exponent: { cost_estimate: { amount_minor: 1, currency: "eur", exponent: 900 } },
    complete: { complete_until: "never" },
  })) {
    const broken = usage({ tenant: "broken", counted: 1_000, ...values });
    const { book, view } = quietly(() => page([usage(), broken, usage({ tenant: "south", name: "South" })]));
    assert.equal(rowsOf(view).length, 3, what);
    const marked = rowsOf(view).filter((row) => withClass(row, "broken").length > 0);
    assert.equal(marked.length, 1, what);
    assert.equal(withClass(view.node, "broken").length, 1, `${what}: the sums are shown`);
    assert.match(marked[0].textContent, /These figures cannot be shown/, what);
    assert.doesNotMatch(marked[0].textContent, /1,000/, "half a row is not shown");
    assert.match(rowOf(view, "South").textContent, /€41\.20/, what);
    assert.equal(withClass(rowOf(view, "South"), "broken").length, 0);

    book.put(usage({ tenant: "broken", name: "Mended", as_of: at(0) }));
    view.update();
    assert.equal(withClass(view.node, "broken").length, 0, `${what}: the next readable figures are shown`);
    assert.match(rowOf(view, "Mended").textContent, /€41\.20/);
  }
});

test("the sums leave out tenants that cannot be read, and say so", () => {
  const { view } = quietly(() =>
    page([usage(), usage({ tenant: "broken", name: "Broken", period: null, counted: 1_000 })]),
  );
  const summary = withClass(view.node, "summary")[0].textContent;
  assert.match(summary, /Counted this period≥ 10/);
  assert.match(summary, /1 tenant unknown, not included/);
});

test("a workflow, a closed period or a source that cannot be shown does not hide the others", () => {
  const { context } = page([usage()]);
  const workflow = (values) => ({ ...usage(), source: "n", workflow: "w", name: "W", mean_duration_ms: 5, ...values });
  const workflows = workflowsCard(context);
  workflows.update({
    workflows: [workflow({ name: "Good" }), workflow({ source: null, counted: 7 })],
    workflows_omitted: 0,
  });
  assert.match(workflows.node.textContent, /Good.*7/);

  const closed = (values) => ({ ...usage(), closed_at: at(5), incomplete_sources: [], ...values });
  const periods = periodsCard(context);
  quietly(() => periods.update({ periods: [closed({ counted: 4321 }), closed({ closed_at: "never" }), closed({})] }));
  assert.match(periods.node.textContent, /4,321/);
  assert.equal(withClass(periods.node, "broken").length, 1);

  const sources = sourcesCard(context);
  const list = [source({ source: "good" }), source({ source: "odd", complete_until: "never" })];
  quietly(() => sources.update({ sources: list }));
  assert.match(sources.node.textContent, /good.*Complete until/);
  assert.equal(withClass(sources.node, "broken").length, 1);
});

test("a source's warnings are in the reader's language, with the direction of the clock error", () => {
  const said = (language, code, values = {}, others = ["south"]) => {
    const { book } = page([usage()]);
    const view = sourcesCard({ book, format: formatsOf(language), isOffline: () => false });
    const warning = { code, others, since: at(60), detail: "In the gateway's words." };
    view.update({ sources: [source({ warnings: [warning], ...values })] });
    return view.node.textContent;
  };
  assert.match(said("en", "clock", { clock_skew_ms: 300_250 }), /5\s?m ahead.*NTP.*the next one.*Since/);
  assert.match(said("en", "clock", { clock_skew_ms: -300_250 }), /5\s?m behind.*NTP.*the one before/);
  assert.match(said("es", "clock", { clock_skew_ms: -300_250 }), /atrasado 5\s?min.*NTP.*el anterior.*Desde/);
  assert.match(said("es", "clock", { clock_skew_ms: 2_000 }), /Reloj adelantado 2/);
  assert.match(said("en", "of_tomorrow", { clock_skew_ms: 900 }), /Clock right/);
  assert.doesNotMatch(said("en", "of_tomorrow", { clock_skew_ms: null }), /Clock/);
  assert.match(said("en", "shared_push_token", {}, ["a", "b"]), /2 n8n push with this source's token/);
  assert.match(said("en", "same_instance"), /pushes for south too/);
  assert.match(said("es", "same_address"), /south tiene la misma dirección/);
  assert.match(said("es", "of_tomorrow"), /In the gateway's words\./);
  const none = sourcesCard(page([usage()]).context);
  none.update({ sources: [source()] });
  assert.equal(withClass(none.node, "source-loss").length, 1, "only the empty element for a loss");
});

test("a bar without a range has no attributes of a meter", () => {
  const bar = usageBar(formatsOf("en"));
  const ranged = () => ["aria-valuemin", "aria-valuemax", "aria-valuenow"].map((name) => bar.node.getAttribute(name));
  bar.update(usage());
  assert.deepEqual([bar.node.getAttribute("role"), ...ranged()], ["meter", "0", "100", "10"]);
  for (const values of [{ limit: null }, { counted: null }]) {
    bar.update(usage(values));
    assert.deepEqual([bar.node.getAttribute("role"), ...ranged()], ["img", null, null, null]);
  }
});

test("the limit check's sentence is in the reader's language, not the tenant's", () => {
  const answer = {
    allowed: false,
    reason: "limit_reached",
    message: "Rechazada: se han usado las 5000 ejecuciones de este periodo.",
    used: 5_000,
    limit: 5_000,
    resets_at: "2026-12-01T00:00:00Z",
    retry_at: null,
  };
  const english = reasonText(answer, formatsOf("en"), NOON);
  assert.match(english, /^All 5,000 executions of this period are used\. The limit begins anew: 1 Dec/);
  assert.match(
    reasonText({ ...answer, message: "Refused." }, formatsOf("es"), NOON),
    /^Se han usado las 5\.000 ejecuciones/,
  );
  assert.match(reasonText({ ...answer, reason: "metering_stale" }, formatsOf("en"), NOON), /allows no runs meanwhile/);
  const watched = {
    ...answer,
    allowed: true,
    reason: "shadow",
    shadow: { reason: "limit_reached", message: "Refused." },
  };
  assert.match(reasonText(watched, formatsOf("en"), NOON), /^The plan only watches\..* All 5,000 executions/);
  assert.equal(reasonText({ ...answer, reason: "of_tomorrow" }, formatsOf("en"), NOON), answer.message);
});

test("refused runs are listed by reason and workflow, and shadow refusals separately", () => {
  const row = (values) => ({
    reason: "limit_reached",
    workflow: "w1",
    name: null,
    is_further: false,
    refused: 4,
    would_be_refused: 0,
    ...values,
  });
  const answer = (rows, refused, watched = 0) => ({
    rows,
    totals: { refused, would_be_refused: watched },
    omitted: { refused: 0, would_be_refused: 0 },
  });
  const card = refusalsCard({ format: formatsOf("en") });
  const shown = () => withClass(card.node, "refusals")[0];
  card.update(
    answer([row({ name: "Order sync" }), row({ workflow: null }), row({ workflow: null, is_further: true })], 12),
  );
  assert.match(shown().textContent, /Limit reachedOrder sync4.*No workflow named4.*Further workflows4.*Total12$/);
  assert.doesNotMatch(shown().textContent, /Would have been/, "no shadow refusals");
  card.update(answer([row({ refused: 0, would_be_refused: 1_234, reason: "of_tomorrow" })], 0, 1_234));
  assert.match(shown().textContent, /^ReasonWorkflowWould have been refusedof_tomorroww11,234Total1,234$/);
  const many = Array.from({ length: 13 }, (_, index) => row({ workflow: `w${index}` }));
  card.update(answer(many, 52));
  assert.match(shown().textContent, /Others12Total52$/);
  card.update(answer([], 0));
  assert.equal(shown().hidden, true);
  assert.match(card.node.textContent, /No run was refused/);
});

/** The reasons of the limit check, as the API's document lists them. */
const document = JSON.parse(readFileSync(new URL("../../../docs/openapi.json", import.meta.url), "utf8"));
const REASONS = document.components.schemas.AdmissionReason.enum;

test("each reason of a refusal has a name in both languages", () => {
  const never = ["within_limit", "no_limit", "over_soft_limit", "grace", "not_counted", "error_workflow", "shadow"];
  const noTenants = ["not_attributed", "unknown_tenant"];
  const refusals = REASONS.filter((reason) => ![...never, ...noTenants].includes(reason));
  assert.ok(refusals.length >= 12, `${refusals.length} reasons`);
  for (const reason of refusals)
    for (const language of ["en", "es"]) assert.notEqual(reasonName(reason, formatsOf(language).t), reason);
});

test("the page has a sentence for each reason of the gateway", () => {
  assert.ok(REASONS.length >= 20, `${REASONS.length} reasons`);
  for (const reason of REASONS)
    for (const language of ["en", "es"]) assert.ok(WORDS[language][`check_${reason}`], `${language}: ${reason}`);
});

// A day of a busy operator's page: 100,000 events of tenants that come and go. Memory must depend on the
// present tenants, not on past events.
test("a page that stays open for 100,000 events keeps only what it shows", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  const [EVENTS, TENANTS, LIST_EVERY] = [100_000, 50, 500];
  const realNow = Date.now;
  let now = NOON;
  Date.now = () => now;
  try {
    const { book, view } = page([]);
    const sizes = [];
    let first = 0;
    for (let event = 0; event < EVENTS; event++) {
      now += 864;
      if (event % 1_000 === 0) first += 10;
      const tenant = `tenant-${first + (event % TENANTS)}`;
      const as_of = new Date(now).toISOString();
      const values = {
        tenant,
        name: tenant,
        counted: event,
        as_of,
        sources: [source({ source: tenant, complete_until: as_of })],
      };
      book.put(usage(values));
      if (event % 1_000 === 500) view.update();
      if (event % 2_000 === 0) {
        book.activity.watch(book.all(), book.now());
        view.tick();
      }
      if (event % LIST_EVERY === LIST_EVERY - 1) {
        const there = new Set(Array.from({ length: TENANTS }, (_, index) => `tenant-${first + index}`));
        book.replaceAll({ as_of, usage: book.all().filter((one) => there.has(one.tenant)) });
        view.update();
      }
      if (event % 20_000 === 19_999) {
        collect();
        const { tenants, buckets } = book.activity.kept;
        sizes.push({ tenants, buckets, nodes: elements(view.node).length, heap: process.memoryUsage().heapUsed });
      }
    }
    const [, early] = sizes;
    const late = sizes.at(-1);
    assert.ok(late.tenants <= TENANTS && late.buckets <= TENANTS * (BUCKETS + 1), JSON.stringify(sizes));
    assert.ok(late.nodes <= early.nodes * 1.05, JSON.stringify(sizes));
    assert.ok(late.heap <= early.heap + 3_000_000, JSON.stringify(sizes));
  } finally {
    Date.now = realNow;
  }
});

/** Fakes the gateway's answers by path; other paths fail. */
async function answering(answers, run) {
  const { fetch } = globalThis;
  globalThis.fetch = async (url) => {
    const path = decodeURIComponent(String(url)).split("/v1/")[1];
    const answer = answers[path];
    if (answer === undefined) return { ok: false, status: 404, statusText: "Not Found", text: async () => "" };
    return { ok: true, status: 200, text: async () => JSON.stringify(answer) };
  };
  try {
    return await run();
  } finally {
    globalThis.fetch = fetch;
  }
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

test("an archived tenant is listed and shown with its figures, in both languages", async () => {
  for (const [language, word, count] of [
    ["en", /Archived/, /1 archived tenant/],
    ["es", /Archivado/, /1 cliente archivado/],
  ]) {
    const gone = usage({ tenant: "gone", name: "Gone & Co", archived: true, archived_at: at(0), sources: [] });
    const answers = {
      "tenants?archived=true": { tenants: [{ id: "gone", name: "Gone & Co", archived: true, archived_at: at(0) }] },
      "usage/gone": {
        ...gone,
        workflows: [],
        workflows_omitted: 0,
        workflows_omitted_totals: null,
        gaps: [],
        forecast: null,
      },
    };
    await answering(answers, async () => {
      const book = new UsageBook();
      book.replaceAll({ as_of: at(0), usage: [usage()] });
      const context = { book, format: formatsOf(language), isOffline: () => false };
      const all = overview(context);
      await settled();
      assert.match(all.node.textContent, count);
      assert.match(all.node.textContent, /Gone & Co/);

      const view = tenantView(context, "gone", { alone: false });
      await settled();
      assert.match(view.node.textContent, word);
      assert.match(view.node.textContent, /Gone & Co/);
      assert.match(view.node.textContent, /41/, "its count");
      assert.doesNotMatch(view.node.textContent, new RegExp(formatsOf(language).t("sources")), "nothing is swept");
      view.close();

      const nobody = tenantView(context, "nobody", { alone: false });
      await settled();
      assert.match(nobody.node.textContent, /nobody/);
      assert.doesNotMatch(nobody.node.textContent, word);
    });
  }
});

test("a source's failure is described in the reader's language", () => {
  const failing = {
    reason: "unauthorized",
    detail: "Answered 401. Create an API key.",
    since: at(60),
    consecutive_failures: 2,
  };
  for (const [language, said, notSaid] of [
    ["en", /Answered 401/, /Cree una clave/],
    ["es", /Cree una clave/, /Answered 401/],
  ]) {
    const book = new UsageBook();
    const shown = usage({ sources: [source({ failing })] });
    book.replaceAll({ as_of: at(0), usage: [shown, usage({ tenant: "south", name: "South" })] });
    const context = { book, format: formatsOf(language), isOffline: () => false };
    const card = sourcesCard(context);
    card.update(shown);
    for (const text of [card.node.textContent, overview(context).node.textContent]) {
      assert.match(text, said);
      assert.doesNotMatch(text, notSaid);
    }
  }
});
