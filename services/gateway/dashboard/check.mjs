// Checks without a browser: `node --test services/gateway/dashboard/check.mjs` (Node 20 or newer, no packages).

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import "./check_dom.mjs";
import { NOW, at, source, usage } from "./check_samples.mjs";

const { WORDS } = await import("./phrases.js");
const { chosenLanguage, formatsOf } = await import("./format.js");
const { Activity, BUCKETS, UsageBook, gapsOf, isFloor, isLosing, losingSources, sourceState } =
  await import("./usage.js");
const { gapText, lossText } = await import("./parts.js");
const { barsOf, forecastText } = await import("./daily.js");

const folder = new URL(".", import.meta.url);
const served = readdirSync(folder).filter((name) => /\.(js|html|css|svg)$/.test(name));
const read = (name) => readFileSync(new URL(name, folder), "utf8");
test("both languages have the same texts with the same placeholders", () => {
  const places = (entry) =>
    [...JSON.stringify(entry).matchAll(/\{(\w+)\}/g)]
      .map((match) => match[1])
      .sort()
      .join();
  assert.deepEqual(Object.keys(WORDS.en).sort(), Object.keys(WORDS.es).sort());
  for (const [key, entry] of Object.entries(WORDS.en)) assert.equal(places(entry), places(WORDS.es[key]), key);
});

test("every text that the page uses exists", () => {
  const page = read("index.html");
  for (const [, key] of page.matchAll(/data-word="(\w+)"/g)) assert.ok(WORDS.en[key], key);
  for (const name of served.filter((name) => name.endsWith(".js"))) {
    for (const [, key] of read(name).matchAll(/\bt\("(\w+)"/g)) assert.ok(WORDS.en[key], `${name}: ${key}`);
  }
});

test("every text is used", () => {
  const texts = served
    .filter((name) => name !== "phrases.js")
    .map(read)
    .join("\n");
  // A text of a family (`gap_pruned_before_seen`) is named by its prefix and a reason.
  const isUsed = (key) =>
    texts.includes(`"${key}"`) || (key.includes("_") && texts.includes(`\`${key.split("_")[0]}_\${`));
  for (const key of Object.keys(WORDS.en)) assert.ok(isUsed(key), key);
});

test("nothing breaks the content security policy, and no data becomes markup", () => {
  for (const name of served) {
    const text = read(name);
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(/, name);
    assert.doesNotMatch(text, /(src|href|url\()\s*[=(]?\s*["']?https?:/, name);
    if (name.endsWith(".html")) assert.doesNotMatch(text, /<style|\sstyle=|<script(?![^>]*\ssrc=)|\son\w+=/, name);
  }
});

test("numbers follow the language, and a rate with failures is never shown as 100 %", () => {
  const [english, spanish] = [formatsOf("en"), formatsOf("es")];
  assert.equal(english.count(8412), "8,412");
  assert.equal(spanish.count(8412), "8.412");
  assert.equal(english.count(null), "–");
  assert.equal(english.percent(0.9999), "99.9%");
  assert.equal(english.percent(1), "100%");
  assert.equal(english.percent(null), "–");
  assert.equal(english.money({ amount_minor: 4120, currency: "eur", exponent: 2 }), "€41.20");
  assert.equal(english.duration(11_520_000), "3h 12m");
  assert.equal(spanish.t("failed", { count: 1 }), "1 fallida");
});

test("an amount has the digits of its exponent, not the browser's usual ones", () => {
  const { money } = formatsOf("en");
  const shown = (currency, exponent) => money({ amount_minor: 123_456, currency, exponent }).replace(/\s/g, " ");
  assert.equal(shown("huf", 2), "HUF 1,234.56");
  assert.equal(shown("jpy", 0), "JP¥123,456");
  assert.equal(shown("kwd", 3), "KWD 123.456");
  assert.equal(shown("iqd", 3), "IQD 123.456");
  assert.equal(shown("clf", 4), "CLF 12.3456");
  for (const currency of ["cop", "idr", "rsd", "pkr", "lbp", "all", "crc", "mga"])
    assert.equal(shown(currency, 2), `${currency.toUpperCase()} 1,234.56`);
  // Without an exponent the amount is unknown, not wrong.
  assert.equal(money({ amount_minor: 123_456, currency: "huf" }), "–");
});

test("every address that the page requests is relative to the page", () => {
  for (const name of served.filter((name) => /\.(js|html)$/.test(name)))
    assert.doesNotMatch(read(name), /["'`]\/(v1|openapi|[a-z_]+\.(js|css|svg))/, name);
});

test("a period shows its tenant's days in every reader's time zone", () => {
  const { days } = formatsOf("en");
  const utc = { start: "2026-11-01T00:00:00Z", end: "2026-12-01T00:00:00Z", time_zone: "UTC" };
  const madrid = { start: "2026-10-31T23:00:00Z", end: "2026-11-30T23:00:00Z", time_zone: "Europe/Madrid" };
  assert.match(days(utc), /^1\s?–\s?30 Nov$/);
  assert.match(days(madrid), /^1\s?–\s?30 Nov$/);
});

test("the browser's first supported language is used, and a choice is kept", () => {
  assert.equal(chosenLanguage(), "en");
  localStorage.setItem("flowmeter.language", "es");
  assert.equal(chosenLanguage(), "es");
});

test("a late event does not undo a newer list, and a removed tenant disappears", () => {
  const book = new UsageBook();
  book.replaceAll({ as_of: at(0), usage: [usage({ counted: 12 }), usage({ tenant: "south", name: "South" })] });
  assert.equal(book.put(usage({ counted: 11, as_of: at(5) })), false);
  assert.equal(book.get("north").counted, 12);
  book.replaceAll({ as_of: at(0), usage: [usage({ counted: 13 })] });
  assert.deepEqual(
    book.all().map((one) => one.tenant),
    ["north"],
  );
  assert.ok(Math.abs(book.now() - NOW) < 1_000, "the service's clock is used");
});

test("unwatched time is unknown, and a failing source is not zero", () => {
  const activity = new Activity();
  const known = (tenant) => activity.series([tenant]).filter((added) => added !== null);
  activity.observe(usage({ counted: 10 }));
  assert.deepEqual(known("north"), []);
  activity.watch(
    [usage(), usage({ tenant: "south", counted: null }), usage({ tenant: "east", sources: [source({ failing: {} })] })],
    NOW,
  );
  assert.deepEqual([known("north"), known("south"), known("east")], [[0], [], []]);
  activity.observe(usage({ counted: 15 }));
  activity.interrupt();
  activity.observe(usage({ counted: 900 }));
  assert.equal(activity.series(["north"]).length, BUCKETS);
  assert.deepEqual(
    known("north").reduce((sum, added) => sum + added),
    5,
  );
});

test("a figure that lacks a source is a lower bound", () => {
  assert.equal(isFloor(usage()), false);
  assert.equal(isFloor(usage({ sources: [source(), source({ complete_until: null })] })), true);
  assert.equal(isFloor(usage({ counted: null, sources: [source({ failing: {} })] })), false);
  assert.equal(sourceState(source({ complete_until: at(7_200) }), NOW), "stale");
  assert.equal(sourceState(source({ paused: true, complete_until: null }), NOW), "paused");
});

test("an expected loss is shown, unless the source is not swept anyway", () => {
  const losing = source({ loss_expected_at: at(-420) });
  assert.equal(isLosing(source()), false);
  assert.equal(isLosing(losing), true);
  assert.equal(isLosing({ ...losing, failing: {} }), false);
  assert.equal(isLosing({ ...losing, paused: true }), false);
  assert.deepEqual(losingSources(usage({ sources: [source(), losing] })), [losing]);
  const text = lossText(at(-420), formatsOf("en"), NOW);
  assert.match(text, /^n8n will prune executions before the next sweep, about .*\d\d:07/);
});

test("a gap is shown with its range, its reason and when it was found", () => {
  const gap = {
    reason: "epoch_ended",
    epoch: 1,
    first_execution_id: "120",
    last_execution_id: "180",
    found_at: at(60),
  };
  const [english, spanish] = [formatsOf("en"), formatsOf("es")];
  assert.match(gapText(gap, english, NOW), /^Executions 120 to 180: the database was restored or replaced · /);
  assert.match(gapText(gap, spanish, NOW), /^Ejecuciones 120 a 180: la base de datos se restauró o se sustituyó · /);
  assert.match(gapText({ ...gap, last_execution_id: "120" }, english, NOW), /^Execution 120: /);
  assert.match(gapText({ ...gap, last_execution_id: "" }, english, NOW), /^Executions 120 and later: /);
  const nameless = { ...gap, first_execution_id: "", last_execution_id: "" };
  assert.match(gapText(nameless, english, NOW), /^Executions whose ids are not known: /);
  for (const reason of ["open_execution_vanished", "pruned_before_seen", "epoch_ended", "unspecified"])
    for (const language of ["en", "es"]) assert.ok(WORDS[language][`gap_${reason}`], reason);
  assert.equal(gapsOf(usage({ sources: [source({ gaps: 2 }), source({ gaps: 1 })] })), 3);
});

test("a day's bar is placed by time and shows failures", () => {
  const period = { start: "2026-11-01T00:00:00Z", end: "2026-12-01T00:00:00Z" };
  const day = (number, counted, error = 0) => ({
    start: `2026-11-${number}T00:00:00Z`,
    end: `2026-11-${number + 1}T00:00:00Z`,
    counted,
    error,
    crashed: 0,
  });
  const [first, last] = barsOf(period, [day(10, 50, 25), day(11, 0), day(25, 100)]);
  assert.ok(first.x < last.x && first.height * 2 === last.height);
  assert.deepEqual([first.failed * 2 === first.height, last.failed], [true, 0]);
});

test("a forecast shows only what is known", () => {
  const [english, spanish] = [formatsOf("en"), formatsOf("es")];
  const forecast = { counted_at_end: 9300, limit_reached_on: null, cost_estimate: null, days_observed: 12 };
  assert.equal(forecastText(usage({ forecast: null }), english), "");
  assert.equal(forecastText(usage({ forecast }), english), "Forecast: about 9,300 at the period's end");
  const reached = { ...forecast, limit_reached_on: "2026-11-27" };
  assert.match(forecastText(usage({ forecast: reached }), spanish), /el límite se alcanza el 27 nov 2026$/);
});
