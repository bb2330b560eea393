// @ts-check
// Numbers, money, durations and instants, by the reader's language.

import { LANGUAGES, wordsOf } from "./words.js";

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** Shown for an unknown figure. Never a zero. */
export const NONE = "–";

const STORED = "flowmeter.language";

/** Cached formatters of one kind: more than a page needs for its time zones, but bounded for any data. */
const FORMATTERS_MAX = 500;

export function chosenLanguage() {
  const stored = localStorage.getItem(STORED);
  if (LANGUAGES.includes(stored)) return stored;
  const spoken = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
  return spoken.find((language) => LANGUAGES.includes(language)) ?? "en";
}

export function chooseLanguage(language) {
  localStorage.setItem(STORED, language);
}

/** The reader's own variety of the language if there is one ("en-GB"), because dates and money follow it. */
const localeOf = (language) => navigator.languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? language;

/** All formatters of a language, and its texts as `t`. */
export function formatsOf(language) {
  const locale = localeOf(language);
  const integer = new Intl.NumberFormat(locale, { maximumFractionDigits: 0, useGrouping: "always" });
  const count = (value) => (value === null ? NONE : integer.format(value));
  return {
    language,
    count,
    t: wordsOf(language, count),
    percent: percents(locale),
    money: moneys(locale),
    duration: durations(locale),
    ...instants(locale),
  };
}

/** A formatter takes far longer to build than to use, and a page of tenants uses it thousands of times. */
function remembered(build) {
  const built = new Map();
  return (key) => {
    if (!built.has(key)) {
      if (built.size >= FORMATTERS_MAX) built.clear();
      built.set(key, build(key));
    }
    return built.get(key);
  };
}

// Rounds down, so that 99.96 % is not shown as "100 %" although there are failures.
function percents(locale) {
  const whole = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 0 });
  const tenth = new Intl.NumberFormat(locale, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  return (share, digits = 1) => {
    if (share === null || share === undefined) return NONE;
    const steps = digits === 0 ? 100 : 1_000;
    const floored = Math.floor(share * steps + 1e-9) / steps;
    return (digits === 0 || floored === 1 || floored === 0 ? whole : tenth).format(floored);
  };
}

// The exponent comes with the amount. A browser's own digits for a currency are those that people usually
// write: with them HUF 1,234.56 would be shown as HUF 123,456.
function moneys(locale) {
  const formatOf = remembered((key) => {
    const [currency, digits] = JSON.parse(key);
    const fraction = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    return new Intl.NumberFormat(locale, { style: "currency", currency: currency.toUpperCase(), ...fraction });
  });
  return (money) => {
    // Without an exponent (an answer of another version) the amount is not known.
    if (!Number.isInteger(money?.exponent)) return NONE;
    const { amount_minor: minor, currency, exponent } = money;
    return formatOf(JSON.stringify([currency, exponent])).format(minor / 10 ** exponent);
  };
}

function durations(locale) {
  const unit = (name, digits = 0) =>
    new Intl.NumberFormat(locale, { style: "unit", unit: name, unitDisplay: "narrow", maximumFractionDigits: digits });
  const formats = {
    ms: unit("millisecond"),
    tenths: unit("second", 1),
    seconds: unit("second"),
    minutes: unit("minute"),
    hours: unit("hour"),
    days: unit("day"),
  };
  const pair = (large, small, value, smallMs, perLarge) => {
    const total = Math.round(value / smallMs);
    const rest = total % perLarge;
    const head = large.format(Math.floor(total / perLarge));
    return rest === 0 ? head : `${head} ${small.format(rest)}`;
  };
  return (ms) => {
    if (ms === null || ms === undefined) return NONE;
    if (ms < SECOND_MS) return formats.ms.format(Math.round(ms));
    if (ms < MINUTE_MS) return formats.tenths.format(ms / SECOND_MS);
    if (ms < HOUR_MS) return pair(formats.minutes, formats.seconds, ms, SECOND_MS, 60);
    if (ms < 2 * DAY_MS) return pair(formats.hours, formats.minutes, ms, MINUTE_MS, 60);
    return pair(formats.days, formats.hours, ms, HOUR_MS, 24);
  };
}

function instants(locale) {
  const time = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
  const dateTime = new Intl.DateTimeFormat(locale, {
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
  });
  const full = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "long" });
  const narrow = new Intl.RelativeTimeFormat(locale, { style: "narrow" });
  const long = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  const dayFormat = remembered((key) => new Intl.DateTimeFormat(locale, JSON.parse(key)));
  const isZone = remembered(isKnownZone);
  // A time zone that this browser does not know, because one of the two is outdated: the day in UTC, marked
  // as such.
  const day = (timeZone, options, write) => {
    if (timeZone === undefined || isZone(timeZone)) return write(dayFormat(JSON.stringify({ timeZone, ...options })));
    return `${write(dayFormat(JSON.stringify({ timeZone: "UTC", ...options })))} (UTC)`;
  };

  const isDayOf = (instant, now) => new Date(instant).toDateString() === new Date(now).toDateString();
  return {
    /** The time of day, with the date if it is not today. */
    moment: (instant, now) =>
      instant === null ? NONE : (isDayOf(instant, now) ? time : dateTime).format(new Date(instant)),
    full: (instant) => full.format(new Date(instant)),
    ago: (instant, now) => relative(narrow, Math.min(Date.parse(instant) - now, 0)),
    until: (instant, now) => relative(long, Math.max(Date.parse(instant) - now, 0)),
    /** A day, in the reader's time zone or in the tenant's. */
    dateOfYear: (instant, timeZone = undefined) =>
      day(timeZone, { day: "numeric", month: "short", year: "numeric" }, (format) => format.format(new Date(instant))),
    /** First and last day of a period whose end is exclusive, in the tenant's time zone. */
    days: ({ start, end, time_zone: timeZone }, options = { day: "numeric", month: "short" }) =>
      day(timeZone, options, (format) => format.formatRange(new Date(start), new Date(Date.parse(end) - 1))),
  };
}

function isKnownZone(timeZone) {
  try {
    return Boolean(new Intl.DateTimeFormat("en", { timeZone }));
  } catch {
    return false;
  }
}

function relative(format, ms) {
  const size = Math.abs(ms);
  if (size < MINUTE_MS) return format.format(Math.round(ms / SECOND_MS), "second");
  if (size < HOUR_MS) return format.format(Math.round(ms / MINUTE_MS), "minute");
  if (size < 2 * DAY_MS) return format.format(Math.round(ms / HOUR_MS), "hour");
  return format.format(Math.round(ms / DAY_MS), "day");
}
