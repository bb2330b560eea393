// @ts-check
/**
 * One file for n8n's EXTERNAL_HOOK_FILES. It pushes every finished execution to Flowmeter within a second, and, if a
 * gateway is set, checks the limit before each run.
 *
 *   FLOWMETER_PUSH_TOKEN   the source's push token, from `flowmeter sources push-token ID`
 *   FLOWMETER_PUSH_URL     the collector's address, e.g. https://push.flowmeter.example/v1/executions
 *   FLOWMETER_GATEWAY_URL  the gateway's address, e.g. https://flowmeter.example; without it no limit is checked
 *   FLOWMETER_WHEN_AWAY    `open` or `closed`: whether runs start while the gateway cannot be reached and has never
 *                          answered (open). Once it has, the outage rule of the tenant's plan applies, as in the last answer.
 *   FLOWMETER_WAIT_MS      the longest that a run waits for the answer (250)
 *
 * These are read once and removed from `process.env`, so that no workflow finds the token there (README, "The token").
 *
 * Pushing never breaks or delays a run: a hook that throws would turn a success into an error, so everything is caught,
 * and nothing waits for the network. Executions may be lost (a full buffer, a killed process): Flowmeter's poll finds
 * them. In queue mode n8n calls the hook twice for a run, in the main process and in the worker. Both send the same
 * execution, which counts once.
 *
 * The limit check throws if a run is refused, and only then. From 2.40 on such a run leaves no trace in n8n, and the
 * caller of a webhook gets status and reason; before, n8n writes an execution with the status `error`, and the caller
 * gets 500. Such an execution is sent as `canceled` and `refused`; Flowmeter's poll checks its data before it accepts that.
 *
 * Node built-ins only. n8n 1.123 and 2.x.
 */
'use strict';

const { randomUUID } = require('node:crypto');
const http = require('node:http');
const https = require('node:https');
const { createRequire } = require('node:module');
const path = require('node:path');

/** Executions in one request. */
const BATCH_MAX = 100;

/** Time between two requests that are not full, in milliseconds; after a pause, the first one is sent soon. */
const FLUSH_AFTER_MS = 200;
const FLUSH_SOON_MS = 10;

/** Executions kept while the collector is unavailable: about 4 MB. Beyond that, the oldest are dropped. */
const BUFFER_MAX = 10_000;

/** A request without an answer within this time is sent again. */
const TIMEOUT_MS = 2_000;

/** The time for an answer is counted in steps of this length, in milliseconds. */
const STEP_MS = 25;

/** Pauses between attempts double between these bounds, in milliseconds. */
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 30_000;

/** Longest answer that is read, in bytes. */
const ANSWER_BYTES_MAX = 64 * 1024;

/** How long a run waits for the gateway by default, in milliseconds; then the outage rule decides. */
const ADMISSION_WAIT_MS = 250;

/** Connections to the gateway: if more runs start at once, they wait for one of these. */
const ADMISSION_SOCKETS_MAX = 32;

/**
 * Modes that are never checked. A refused sub-workflow would turn its parent, which has started and counts, into an error;
 * a refused error workflow would be an error itself, and start another.
 */
const UNASKED = new Set(['integrated', 'error']);

/** Reasons for a quota that is used up. All other refusals, `limit_unsettled` too, pass with time and are 429. */
const USED_UP = new Set(['limit_reached', 'overage_reached']);

/** The message if the gateway cannot be reached and has never answered, so that the tenant's language is unknown. */
const AWAY = 'Refused: whether this run is within its limit cannot be checked at the moment.';

/** The first version in which a refusal leaves no execution, and the caller gets the status of n8n's own error. */
const CLEAN_REFUSAL_SINCE = [2, 40];

/**
 * Most runs that were allowed and have not ended here. If one is forgotten, or ends in another process, Flowmeter does not
 * learn when it was allowed; its reservation then ends with the poll.
 */
const ADMITTED_MAX = 10_000;

/** A run begins within this many milliseconds of the moment at which it was allowed. */
const ADMITTED_WITHIN_MS = 5_000;

/** A log line of each kind is written at most once in this many milliseconds. */
const LOG_EVERY_MS = 60_000;

/** Longest that the end of the process waits for the last executions, in milliseconds. */
const EXIT_GRACE_MS = 1_000;

/** The name of the error by which a run is refused if n8n has no error of its own for that. */
const REFUSED_BEFORE_START = 'RefusedBeforeStart';

/** The errors by which runs are refused, by name. A workflow can throw errors of any name, so a name alone proves nothing. */
const REFUSAL_NAMES = new Set([REFUSED_BEFORE_START, 'ResponseError']);

/** Marks every error that this process has thrown to refuse a run. Not `Symbol.for`: no other code can get it. */
const REFUSED = Symbol('refused');

/** The settings of this file: read once, then removed from where workflows may look. */
const SETTINGS = [
	'FLOWMETER_PUSH_TOKEN',
	'FLOWMETER_PUSH_URL',
	'FLOWMETER_GATEWAY_URL',
	'FLOWMETER_WHEN_AWAY',
	'FLOWMETER_WAIT_MS',
];

/** A run that resumed this much later than it began has waited, in milliseconds. Shorter waits stay in n8n's memory. */
const WAITED_MS = 10_000;

/** n8n's statuses of an execution that has ended. */
const FINAL = new Set(['success', 'error', 'crashed', 'canceled']);

/** Runs that begin with the data of an earlier run's nodes. */
const CARRIED = new Set(['retry', 'manual']);

/** Answers that one bad execution in a batch may cause: the batch is sent again in halves, until the bad one is alone. */
const MAY_BE_ONE = new Set([400, 413, 422]);

/**
 * Most requests for the parts of one refused batch. That is enough to find seven bad executions of a hundred; if more are bad,
 * the answer is not about single executions, and the rest of the batch is dropped.
 */
const PARTS_MAX = 100;

/** Answers that a retry does not change. The other ones of 400 and above may change. */
const FINAL_ANSWERS = new Set([400, 401, 403, 404, 405, 413, 415, 422]);

/** When a log line of each kind was written. */
const warnedAt = new Map();

/** Writes one line of each kind a minute. Returns whether it has. */
function warnOnce(kind, text) {
	const now = Date.now();
	if (now - (warnedAt.get(kind) ?? -Infinity) < LOG_EVERY_MS) return false;
	warnedAt.set(kind, now);
	console.warn(`[flowmeter] ${text}`);
	return true;
}

/** Posts JSON to one address, over connections that are kept open. */
class Line {
	/**
	 * @param {URL} url
	 * @param {string} token
	 * @param {number} maxSockets
	 */
	constructor(url, token, maxSockets) {
		this.url = url;
		this.token = token;
		this.transport = url.protocol === 'https:' ? https : http;
		this.agent = new this.transport.Agent({ keepAlive: true, maxSockets });
	}

	/**
	 * The answer to one POST: `{status, headers, body}`. Rejects if there is none in time. With `holdsProcess`, the process
	 * does not end meanwhile.
	 */
	post(body, { timeoutMs, holdsProcess }) {
		return new Promise((resolve, reject) => {
			const request = this.transport.request(this.url, {
				method: 'POST',
				agent: this.agent,
				headers: {
					authorization: `Bearer ${this.token}`,
					'content-type': 'application/json',
					'content-length': Buffer.byteLength(body),
				},
			});
			// For the whole exchange: a socket's own timeout restarts with every byte. In steps, each of which counts once
			// however late it fires: while n8n itself is busy, an answer may have arrived and not be read yet.
			let stepsLeft = Math.ceil(timeoutMs / STEP_MS);
			const deadline = setInterval(() => {
				stepsLeft -= 1;
				if (stepsLeft <= 0) request.destroy(new Error(`no answer within ${timeoutMs} ms`));
			}, STEP_MS);
			if (!holdsProcess) {
				deadline.unref();
				request.on('socket', (socket) => socket.unref());
			}
			request.on('error', (error) => {
				// The other side may close a kept connection just when it is used again.
				const isStale = request.reusedSocket && 'code' in error && error.code === 'ECONNRESET';
				reject(Object.assign(error, { isStale }));
			});
			request.on('response', (response) => readAnswer(response, resolve, reject));
			request.on('close', () => clearInterval(deadline));
			request.end(body);
		});
	}
}

/** Reads an answer to its end, so that its connection can be used again. */
function readAnswer(response, resolve, reject) {
	const chunks = [];
	let bytes = 0;
	response.on('data', (chunk) => {
		bytes += chunk.length;
		if (bytes > ANSWER_BYTES_MAX) response.destroy(new Error('the answer is too long'));
		else chunks.push(chunk);
	});
	response.on('error', reject);
	response.on('close', () => reject(new Error('the answer ended early')));
	response.on('end', () => {
		resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) });
	});
}

/** Sends executions in the background. */
class Pusher {
	/**
	 * @param {string} url
	 * @param {string} token
	 */
	constructor(url, token) {
		this.line = new Line(new URL(url), token, 2);
		this.buffer = [];
		this.sending = 0;
		/** The sizes of the parts of a refused batch that were not sent again yet; they are first in the buffer. */
		this.parts = [];
		this.partsSent = 0;
		this.timer = null;
		this.flushedAt = 0;
		this.retryMs = 0;
		this.dropped = 0;
	}

	/** Queues one execution. Returns at once. */
	add(execution) {
		this.buffer.push(execution);
		this.bound();
		if (this.retryMs === 0 && this.sending === 0 && this.buffer.length >= BATCH_MAX) this.schedule(0);
		else this.schedule(this.untilNext());
	}

	untilNext() {
		const waitMs = this.flushedAt + FLUSH_AFTER_MS - Date.now();
		// A clock that was set back must not delay it.
		return Math.min(Math.max(waitMs, FLUSH_SOON_MS), FLUSH_AFTER_MS);
	}

	/** Drops the oldest beyond the bound; never those in flight, which are first. */
	bound() {
		const excess = this.buffer.length - BUFFER_MAX;
		if (excess <= 0) return;
		this.buffer.splice(this.held(), excess);
		this.dropped += excess;
		if (warnOnce('dropped', `${this.dropped} executions were not pushed; the poll will find them`)) this.dropped = 0;
	}

	/** How many at the front of the buffer are in flight, or wait as parts of a batch. */
	held() {
		return Math.max(
			this.sending,
			this.parts.reduce((sum, size) => sum + size, 0),
		);
	}

	schedule(delayMs) {
		if (this.sending > 0) return;
		if (this.timer !== null) {
			// A full batch need not wait, unless a retry is pending.
			if (delayMs > 0 || this.retryMs > 0) return;
			clearTimeout(this.timer);
		}
		this.timer = setTimeout(() => {
			this.timer = null;
			this.flush();
		}, delayMs);
		// Waiting for more must not keep a process alive that has nothing else to do.
		this.timer.unref();
	}

	/** Sends the next batch, unless one is in flight. */
	flush() {
		if (this.sending > 0 || this.buffer.length === 0) return;
		this.sending = this.parts[0] ?? Math.min(this.buffer.length, BATCH_MAX);
		this.flushedAt = Date.now();
		let body;
		try {
			const executions = this.buffer.slice(0, this.sending);
			// `sent_at` is new with each attempt: Flowmeter compares it with its own clock.
			body = JSON.stringify({ sent_at: new Date().toISOString(), instance: instanceOfN8n(), executions });
		} catch (error) {
			return this.settle({ refused: `cannot be written: ${error.message}`, mayBeOne: true });
		}
		this.post(body, (outcome) => this.settle(outcome));
	}

	/** @param {{ refused?: string, failed?: string, retryAfterMs?: number, mayBeOne?: boolean }} outcome */
	settle({ refused, failed, retryAfterMs = 0, mayBeOne = false }) {
		let sent = this.sending;
		this.sending = 0;
		if (failed !== undefined) {
			this.retryMs = Math.min(Math.max(this.retryMs * 2, RETRY_MIN_MS), RETRY_MAX_MS);
			warnOnce('failed', `cannot push executions, trying again: ${failed}`);
			// With jitter, so that many processes do not retry at the same moment.
			const delayMs = Math.max(this.retryMs, Math.min(retryAfterMs, RETRY_MAX_MS));
			return this.schedule(delayMs * (0.75 + Math.random() / 2));
		}
		const isPart = this.parts.length > 0;
		this.partsSent = isPart ? this.partsSent + 1 : 0;
		if (mayBeOne && sent > 1 && this.partsSent < PARTS_MAX) {
			const half = Math.ceil(sent / 2);
			this.parts.splice(0, 1, half, sent - half);
			this.retryMs = 0;
			return this.schedule(0);
		}
		if (mayBeOne && this.partsSent >= PARTS_MAX) {
			sent = Math.max(sent, this.held());
			this.parts = [];
		}
		this.parts.shift();
		if (refused !== undefined) {
			warnOnce('refused', `${sent} executions were refused, the poll will find them: ${refused}`);
		}
		this.retryMs = 0;
		this.buffer.splice(0, sent);
		if (this.buffer.length === 0) return;
		const isReady = this.parts.length > 0 || this.buffer.length >= BATCH_MAX;
		this.schedule(isReady ? 0 : this.untilNext());
	}

	/** Calls `done` once, with the outcome of the request. */
	async post(body, done) {
		let answer;
		try {
			answer = await this.line.post(body, { timeoutMs: TIMEOUT_MS, holdsProcess: false });
		} catch (error) {
			return done({ failed: error.message });
		}
		const { status } = answer;
		if (status >= 200 && status < 300) return done(accepted(answer.body));
		if (MAY_BE_ONE.has(status)) return done({ refused: `status ${status}`, mayBeOne: true });
		if (FINAL_ANSWERS.has(status) || (status >= 300 && status < 400)) return done({ refused: `status ${status}` });
		done({ failed: `status ${status}`, retryAfterMs: Number(answer.headers['retry-after']) * 1_000 || 0 });
	}

	/** Sends what is left before the process ends, for a short time only. */
	async drain() {
		const giveUpAt = Date.now() + EXIT_GRACE_MS;
		if (this.timer !== null) clearTimeout(this.timer);
		this.timer = null;
		while (this.buffer.length > 0 && Date.now() < giveUpAt) {
			this.flush();
			await new Promise((resolve) => setTimeout(resolve, 10));
		}
	}
}

/** The outcome of a successful answer, which names the executions that could not be read. */
function accepted(body) {
	try {
		const { rejected } = JSON.parse(body.toString('utf8'));
		if (rejected.length > 0) return { refused: `${rejected.length} unreadable, the first: ${rejected[0].reason}` };
	} catch {
		// Whatever the body was: the status reported success.
	}
	return {};
}

function iso(time) {
	const date = time instanceof Date ? time : new Date(time);
	return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

/**
 * When the run began, as n8n's list has it. After a wait, n8n gives the hook the time at which the run resumed. From 2.x on
 * the list keeps the first start, as the data of the first node that ran does; in 1.x the list has the last one too.
 */
function startOf(run) {
	if (N8N_VERSION?.[0] === 1) return iso(run.startedAt ?? NaN);
	const nodes = CARRIED.has(run.mode) ? [] : Object.values(run.data?.resultData?.runData ?? {});
	const starts = nodes.map((runs) => runs?.[0]?.startTime);
	const times = [run.startedAt, ...starts].filter(Boolean).map((time) => new Date(time).getTime());
	const earliest = Math.min(...times.filter(Number.isFinite));
	return Number.isFinite(earliest) ? iso(earliest) : undefined;
}

/** When the run resumed after a wait, if that is another time than its start; Flowmeter needs both. */
function resumeOf(run, startedAt) {
	const resumed = run.startedAt ? new Date(run.startedAt).getTime() : NaN;
	return resumed - new Date(startedAt).getTime() > WAITED_MS ? iso(resumed) : undefined;
}

/**
 * Whether this file has refused the run. In the process that did, the error itself is marked. Another one (the main process in
 * queue mode) knows the run from the database: n8n writes one entry that failed without an error, for a node that never ran,
 * which no workflow that has run leaves.
 */
function isRefused(run) {
	const result = run.data?.resultData;
	const error = result?.error;
	if (error?.[REFUSED] === true) return true;
	const entries = Object.values(result?.runData ?? {}).flat();
	const [entry] = entries;
	const isShape = entries.length === 1 && entry?.executionStatus === 'error' && !entry.error;
	return run.status === 'error' && REFUSAL_NAMES.has(error?.name) && isShape;
}

/** A name that was cut inside a surrogate pair ends with half of one, which JSON must not contain: it becomes U+FFFD. */
function wellFormed(text) {
	return typeof text === 'string' ? Buffer.from(text, 'utf8').toString('utf8') : undefined;
}

/** The execution as Flowmeter accepts it; `undefined` if it has not ended, or n8n does not say how. */
function execution(run, workflow, id) {
	if (!run || !FINAL.has(run.status) || id === undefined || id === null) return undefined;
	const refused = isRefused(run);
	const startedAt = startOf(run);
	return {
		id: String(id),
		workflow_id: workflow?.id,
		workflow_name: wellFormed(workflow?.name),
		status: refused ? 'canceled' : run.status,
		mode: run.mode,
		started_at: startedAt,
		stopped_at: iso(run.stoppedAt ?? Date.now()),
		resumed_at: resumeOf(run, startedAt),
		refused: refused || undefined,
		admitted_at: refused ? undefined : admitted.of(workflow?.id, run, String(id)),
	};
}

/**
 * When runs were allowed, from preExecute to postExecute. n8n gives the first neither an execution's id nor anything else that
 * stays with the run in all versions, so a run takes the verdict on its workflow and mode that is nearest to its start. Two
 * runs of one workflow that start together may swap theirs: what matters is how many were allowed when.
 */
class Admitted {
	constructor() {
		/** Verdicts in order, by workflow and mode. */
		this.open = new Map();
		/** Verdicts that were taken, by execution: n8n may call postExecute twice. */
		this.taken = new Map();
		this.size = 0;
	}

	add(workflowId, mode, admittedAt) {
		const key = `${mode}:${workflowId}`;
		const verdicts = this.open.get(key) ?? [];
		// Last in the map's order: the first key is that of the workflow whose last verdict is the oldest.
		this.open.delete(key);
		this.open.set(key, verdicts);
		verdicts.push({ admittedAt, at: Date.now() });
		this.size += 1;
		while (this.size > ADMITTED_MAX) this.dropFirst();
	}

	dropFirst() {
		const [key, verdicts] = this.open.entries().next().value;
		verdicts.shift();
		this.size -= 1;
		if (verdicts.length === 0) this.open.delete(key);
	}

	/** When the run was allowed; `undefined` if that is not known here. */
	of(workflowId, run, id) {
		if (this.taken.has(id)) return this.taken.get(id);
		const key = `${run.mode}:${workflowId}`;
		const verdicts = this.open.get(key) ?? [];
		const startedAt = new Date(startOf(run) ?? NaN).getTime();
		const distance = ({ at }) => Math.abs(at - startedAt);
		const nearest = verdicts.reduce((best, one) => (best && distance(best) <= distance(one) ? best : one), undefined);
		if (nearest === undefined || !(distance(nearest) <= ADMITTED_WITHIN_MS)) return undefined;
		verdicts.splice(verdicts.indexOf(nearest), 1);
		this.size -= 1;
		if (verdicts.length === 0) this.open.delete(key);
		this.taken.set(id, nearest.admittedAt);
		if (this.taken.size > ADMITTED_MAX) this.taken.delete(this.taken.keys().next().value);
		return nearest.admittedAt;
	}
}

const admitted = new Admitted();

/** A run that may not start. */
class Refusal {
	/**
	 * @param {number} status for the caller of a webhook
	 * @param {string} message for a person
	 * @param {string} [hint] when or how it ends
	 */
	constructor(status, message, hint) {
		this.status = status;
		this.message = message;
		this.hint = hint;
	}

	/** n8n's own error, if n8n turns it into a clean answer. */
	toError() {
		const OfN8n = responseError();
		const error = OfN8n
			? new OfN8n(this.message, this.status, this.status, this.hint)
			: refusedBeforeStart(this.message);
		// n8n may pass on a copy of the error's own properties, which include this one. JSON does not.
		error[REFUSED] = true;
		// Outside production n8n sends it to the caller.
		error.stack = '';
		// n8n reports what a hook throws as fatal, to Sentry if it is configured, except errors marked as not to be reported.
		error.level = 'warning';
		error.shouldReport = false;
		return error;
	}
}

/**
 * Throws the refusal, so that n8n logs it without a stack trace. n8n wraps what a hook throws in an error of its own, whose
 * stack says nothing about the run, and logs that at once. Until this turn of the event loop is over, errors have no frames.
 */
function throwQuietly(refusal) {
	const error = refusal.toError();
	if (framesMax === undefined) {
		framesMax = Error.stackTraceLimit;
		Error.stackTraceLimit = 0;
		process.nextTick(() => {
			Error.stackTraceLimit = framesMax;
			framesMax = undefined;
		});
	}
	throw error;
}

/** The usual number of frames in stack traces, while there are none. */
let framesMax;

/** Before 2.40 n8n writes an execution for a refused run, with this error in it. */
function refusedBeforeStart(message) {
	const error = new Error(message);
	error.name = REFUSED_BEFORE_START;
	return error;
}

/** Where n8n is installed. */
const rootOfN8n = () => path.join(path.dirname(require.main.filename), '..');

/** n8n's version as numbers; `undefined` if n8n is built another way. */
function versionOfN8n() {
	try {
		return require(path.join(rootOfN8n(), 'package.json')).version.split('.').map(Number);
	} catch {
		return undefined;
	}
}

const N8N_VERSION = versionOfN8n();

/**
 * The id of this n8n, the same in all its processes: main, workers and webhook processes. n8n shows it in "About n8n". It lets
 * Flowmeter notice when two n8n push with one token. `undefined` if n8n is built another way: a generated id would differ from
 * process to process, and one n8n would look like several.
 *
 * Reads only what n8n has loaded itself, so that this loads and creates nothing. Read for each request, because 2.40 reads
 * the id from its database after it has loaded this file.
 */
function instanceOfN8n() {
	try {
		const ofN8n = createRequire(path.join(rootOfN8n(), 'package.json'));
		const loaded = (name) => require.cache[ofN8n.resolve(name)].exports;
		const { instanceId } = loaded('@n8n/di').Container.get(loaded('n8n-core').InstanceSettings);
		return typeof instanceId === 'string' && instanceId !== '' ? instanceId : undefined;
	} catch {
		return undefined;
	}
}

/** The class of n8n's errors that have a status; `undefined` before 2.40, or if n8n is built another way. */
function responseError() {
	try {
		const [major, minor] = CLEAN_REFUSAL_SINCE;
		const version = N8N_VERSION;
		if (version[0] < major || (version[0] === major && version[1] < minor)) return undefined;
		return require(path.join(rootOfN8n(), 'dist/errors/response-errors/abstract/response.error.js')).ResponseError;
	} catch {
		return undefined;
	}
}

/** Checks the limit before a run. */
class Gate {
	/**
	 * @param {string} url of the gateway
	 * @param {string} token
	 * @param {{whenAway?: string, waitMs?: string}} settings
	 */
	constructor(url, token, { whenAway = 'open', waitMs = '' }) {
		if (whenAway !== 'open' && whenAway !== 'closed') throw new Error('FLOWMETER_WHEN_AWAY is neither open nor closed');
		this.line = new Line(new URL('v1/admissions', url.endsWith('/') ? url : `${url}/`), token, ADMISSION_SOCKETS_MAX);
		this.waitMs = Number(waitMs) > 0 ? Number(waitMs) : ADMISSION_WAIT_MS;
		this.outage = { rule: whenAway, open_at_most_seconds: null };
		this.answeredAt = Date.now();
	}

	/** Why the run may not start; `undefined` if it may. */
	async ask(workflow, mode) {
		// One id for both attempts: they are one reservation.
		const body = JSON.stringify({ id: randomUUID(), workflow: String(workflow.id), mode });
		let verdict;
		try {
			verdict = await this.verdict(body);
		} catch (error) {
			return this.away(error.message);
		}
		this.answeredAt = Date.now();
		this.outage = verdict.outage ?? this.outage;
		if (!verdict.allowed) return refusal(verdict);
		if (typeof verdict.admitted_at === 'string') admitted.add(workflow.id, mode, verdict.admitted_at);
		return undefined;
	}

	async verdict(body) {
		const giveUpAt = performance.now() + this.waitMs;
		const send = () => {
			const leftMs = Math.max(Math.round(giveUpAt - performance.now()), STEP_MS);
			return this.line.post(body, { timeoutMs: leftMs, holdsProcess: true });
		};
		const { status, body: said } = await send().catch((error) => {
			if (!error.isStale) throw error;
			return send();
		});
		if (status !== 200) throw new Error(`status ${status}`);
		const verdict = JSON.parse(said.toString('utf8'));
		if (typeof verdict?.allowed !== 'boolean') throw new Error('the answer is not a verdict');
		return verdict;
	}

	/** What the outage rule decides. */
	away(why) {
		const { rule, open_at_most_seconds: openSeconds } = this.outage;
		const isOpen = rule === 'open' && Date.now() - this.answeredAt <= (openSeconds ?? Infinity) * 1_000;
		warnOnce('away', `cannot check the limit, so the run is ${isOpen ? 'allowed' : 'refused'}: ${why}`);
		if (isOpen) return undefined;
		return new Refusal(503, this.outage.message ?? AWAY);
	}
}

/** Message and hint are the gateway's, in one language, the tenant's. */
function refusal({ reason, message, hint }) {
	const status = USED_UP.has(reason) ? 402 : 429;
	return new Refusal(status, message ?? `Refused: ${reason}`, hint ?? undefined);
}

/** What `make` creates from the settings; `null`, and a line in the log, if they are invalid. */
function configured(what, make) {
	try {
		return make();
	} catch (error) {
		console.warn(`[flowmeter] ${what}: ${error.message}`);
		return null;
	}
}

/** @param {Record<string, string | undefined>} settings */
function startPusher({ FLOWMETER_PUSH_URL: url, FLOWMETER_PUSH_TOKEN: token }) {
	return configured('executions are not pushed', () => {
		if (!url || !token) throw new Error('FLOWMETER_PUSH_URL or FLOWMETER_PUSH_TOKEN is not set');
		return new Pusher(url, token);
	});
}

/** @param {Record<string, string | undefined>} settings */
function startGate({ FLOWMETER_GATEWAY_URL: url, FLOWMETER_PUSH_TOKEN: token, ...others }) {
	if (!url) return null;
	const settings = { whenAway: others.FLOWMETER_WHEN_AWAY || undefined, waitMs: others.FLOWMETER_WAIT_MS };
	return configured('no limit is checked', () => {
		if (!token) throw new Error('FLOWMETER_PUSH_TOKEN is not set');
		return new Gate(url, token, settings);
	});
}

/** The settings, which are removed from the environment. */
function takeSettings(environment) {
	const settings = Object.fromEntries(SETTINGS.map((name) => [name, environment[name]]));
	for (const name of SETTINGS) delete environment[name];
	return settings;
}

const settings = takeSettings(process.env);
const pusher = startPusher(settings);
const gate = startGate(settings);

/** n8n's own handlers end the process once its runs are over. If there are none, this one must. */
async function leave(signal) {
	const alone = process.listenerCount(signal) === 0;
	await pusher.drain();
	if (alone) process.kill(process.pid, signal);
}

if (pusher !== null) {
	process.once('beforeExit', () => void pusher.drain());
	for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => void leave(signal));
}

/** n8n: (run, workflowData, executionId, ctx); 1.x has no ctx. `run` may be missing. */
async function postExecute(run, workflow, executionId) {
	try {
		if (pusher === null) return;
		const finished = execution(run, workflow, executionId);
		if (finished !== undefined) pusher.add(finished);
	} catch (error) {
		try {
			console.warn(`[flowmeter] an execution was not pushed: ${error?.message}`);
		} catch {
			// Nothing is left to try, and a throw would turn a success into an error.
		}
	}
}

/**
 * n8n: (workflow, mode, ctx, source); 1.x: (workflow, mode). A throw refuses the run.
 *
 * In queue mode before 2.40 n8n calls it in the main process as well, without a workflow, when the run is in the queue
 * already: only the worker can refuse it, so only the worker checks, and both calls take one reservation.
 */
async function preExecute(workflow, mode) {
	let refused;
	try {
		if (!workflow?.id || UNASKED.has(mode)) return;
		refused = await gate.ask(workflow, mode);
	} catch (error) {
		// A fault of the hook refuses nothing.
		warnOnce('fault', `the limit was not checked, so the run starts: ${error?.message}`);
	}
	if (refused !== undefined) throwQuietly(refused);
}

module.exports = { workflow: { postExecute: [postExecute], ...(gate === null ? {} : { preExecute: [preExecute] }) } };
