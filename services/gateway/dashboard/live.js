// @ts-check
// The stream of usage events, kept open.

import { EVENTS } from "./api.js";

/** Pause after a stream that was open, so that many pages do not reconnect at the same instant. */
const RESUME_MS = 400;
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 30_000;
/** A connection can break silently; fetching the whole list this often detects that. */
const RESYNC_MS = 60_000;

/**
 * Follows the events and calls `onStatus` with "connecting", "live" or "offline".
 *
 * `resync` fetches the whole list. It runs after each connection is open, so that no change between the last event and
 * this connection is missed; it resolves to false if the session has ended.
 */
export class Live {
  #source = null;
  #timer = null;
  #retryMs = RETRY_FIRST_MS;
  #running = false;
  #status = "offline";

  constructor({ onUsage, onStatus, resync }) {
    this.onUsage = onUsage;
    this.onStatus = onStatus;
    this.resync = resync;
    addEventListener("online", () => this.#running && this.#status !== "live" && this.#connect());
    addEventListener("offline", () => this.#running && this.#lost());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible" && this.#running) this.#check();
    });
  }

  get status() {
    return this.#status;
  }

  start() {
    this.#running = true;
    this.#tell("connecting");
    this.#connect();
  }

  stop() {
    this.#running = false;
    this.#close();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #tell(status) {
    if (this.#status === status) return;
    this.#status = status;
    this.onStatus(status);
  }

  #connect() {
    this.#close();
    const source = new EventSource(EVENTS);
    this.#source = source;
    source.addEventListener("usage", (event) => this.#receive(event.data));
    source.addEventListener("open", () => {
      this.#tell("live");
      this.#check();
    });
    source.addEventListener("error", () => source === this.#source && this.#lost());
  }

  #receive(data) {
    try {
      this.onUsage(JSON.parse(data));
    } catch (error) {
      // An unreadable event must not end the stream; the next list makes up for it.
      console.warn("unreadable usage event", error);
    }
  }

  async #check() {
    clearTimeout(this.#timer);
    const source = this.#source;
    try {
      if (!(await this.resync())) return;
    } catch {
      if (this.#running && source === this.#source) this.#lost();
      return;
    }
    if (!this.#running || source !== this.#source) return;
    this.#retryMs = RETRY_FIRST_MS;
    this.#timer = setTimeout(() => this.#check(), RESYNC_MS);
  }

  // The browser's own retry neither backs off nor distinguishes an ended session from a lost network; this
  // does both. The gateway ends each stream after a while, so the first loss means nothing yet.
  #lost() {
    this.#close();
    const wasLive = this.#status === "live";
    this.#tell(wasLive ? "connecting" : "offline");
    const jitter = 0.75 + Math.random() / 2;
    this.#timer = setTimeout(() => this.#reconnect(), (wasLive ? RESUME_MS : this.#retryMs) * jitter);
    if (!wasLive) this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
  }

  async #reconnect() {
    try {
      if (!(await this.resync())) return;
    } catch {
      if (this.#running) this.#lost();
      return;
    }
    if (this.#running) this.#connect();
  }
}
