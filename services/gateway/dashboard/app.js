// @ts-check
// The page: session, routes, and the one place where new figures reach the view.

import * as api from "./api.js";
import { setText, show } from "./dom.js";
import { chooseLanguage, chosenLanguage, formatsOf } from "./format.js";
import { Live } from "./live.js";
import { overview } from "./overview.js";
import { tenantView } from "./tenant.js";
import { UsageBook } from "./usage.js";

/** @typedef {import("./api.js").Answers} Answers */

/** Interval for updating relative times and charts. */
const TICK_MS = 5_000;
/** Time between two redraws; short enough to feel live. */
const DRAW_MIN_MS = 150;
const THEME = "flowmeter.theme";
const TENANT_ROUTE = /^#\/tenants\/([^/]+)$/;

/**
 * The page's own element with this id; `any`, because the caller knows its kind.
 * @type {(id: string) => any}
 */
const byId = (id) => document.getElementById(id);
const book = new UsageBook();
const context = {
  book,
  format: formatsOf(chosenLanguage()),
  isOffline: () => live.status === "offline",
  onSessionEnd: endSession,
};
const live = new Live({ onUsage, onStatus, resync });
let view = null;
/** The target that the view shows. */
let shown = "";
/** Before the first list arrives nothing is known, not even that there are no tenants. */
let loaded = false;
let drawTimer = null;
let offlineSince = null;

/** @param {Answers["UsageJson"]} usage */
function onUsage(usage) {
  if (book.put(usage)) requestDraw();
}

// Many events may come at once: with hundreds of tenants, a redraw for each would keep the browser busy.
function requestDraw() {
  drawTimer ??= setTimeout(() => {
    drawTimer = null;
    if (JSON.stringify(target()) === shown) view?.update();
    else showTarget();
  }, DRAW_MIN_MS);
}

function onStatus(status) {
  if (status === "offline") {
    offlineSince ??= book.now();
    book.activity.interrupt();
  } else if (status === "live") {
    offlineSince = null;
  }
  showStatus();
  requestDraw();
}

function showStatus() {
  const { t, moment } = context.format;
  byId("live").dataset.status = live.status;
  setText(byId("live-text"), t(live.status));
  show(byId("notice"), offlineSince !== null);
  if (offlineSince === null) return;
  const text = loaded ? t("offlineNotice", { time: moment(offlineSince, book.now()) }) : t("unreachable");
  setText(byId("notice"), text);
}

function watch() {
  if (live.status === "live") book.activity.watch(book.all(), book.now());
}

async function resync() {
  let list;
  try {
    list = await api.listUsage();
  } catch (error) {
    if (error.status !== 401) throw error;
    endSession();
    return false;
  }
  book.replaceAll(list);
  loaded = true;
  watch();
  requestDraw();
  return true;
}

/** The view that the address asks for. A single tenant is the start page. */
function target() {
  const only = book.size === 1 ? book.all()[0].tenant : null;
  const tenant = readRoute() ?? only;
  return { tenant, alone: tenant === only, known: tenant !== null && book.get(tenant) !== null };
}

function readRoute() {
  try {
    return decodeURIComponent(TENANT_ROUTE.exec(location.hash)[1]);
  } catch {
    return null;
  }
}

function showTarget() {
  if (!loaded) return;
  const { tenant, alone } = target();
  shown = JSON.stringify(target());
  view?.close?.();
  view = tenant === null ? overview(context) : tenantView(context, tenant, { alone });
  byId("view").replaceChildren(view.node);
  document.title = `${view.title} · Flowmeter`;
}

function onRoute() {
  if (takeToken()) return;
  showTarget();
  scrollTo(0, 0);
  byId("main").focus({ preventScroll: true });
}

function startSession() {
  show(byId("sign-in"), false);
  show(byId("view"), true);
  show(byId("live"), true);
  show(byId("sign-out"), true);
  live.start();
}

function stopSession() {
  live.stop();
  view?.close?.();
  view = null;
  loaded = false;
  offlineSince = null;
  book.clear();
  byId("view").replaceChildren();
  for (const id of ["view", "live", "sign-out", "notice"]) show(byId(id), false);
}

function showSignIn(message = "") {
  stopSession();
  document.title = "Flowmeter";
  show(byId("sign-in"), true);
  showSignInError(message);
  byId("token").focus();
}

function endSession() {
  showSignIn(context.format.t("sessionEnded"));
}

function showSignInError(message) {
  setText(byId("sign-in-error"), message);
  show(byId("sign-in-error"), message !== "");
}

function signInMessage({ status, message }) {
  const { t } = context.format;
  if (status === 401 || status === 403) return t("signInRefused");
  if (status === 429) return t("signInTooMany");
  return status === 0 ? t("unreachable") : message;
}

async function signIn(token) {
  /** @type {HTMLButtonElement} */
  const button = document.querySelector("#sign-in-form button");
  button.disabled = true;
  try {
    await api.signIn(token);
    byId("token").value = "";
    startSession();
    byId("main").focus({ preventScroll: true });
  } catch (error) {
    showSignIn(signInMessage(error));
  } finally {
    button.disabled = false;
  }
}

async function signOut() {
  try {
    await api.signOut();
  } catch (error) {
    // The cookie may still be valid, so "signed out" would be wrong.
    if (error.status !== 401) {
      setText(byId("notice"), signInMessage(error));
      show(byId("notice"), true);
      return;
    }
  }
  showSignIn();
}

/** Takes the token from a sign-in link, and first removes it from the address and the history. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return false;
  history.replaceState(null, "", location.pathname + location.search);
  stopSession();
  signIn(token);
  return true;
}

function translate() {
  const { t, language } = context.format;
  document.documentElement.lang = language;
  /** @type {NodeListOf<HTMLElement>} */
  const nodes = document.querySelectorAll("[data-word]");
  for (const node of nodes) setText(node, t(node.dataset.word));
  byId("language").value = language;
  showStatus();
}

function onLanguage(event) {
  chooseLanguage(event.target.value);
  context.format = formatsOf(event.target.value);
  translate();
  showTarget();
}

function applyTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").value = theme;
}

function onTheme(event) {
  localStorage.setItem(THEME, event.target.value);
  applyTheme(event.target.value);
}

function tick() {
  watch();
  view?.tick();
}

async function start() {
  const theme = localStorage.getItem(THEME);
  applyTheme(["light", "dark"].includes(theme) ? theme : "system");
  translate();
  book.activity.restore();
  addEventListener("hashchange", onRoute);
  addEventListener("pagehide", () => view && book.activity.save());
  byId("language").addEventListener("change", onLanguage);
  byId("theme").addEventListener("change", onTheme);
  byId("sign-out").addEventListener("click", signOut);
  byId("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(byId("token").value.trim());
  });
  setInterval(tick, TICK_MS);
  if (!takeToken()) await resume();
}

// Only the gateway knows whether there is a session: the cookie cannot be read here.
async function resume() {
  try {
    await api.session();
    startSession();
  } catch (error) {
    if (error.status === 401) showSignIn();
    else startSession();
  }
}

start();
