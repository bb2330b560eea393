// @ts-check
// The texts of the page, in English and Spanish. A text with a count has one form for each plural rule.

import { WORDS } from "./phrases.js";

export const LANGUAGES = Object.keys(WORDS);

/** The texts of a language, as a function of key and values; `count` picks the plural form. */
export function wordsOf(language, number) {
  const plural = new Intl.PluralRules(language);
  return (key, values = {}) => {
    const entry = WORDS[language][key];
    const pattern = typeof entry === "object" ? (entry[plural.select(values.count)] ?? entry.other) : (entry ?? key);
    return pattern.replace(/\{(\w+)\}/g, (_, name) => {
      const value = values[name];
      return typeof value === "number" ? number(value) : String(value);
    });
  };
}
