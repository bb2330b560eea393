// The dashboard in a real browser, on a whole stack, behind a proxy that serves it under a path.
//
// `cargo xtask e2e dashboard` starts the stack and runs this. By hand it needs in the environment: GATEWAY (its address),
// TOKEN (an operator's), CHROMIUM (the browser), TOOLS (the folder whose node_modules have playwright-core and
// @axe-core/playwright), ZONES (the time zones that the gateway accepts, separated by commas). An argument runs only checks
// whose name contains it.

import assert from "node:assert/strict";
import http from "node:http";
import { createRequire } from "node:module";

import { EVENTS, TENANTS, eventsOf } from "./events.mjs";

const { GATEWAY, TOKEN, CHROMIUM, TOOLS, ZONES } = process.env;
const installed = createRequire(`${TOOLS}/`);
const { chromium } = installed("playwright-core");
const { AxeBuilder } = installed("@axe-core/playwright");

/** The path of the gateway's `public_url`. */
const BASE = "/meter";
const THEMES = ["light", "dark"];
const LANGUAGES = ["en", "es"];
/** A busy machine renders late. */
const SHOWN_WITHIN_MS = 60_000;
/** Growth allowed over a day's events: the browser's own caches grow a little. */
const GROWTH_MAX = { nodes: 100, listeners: 20, heapBytes: 4_000_000 };

/** Runs only checks whose name contains this. */
const [, , only = ""] = process.argv;

let failed = 0;

async function check(name, run) {
  if (!name.includes(only)) return;
  try {
    await run();
    console.log(`  ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`  FAIL ${name}\n${error.stack ?? error}`);
  }
}

/** A reverse proxy for everything under the path. Some proxies strip the path, some keep it. */
async function proxy({ strips }) {
  const { hostname, port } = new URL(GATEWAY);
  const strays = [];
  const server = http.createServer((request, response) => {
    if (request.url !== BASE && !request.url.startsWith(`${BASE}/`)) {
      // Such as the icon that browsers request by themselves if a page has none; ours has one.
      strays.push(request.url);
      response.writeHead(404).end();
      return;
    }
    const path = strips ? request.url.slice(BASE.length) || "/" : request.url;
    const passed = http.request(
      { hostname, port, path, method: request.method, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      },
    );
    passed.on("error", () => response.destroy());
    response.on("close", () => passed.destroy());
    request.pipe(passed);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return {
    origin,
    url: `${origin}${BASE}/`,
    strays,
    close: () => server.close(() => {}) || server.closeAllConnections(),
  };
}

/** A fresh visitor, with a theme and a language. */
async function visitor(browser, { theme = "light", language = "en" } = {}) {
  const context = await browser.newContext({
    locale: language === "en" ? "en-GB" : "es-ES",
    timezoneId: "Europe/Madrid",
  });
  await context.addInitScript(
    ([theme, language]) => {
      localStorage.setItem("flowmeter.theme", theme);
      localStorage.setItem("flowmeter.language", language);
    },
    [theme, language],
  );
  const page = await context.newPage();
  page.setDefaultTimeout(SHOWN_WITHIN_MS);
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => {
    // Without a session, the page's first request gets a 401, a busy machine may answer 503, and the tenant that nobody has is
    // not found: none is the page's fault.
    const { url } = message.location();
    const isExpected = / (401|503) /.test(message.text()) || (/ 404 /.test(message.text()) && url.includes("/nobody"));
    if (message.type() === "error" && !isExpected) faults.push(`${message.text()} ${url}`);
  });
  return { context, page, faults };
}

async function signIn(page, url) {
  await page.goto(`${url}#token=${TOKEN}`);
  await page.locator(".tenants-body .tenants-row").first().waitFor();
  // The state of the event stream: it came through the proxy.
  await page.locator('#live[data-status="live"]').waitFor();
}

async function isAccessible(page, what) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const said = violations.map(
    ({ id, impact, nodes }) =>
      `${what}: ${id} (${impact}): ${nodes.map((node) => `${node.html}\n${node.failureSummary}`).join("\n")}`,
  );
  assert.equal(violations.length, 0, said.join("\n"));
}

const tenantsOf = (page) =>
  page.evaluate(async () =>
    (await (await fetch("v1/usage")).json()).usage.map(({ tenant, name }) => ({ tenant, name })),
  );

async function openTenant(page, tenant) {
  await page.evaluate((tenant) => (location.hash = `#/tenants/${encodeURIComponent(tenant)}`), tenant);
  await page.locator(".tenant-head").waitFor();
  await page.locator(".verdict[data-state]").waitFor();
}

/** Every view, in this theme and language. */
async function lookAtAll(browser, url, theme, language) {
  if (only !== "" && !`${theme}, ${language}`.includes(only)) return;
  const { context, page, faults } = await visitor(browser, { theme, language });
  const what = `${theme}, ${language}`;
  await check(`sign-in (${what})`, async () => {
    await page.goto(url);
    await page.locator("#sign-in").waitFor();
    await isAccessible(page, "sign-in");
    await page.locator("#token").fill("a-token-that-nobody-has");
    await page.locator("#sign-in-form button").click();
    await page.locator("#sign-in-error:not([hidden])").waitFor();
    await isAccessible(page, "sign-in refused");
  });
  await check(`overview (${what})`, async () => {
    await signIn(page, url);
    await isAccessible(page, "overview");
  });
  for (const { tenant } of await tenantsOf(page))
    await check(`tenant ${tenant} (${what})`, async () => {
      await openTenant(page, tenant);
      await isAccessible(page, tenant);
    });
  await check(`no such tenant (${what})`, async () => {
    await page.evaluate(() => (location.hash = "#/tenants/nobody"));
    await page.locator(".page .notice").waitFor();
    await isAccessible(page, "no such tenant");
  });
  await check(`nothing failed in the browser (${what})`, () => assert.deepEqual(faults, []));
  await check(`a row that cannot be shown (${what})`, () => brokenRow(page, url));
  await context.close();
}

async function brokenRow(page, url) {
  await page.route("**/v1/events", (route) => route.abort());
  await page.route("**/v1/usage", async (route) => {
    const response = await route.fetch().catch(() => null);
    if (response === null) return;
    const list = await response.json();
    list.usage[0].period.start = "soon";
    list.usage[1].period.time_zone = "localtime";
    // The page retries by itself, and may be gone when the answer arrives.
    await route.fulfill({ response, json: list }).catch(() => {});
  });
  await page.goto(url);
  await page.locator(".tenants-body .broken").waitFor();
  const count = await page.locator(".tenants-body .tenants-row").count();
  assert.ok(count >= 3, `${count} rows`);
  assert.equal(await page.locator(".broken").count(), 1);
  await page.locator(".tenants-body").getByText("(UTC)").first().waitFor();
  await isAccessible(page, "a broken row");
  await page.unrouteAll({ behavior: "ignoreErrors" });
}

async function readersLanguage(browser, url) {
  const { context, page } = await visitor(browser);
  await signIn(page, url);
  // The demo's tenant whose language is Spanish.
  await openTenant(page, "south");
  const message = await page.locator(".verdict + p").textContent();
  assert.match(message, /executions|plan|figures/, message);
  assert.doesNotMatch(message, /ejecuciones|Permitida|Rechazada|datos/, message);
  const told = await page.evaluate(async () => (await (await fetch("v1/admissions/south")).json()).message);
  assert.match(told, /Permitida|Rechazada/, "the answer's own sentence is in the tenant's language");
  await context.close();
}

async function zones(browser) {
  const { context, page } = await visitor(browser);
  const names = ZONES.split(",");
  assert.ok(names.length > 400, `${names.length} names`);
  const refused = await page.evaluate(
    (names) =>
      names.filter((timeZone) => {
        try {
          new Intl.DateTimeFormat("en", { timeZone });
          return false;
        } catch {
          return true;
        }
      }),
    names,
  );
  assert.deepEqual(refused, []);
  const shown = await page.evaluate(() => Intl.supportedValuesOf("timeZone"));
  assert.deepEqual(
    shown.filter((name) => !names.includes(name)),
    [],
    "every zone of the browser is accepted",
  );
  await context.close();
}

async function leavesNoSession(browser, url) {
  const { context, page } = await visitor(browser);
  await signIn(page, url);
  const [cookie] = await context.cookies();
  assert.deepEqual([cookie.path, cookie.httpOnly], [BASE, true]);
  await page.reload();
  await page.locator(".tenants-body .tenants-row").first().waitFor();
  await page.locator("#sign-out").click();
  await page.locator("#sign-in").waitFor();
  assert.deepEqual(await context.cookies(), []);
  await context.close();
}

/** A day of events, sent to the page as fast as it reads them. */
async function dayOfEvents(browser, url) {
  const { context, page } = await visitor(browser);
  await signIn(page, url);
  const [sample] = await page.evaluate(async () => (await (await fetch("v1/usage")).json()).usage);
  const devtools = await context.newCDPSession(page);
  await devtools.send("Performance.enable");
  const measure = async () => {
    for (let again = 0; again < 3; again++) await devtools.send("HeapProfiler.collectGarbage");
    const { metrics } = await devtools.send("Performance.getMetrics");
    const of = (name) => metrics.find((metric) => metric.name === name).value;
    return { nodes: of("Nodes"), heapBytes: of("JSHeapUsedSize"), listeners: of("JSEventListeners") };
  };
  const streams = [...eventsOf(sample)];
  let given = 0;
  await page.route("**/v1/events", async (route) => {
    const body = given < streams.length ? streams[given++] : ": nothing more\n\n";
    await route.fulfill({ contentType: "text/event-stream", body }).catch(() => {});
  });
  const sizes = [];
  await page.reload();
  for (const at of [3, 6, streams.length]) {
    // After each stream, the gateway's own list removes the tenants that it does not know; the counted tenant stays.
    while (given < at) await page.waitForTimeout(100);
    await page.waitForFunction(
      ([tenant, least]) => {
        const row = document.querySelector(`.tenant-link[href="#/tenants/${tenant}"]`)?.closest(".tenants-row");
        return Number(row?.querySelector(".used")?.textContent.replace(/\D/g, "") ?? 0) >= least;
      },
      [sample.tenant, (at - 1) * (EVENTS / streams.length)],
    );
    sizes.push(await measure());
  }
  const [, early, late] = sizes;
  console.log(`       ${EVENTS} events, ${TENANTS} tenants at a time: ${JSON.stringify(sizes)}`);
  for (const [what, most] of Object.entries(GROWTH_MAX)) assert.ok(late[what] <= early[what] + most, what);
  await context.close();
}

const [stripping, leaving] = [await proxy({ strips: true }), await proxy({ strips: false })];
const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
const browser = await chromium.launch({ executablePath: CHROMIUM, args: sandbox });
console.log(`Chromium ${browser.version()}`);
try {
  await check("the browser knows every time zone that the gateway accepts", () => zones(browser));
  for (const theme of THEMES)
    for (const language of LANGUAGES) await lookAtAll(browser, stripping.url, theme, language);
  await check("the limit check speaks the reader's language", () => readersLanguage(browser, stripping.url));
  await check("a session belongs to the path, and ends", () => leavesNoSession(browser, stripping.url));
  await check("a proxy that keeps the path serves the page too", () => leavesNoSession(browser, leaving.url));
  await check("the path without its slash leads to the page", async () => {
    const { context, page } = await visitor(browser);
    await page.goto(leaving.url.slice(0, -1));
    await page.locator("#sign-in").waitFor();
    await context.close();
  });
  await check("nothing is requested outside the path", () =>
    assert.deepEqual([...stripping.strays, ...leaving.strays], []),
  );
  await check("the memory of a page that stays open for a day does not grow", () =>
    dayOfEvents(browser, stripping.url),
  );
} finally {
  await browser.close();
  stripping.close();
  leaving.close();
}
console.log(failed === 0 ? "All passed" : `${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
