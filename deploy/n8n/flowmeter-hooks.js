/**
 * Tells Flowmeter of every finished execution within a second: one file for n8n's EXTERNAL_HOOK_FILES.
 *
 *   FLOWMETER_PUSH_URL    the collector's address, e.g. https://push.flowmeter.example/v1/executions
 *   FLOWMETER_PUSH_TOKEN  the source's push token, from `flowmeter sources push-token ID`
 *
 * Without both, it does nothing. It never breaks or delays a run: a hook that throws would turn a success into an
 * error, so everything is caught, and nothing waits for the network. It may lose (a full buffer, a killed
 * process): Flowmeter's poll finds what was lost.
 *
 * In queue mode n8n calls the hook twice for a run, on the main process and on the worker. Both send the same
 * execution, which counts once.
 *
 * Node built-ins only. n8n 1.123 and 2.x.
 */
'use strict';

const http = require('node:http');
const https = require('node:https');

/** Executions in one request. */
const BATCH_MAX = 100;

/** From one request to the next that is not full, in milliseconds; after a pause the first one leaves at once. */
const FLUSH_AFTER_MS = 200;
const FLUSH_SOON_MS = 10;

/** Executions kept while the collector is away: about 4 MB. Beyond it the oldest are dropped. */
const BUFFER_MAX = 10_000;

/** A collector that has not answered by then is asked again. */
const TIMEOUT_MS = 2_000;

/** Pauses between attempts double between these bounds, in milliseconds. */
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 30_000;

/** The most of an answer that is read, in bytes. */
const ANSWER_BYTES_MAX = 64 * 1024;

/** A log line of each kind is written once in so many milliseconds. */
const LOG_EVERY_MS = 60_000;

/** How long the end of the process may wait for the last executions, in milliseconds. */
const EXIT_GRACE_MS = 1_000;

/** What n8n calls an execution that has ended. */
const FINAL = new Set(['success', 'error', 'crashed', 'canceled']);

/** Runs that begin with the data of an earlier run's nodes. */
const CARRIED = new Set(['retry', 'manual']);

/** Answers that do not change by asking again. The other ones of 400 and above may. */
const REFUSED = new Set([400, 401, 403, 404, 405, 413, 415, 422]);

/** Sends executions in the background. */
class Pusher {
	/**
	 * @param {string} url
	 * @param {string} token
	 */
	constructor(url, token) {
		this.url = new URL(url);
		this.transport = this.url.protocol === 'https:' ? https : http;
		this.agent = new this.transport.Agent({ keepAlive: true, maxSockets: 2 });
		this.token = token;
		this.buffer = [];
		this.sending = 0;
		this.timer = null;
		this.flushedAt = 0;
		this.retryMs = 0;
		this.dropped = 0;
		this.loggedAt = new Map();
	}

	/** Takes one execution. Returns at once. */
	add(execution) {
		this.buffer.push(execution);
		this.bound();
		if (this.retryMs === 0 && this.sending === 0 && this.buffer.length >= BATCH_MAX) this.schedule(0);
		else this.schedule(this.untilNext());
	}

	untilNext() {
		const waitMs = this.flushedAt + FLUSH_AFTER_MS - Date.now();
		// A clock that was set back must not hold it up.
		return Math.min(Math.max(waitMs, FLUSH_SOON_MS), FLUSH_AFTER_MS);
	}

	/** Drops the oldest beyond the bound; never those that are under way, which stand first. */
	bound() {
		const excess = this.buffer.length - BUFFER_MAX;
		if (excess <= 0) return;
		this.buffer.splice(this.sending, excess);
		this.dropped += excess;
		if (this.log('dropped', `${this.dropped} executions were not pushed; the poll will find them`)) this.dropped = 0;
	}

	schedule(delayMs) {
		if (this.sending > 0) return;
		if (this.timer !== null) {
			// A full batch need not wait, unless the collector is being left alone.
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

	/** Sends the next batch, unless one is under way. */
	flush() {
		if (this.sending > 0 || this.buffer.length === 0) return;
		this.sending = Math.min(this.buffer.length, BATCH_MAX);
		this.flushedAt = Date.now();
		let body;
		try {
			body = JSON.stringify({ executions: this.buffer.slice(0, this.sending) });
		} catch (error) {
			return this.settle({ refused: `cannot be written: ${error.message}` });
		}
		this.post(body, (outcome) => this.settle(outcome));
	}

	settle({ refused, failed, retryAfterMs = 0 }) {
		const sent = this.sending;
		this.sending = 0;
		if (failed !== undefined) {
			this.retryMs = Math.min(Math.max(this.retryMs * 2, RETRY_MIN_MS), RETRY_MAX_MS);
			this.log('failed', `cannot push executions, trying again: ${failed}`);
			// Spread, so that many processes do not come back at the same moment.
			const delayMs = Math.max(this.retryMs, Math.min(retryAfterMs, RETRY_MAX_MS));
			return this.schedule(delayMs * (0.75 + Math.random() / 2));
		}
		if (refused !== undefined) {
			this.log('refused', `${sent} executions were refused, the poll will find them: ${refused}`);
		}
		this.retryMs = 0;
		this.buffer.splice(0, sent);
		if (this.buffer.length > 0) this.schedule(this.buffer.length >= BATCH_MAX ? 0 : this.untilNext());
	}

	/** Calls `done` once, with what became of the request. */
	post(body, done) {
		let settled = false;
		let deadline = null;
		const once = (outcome) => {
			if (settled) return;
			settled = true;
			clearTimeout(deadline);
			done(outcome);
		};
		try {
			const request = this.transport.request(this.url, {
				method: 'POST',
				agent: this.agent,
				headers: {
					authorization: `Bearer ${this.token}`,
					'content-type': 'application/json',
					'content-length': Buffer.byteLength(body),
				},
			});
			// Of the whole exchange: a socket's own timeout begins anew with every byte.
			deadline = setTimeout(() => request.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
			deadline.unref();
			request.on('error', (error) => once({ failed: error.message }));
			request.on('socket', (socket) => socket.unref());
			request.on('response', (response) => this.read(response, once));
			request.end(body);
		} catch (error) {
			once({ failed: error.message });
		}
	}

	/** Reads an answer to its end, so that its connection can be used again. */
	read(response, once) {
		const chunks = [];
		let bytes = 0;
		response.on('data', (chunk) => {
			bytes += chunk.length;
			if (bytes > ANSWER_BYTES_MAX) response.destroy(new Error('the answer is too long'));
			else chunks.push(chunk);
		});
		response.on('error', (error) => once({ failed: error.message }));
		response.on('close', () => once({ failed: 'the answer ended early' }));
		response.on('end', () => {
			const status = response.statusCode;
			if (status >= 200 && status < 300) return once(accepted(Buffer.concat(chunks)));
			if (REFUSED.has(status) || (status >= 300 && status < 400)) return once({ refused: `status ${status}` });
			const retryAfterMs = Number(response.headers['retry-after']) * 1_000 || 0;
			once({ failed: `status ${status}`, retryAfterMs });
		});
	}

	/** Sends what is left before the process ends, for a moment at most. */
	async drain() {
		const giveUpAt = Date.now() + EXIT_GRACE_MS;
		if (this.timer !== null) clearTimeout(this.timer);
		this.timer = null;
		while (this.buffer.length > 0 && Date.now() < giveUpAt) {
			this.flush();
			await new Promise((resolve) => setTimeout(resolve, 10));
		}
	}

	/** Whether the line was written: one of each kind a minute. */
	log(kind, text) {
		const now = Date.now();
		if (now - (this.loggedAt.get(kind) ?? -Infinity) < LOG_EVERY_MS) return false;
		this.loggedAt.set(kind, now);
		console.warn(`[flowmeter] ${text}`);
		return true;
	}
}

/** What an answer of success says: executions that could not be read are named in it. */
function accepted(body) {
	try {
		const { rejected } = JSON.parse(body.toString('utf8'));
		if (rejected.length > 0) return { refused: `${rejected.length} unreadable, the first: ${rejected[0].reason}` };
	} catch {
		// Whatever stood there: the status said that all is well.
	}
	return {};
}

function iso(time) {
	const date = time instanceof Date ? time : new Date(time);
	return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

/**
 * When the run began. After a wait n8n says when it went on, but its list keeps the first start; so does the data of
 * the first node that ran.
 */
function startOf(run) {
	const nodes = CARRIED.has(run.mode) ? [] : Object.values(run.data?.resultData?.runData ?? {});
	const starts = nodes.map((runs) => runs?.[0]?.startTime);
	const times = [run.startedAt, ...starts].filter(Boolean).map((time) => new Date(time).getTime());
	const earliest = Math.min(...times.filter(Number.isFinite));
	return Number.isFinite(earliest) ? iso(earliest) : undefined;
}

/** The execution as Flowmeter takes it; nothing where it has not ended, or n8n does not say how. */
function execution(run, workflow, id) {
	if (!run || !FINAL.has(run.status) || id === undefined || id === null) return undefined;
	return {
		id: String(id),
		workflow_id: workflow?.id,
		workflow_name: workflow?.name,
		status: run.status,
		mode: run.mode,
		started_at: startOf(run),
		stopped_at: iso(run.stoppedAt ?? Date.now()),
	};
}

function start(environment) {
	const { FLOWMETER_PUSH_URL: url, FLOWMETER_PUSH_TOKEN: token } = environment;
	if (!url || !token) {
		console.warn('[flowmeter] FLOWMETER_PUSH_URL or FLOWMETER_PUSH_TOKEN is not set: executions are not pushed');
		return null;
	}
	try {
		return new Pusher(url, token);
	} catch (error) {
		console.warn(`[flowmeter] executions are not pushed: ${error.message}`);
		return null;
	}
}

const pusher = start(process.env);

/** n8n's own handlers end the process once its runs are over. Where there are none, this one must. */
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
			// Nothing is left to try, and a throw would make an error of a success.
		}
	}
}

module.exports = { workflow: { postExecute: [postExecute] } };
