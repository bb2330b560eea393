// @ts-check
// node --test deploy/n8n/admission.test.js
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');

const FILE = require.resolve('./flowmeter-hooks.js');

const OUTAGE = { rule: 'open', open_at_most_seconds: null };
const ALLOWED = { allowed: true, reason: 'within_limit', outage: OUTAGE };
const REFUSED = {
	allowed: false,
	reason: 'limit_reached',
	message: 'Refused: 50 of 50 executions are used.',
	retry_at: '2026-12-01T00:00:00Z',
	hint: 'Runs may start again on 1 December 2026 at 01:00 (Europe/Madrid).',
	outage: OUTAGE,
};

const workflow = { id: 'w1', name: 'Order sync' };

/** @type {(server: import('node:net').Server) => Promise<void>} */
const listening = (server) => new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve()));

/** @type {(server: import('node:net').Server) => number} */
const port = (server) => /** @type {import('node:net').AddressInfo} */ (server.address()).port;

/**
 * A gateway that keeps its requests; `answer` returns status and body, or `undefined` to never answer.
 * @param {(count: number, more?: any) => [number, any?] | undefined} answer
 */
async function gateway(answer = () => [200, ALLOWED]) {
	const asked = [];
	const connections = new Set();
	const server = http.createServer((request, response) => {
		const chunks = [];
		request.on('data', (chunk) => chunks.push(chunk));
		request.on('end', () => {
			connections.add(request.socket);
			const body = JSON.parse(Buffer.concat(chunks).toString('utf8'));
			asked.push({ method: request.method, url: request.url, headers: request.headers, body });
			const said = answer(asked.length, response);
			if (said === undefined) return;
			response.writeHead(said[0], { 'content-type': 'application/json' });
			response.end(JSON.stringify(said[1] ?? {}));
		});
	});
	await listening(server);
	const url = `http://127.0.0.1:${port(server)}`;
	const stop = () => {
		server.closeAllConnections();
		return new Promise((resolve) => server.close(resolve));
	};
	return { asked, connections, server, url, stop };
}

/** The hooks of the file, loaded as n8n loads it. */
function hooks(environment) {
	delete require.cache[FILE];
	const unset = { FLOWMETER_PUSH_URL: '', FLOWMETER_WHEN_AWAY: '', FLOWMETER_WAIT_MS: '' };
	Object.assign(process.env, unset, { FLOWMETER_PUSH_TOKEN: 'fmp_north-n8n.secret' }, environment);
	return require(FILE).workflow;
}

const gated = (url, others = {}) => hooks({ FLOWMETER_GATEWAY_URL: url, ...others }).preExecute[0];

/** An address where nothing listens any more. */
async function nowhere() {
	const { url, stop } = await gateway();
	await stop();
	return url;
}

test.beforeEach((context) => 'mock' in context && context.mock.method(console, 'warn', () => {}));

test('no limit is checked without a gateway', () => {
	assert.equal(hooks({ FLOWMETER_GATEWAY_URL: '' }).preExecute, undefined);
	assert.equal(hooks({ FLOWMETER_GATEWAY_URL: 'no url' }).preExecute, undefined);
	const misspelt = { FLOWMETER_GATEWAY_URL: 'http://127.0.0.1:9', FLOWMETER_WHEN_AWAY: 'maybe' };
	assert.equal(hooks(misspelt).preExecute, undefined);
});

test('a limit check has workflow, mode and its own id, and the source token', async () => {
	const { asked, url, stop } = await gateway();
	const pre = gated(url);
	await pre(workflow, 'webhook', { any: 'context' }, 'webhook');
	await pre(workflow, 'trigger');
	assert.deepEqual([asked[0].method, asked[0].url], ['POST', '/v1/admissions']);
	assert.equal(asked[0].headers.authorization, 'Bearer fmp_north-n8n.secret');
	assert.deepEqual(
		asked.map(({ body }) => [body.workflow, body.mode]),
		[
			['w1', 'webhook'],
			['w1', 'trigger'],
		],
	);
	assert.notEqual(asked[0].body.id, asked[1].body.id);
	await stop();
});

test('sub-workflows, error workflows and calls without a workflow are never checked', async () => {
	const { asked, url, stop } = await gateway(() => [200, REFUSED]);
	const pre = gated(url);
	await pre(workflow, 'integrated');
	await pre(workflow, 'error');
	await pre(undefined, 'webhook');
	assert.equal(asked.length, 0);
	await stop();
});

test('a refusal throws the reason: a plain error if n8n has none of its own', async () => {
	const { url, stop } = await gateway(() => [200, REFUSED]);
	await assert.rejects(gated(url)(workflow, 'webhook'), { name: 'RefusedBeforeStart', message: REFUSED.message });
	await stop();
});

/** @type {[string, string, { name: string, httpStatusCode?: number, hint?: string }][]} */
const VERSIONS = [
	['2.40.7', 'limit_reached', { name: 'ResponseError', httpStatusCode: 402, hint: REFUSED.hint }],
	['3.0.0', 'tenant_minute_cap', { name: 'ResponseError', httpStatusCode: 429 }],
	['2.39.1', 'limit_reached', { name: 'RefusedBeforeStart' }],
	['1.123.81', 'limit_reached', { name: 'RefusedBeforeStart' }],
];
for (const [version, reason, expected] of VERSIONS) {
	test(`n8n ${version} refuses for ${reason} with ${expected.httpStatusCode ?? 'a plain error'}`, async () => {
		const { url, stop } = await gateway(() => [200, { ...REFUSED, reason }]);
		const root = installed(version);
		const ours = require.main.filename;
		require.main.filename = path.join(root, 'bin/n8n');
		try {
			await assert.rejects(gated(url)(workflow, 'webhook'), { ...expected, message: REFUSED.message });
		} finally {
			require.main.filename = ours;
			fs.rmSync(root, { recursive: true });
		}
		await stop();
	});
}

const SPANISH = {
	message: 'Rechazada: se han usado 50 de 50 ejecuciones.',
	hint: 'Las ejecuciones podrán volver a iniciarse el 1 de diciembre de 2026 a las 00:00 (Europe/Madrid).',
};

test("a refusal and its hint are in the language of the gateway's answer", async () => {
	const { url, stop } = await gateway(() => [200, { ...REFUSED, ...SPANISH }]);
	const root = installed('2.40.7');
	const ours = require.main.filename;
	require.main.filename = path.join(root, 'bin/n8n');
	try {
		await assert.rejects(gated(url)(workflow, 'webhook'), SPANISH);
	} finally {
		require.main.filename = ours;
		fs.rmSync(root, { recursive: true });
	}
	await stop();
});

test('while the gateway is unavailable, a refusal keeps the last language', async () => {
	const message = 'Rechazada: en este momento no se puede comprobar.';
	const outage = { rule: 'closed', open_at_most_seconds: null, message };
	const { url, stop } = await gateway((count) => (count === 1 ? [200, { ...ALLOWED, outage }] : [503]));
	const pre = gated(url);
	await pre(workflow, 'webhook');
	await assert.rejects(pre(workflow, 'webhook'), { message });
	await stop();
});

test("neither the caller nor n8n's log gets a stack trace of a refusal", async () => {
	const { url, stop } = await gateway(() => [200, REFUSED]);
	const pre = gated(url);
	const frames = Error.stackTraceLimit;
	// n8n: what a hook throws is wrapped and logged at once; outside production the caller gets the stack, if there is one.
	const logged = async () => {
		try {
			await pre(workflow, 'webhook');
		} catch (cause) {
			return { wrapper: new Error('External hook "workflow.preExecute" failed', { cause }), cause };
		}
	};
	for (const { wrapper, cause } of await Promise.all([logged(), logged(), logged()])) {
		assert.equal(cause.stack, '');
		assert.deepEqual([cause.level, cause.shouldReport], ['warning', false], 'n8n reports it to nobody');
		assert.doesNotMatch(wrapper.stack, /\n\s+at /);
	}
	await new Promise((resolve) => setImmediate(resolve));
	assert.equal(Error.stackTraceLimit, frames);
	assert.match(new Error('of somebody else').stack, /\n\s+at /);
	await stop();
});

/** An n8n of this version, as far as the hook reads it. */
function installed(version) {
	const root = fs.mkdtempSync(path.join(os.tmpdir(), 'n8n-'));
	const errors = path.join(root, 'dist/errors/response-errors/abstract');
	fs.mkdirSync(errors, { recursive: true });
	fs.writeFileSync(path.join(root, 'package.json'), JSON.stringify({ version }));
	fs.writeFileSync(
		path.join(errors, 'response.error.js'),
		`exports.ResponseError = class extends Error {
			constructor(message, httpStatusCode, errorCode, hint) {
				super(message);
				Object.assign(this, { name: 'ResponseError', httpStatusCode, errorCode, hint });
			}
		};`,
	);
	return root;
}

test('a run that was refused here is sent as canceled, one with such an error is not', async () => {
	const { url, stop } = await gateway((count) => (count === 1 ? [200, REFUSED] : [202, { rejected: [] }]));
	const pushed = [];
	const collector = http.createServer((request, response) => {
		const chunks = [];
		request.on('data', (chunk) => chunks.push(chunk));
		request.on('end', () => {
			pushed.push(...JSON.parse(Buffer.concat(chunks).toString('utf8')).executions);
			response.writeHead(202, { 'content-type': 'application/json' });
			response.end(JSON.stringify({ rejected: [] }));
		});
	});
	await listening(collector);
	const push = `http://127.0.0.1:${port(collector)}/v1/executions`;
	const { preExecute, postExecute } = hooks({ FLOWMETER_GATEWAY_URL: url, FLOWMETER_PUSH_URL: push });
	const error = await preExecute[0](workflow, 'webhook').then(assert.fail, (refused) => refused);
	const failed = (error) => ({
		mode: 'webhook',
		status: 'error',
		startedAt: new Date(0),
		stoppedAt: new Date(1),
		data: { resultData: { error } },
	});
	await postExecute[0](failed(error), workflow, '1');
	await postExecute[0](failed({ ...error, message: error.message, stack: error.stack }), workflow, '2');
	await postExecute[0](failed({ name: error.name, message: error.message, stack: error.stack }), workflow, '3');
	while (pushed.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
	assert.deepEqual(
		pushed.map(({ id, status }) => [id, status]),
		[
			['1', 'canceled'],
			['2', 'canceled'],
			['3', 'error'],
		],
	);
	await new Promise((resolve) => {
		collector.closeAllConnections();
		collector.close(resolve);
	});
	await stop();
});

test('runs that start at once are checked at once, over kept connections', async () => {
	const { asked, connections, url, stop } = await gateway((count) => [200, count > 50 ? REFUSED : ALLOWED]);
	const pre = gated(url, { FLOWMETER_WAIT_MS: '5000' });
	const runs = await Promise.allSettled(Array.from({ length: 80 }, () => pre(workflow, 'webhook')));
	assert.equal(runs.filter(({ status }) => status === 'fulfilled').length, 50);
	assert.equal(runs.filter(({ status }) => status === 'rejected').length, 30);
	assert.ok(connections.size <= 32, `${connections.size} connections`);
	const before = connections.size;
	await assert.rejects(pre(workflow, 'webhook'));
	assert.equal(connections.size, before);
	assert.equal(new Set(asked.map(({ body }) => body.id)).size, 81);
	await stop();
});

test('a kept connection that the gateway closed is no outage and reserves once', async () => {
	const seen = [];
	const { url, asked, stop } = await gateway((count, response) => {
		seen.push(count);
		if (count !== 2) return [200, count === 1 ? ALLOWED : REFUSED];
		response.socket.resetAndDestroy();
		return undefined;
	});
	const pre = gated(url);
	await pre(workflow, 'webhook');
	await assert.rejects(pre(workflow, 'webhook'), { message: REFUSED.message });
	assert.equal(seen.length, 3);
	assert.equal(asked[1].body.id, asked[2].body.id);
	await stop();
});

test('while the gateway has never answered, the setting decides', async () => {
	const url = await nowhere();
	await gated(url)(workflow, 'webhook');
	await assert.rejects(gated(url, { FLOWMETER_WHEN_AWAY: 'closed' })(workflow, 'webhook'), /cannot be checked/);
});

/** @type {[string, [number, any] | undefined][]} */
const OUTAGES = [
	['is silent', undefined],
	['is unavailable', [503, { error: { code: 'unavailable' } }]],
	['refuses the token', [401, { error: { code: 'unauthorized' } }]],
	['gives an invalid answer', [200, { sense: 'none' }]],
];
for (const [what, said] of OUTAGES) {
	test(`once it has answered, the plan's rule applies while the gateway ${what}`, async () => {
		const outage = { rule: 'closed', open_at_most_seconds: null };
		const { url, stop } = await gateway((count) => (count === 1 ? [200, { ...ALLOWED, outage }] : said));
		const pre = gated(url, { FLOWMETER_WHEN_AWAY: 'open', FLOWMETER_WAIT_MS: '100' });
		await pre(workflow, 'webhook');
		await assert.rejects(pre(workflow, 'webhook'), /cannot be checked/);
		await stop();
	});
}

test('a plan that is open for a time is closed after it', async (context) => {
	const outage = { rule: 'open', open_at_most_seconds: 60 };
	const { url, stop } = await gateway((count) => (count === 1 ? [200, { ...ALLOWED, outage }] : [503]));
	context.mock.timers.enable({ apis: ['Date'], now: 1_000_000 });
	const pre = gated(url);
	await pre(workflow, 'webhook');
	context.mock.timers.setTime(1_059_000);
	await pre(workflow, 'webhook');
	context.mock.timers.setTime(1_061_000);
	await assert.rejects(pre(workflow, 'webhook'), /cannot be checked/);
	await stop();
});

test('a fault of the hook refuses no run, whatever n8n passes', async () => {
	const { url, stop } = await gateway();
	const pre = gated(url);
	const broken = new Proxy(
		{},
		{
			get: () => {
				throw new Error('broken');
			},
		},
	);
	for (const bad of [broken, null, 3, {}]) await pre(bad, 'webhook');
	await stop();
});

test('a run is pushed with the time it was allowed, even if its end comes twice', async () => {
	const admittedAt = '2026-11-24T01:00:00.25Z';
	const { asked, url, stop } = await gateway((count) =>
		count <= 2 ? [200, { ...ALLOWED, admitted_at: count === 1 ? admittedAt : null }] : [202, { rejected: [] }],
	);
	const { preExecute, postExecute } = hooks({ FLOWMETER_GATEWAY_URL: url, FLOWMETER_PUSH_URL: `${url}/push` });
	const end = (id, mode = 'webhook', startedAt = new Date()) =>
		postExecute[0]({ status: 'success', mode, startedAt, stoppedAt: new Date() }, workflow, id);
	await preExecute[0](workflow, 'webhook');
	await preExecute[0](workflow, 'manual');
	await end('6', 'webhook', new Date(Date.now() - 60_000));
	await end('7');
	await end('7');
	await end('8');
	await end('9', 'manual');
	while (asked.filter((one) => one.url === '/push').flatMap(({ body }) => body.executions).length < 5) {
		await new Promise((resolve) => setImmediate(resolve));
	}
	const pushed = asked.filter((one) => one.url === '/push').flatMap(({ body }) => body.executions);
	assert.deepEqual(
		pushed.map(({ id, admitted_at: at }) => [id, at]),
		[
			['6', undefined],
			['7', admittedAt],
			['7', admittedAt],
			['8', undefined],
			['9', undefined],
		],
	);
	await stop();
});
