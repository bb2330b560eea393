// @ts-check
// node --test deploy/n8n/
'use strict';

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');

const FILE = require.resolve('./flowmeter-hooks.js');
const PATIENCE_MS = 10_000;

/** @type {(server: import('node:net').Server) => Promise<void>} */
const listening = (server) => new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve()));

/** @type {(server: import('node:net').Server) => number} */
const port = (server) => /** @type {import('node:net').AddressInfo} */ (server.address()).port;

/**
 * A collector that keeps its requests, and answers with `answer`.
 * @param {(count: number, more?: any) => [number, any?] | undefined} answer
 */
async function collector(answer = () => [202, { accepted: 1, ignored: 0, rejected: [] }]) {
	const requests = [];
	const server = http.createServer((request, response) => {
		const chunks = [];
		request.on('data', (chunk) => chunks.push(chunk));
		request.on('end', () => {
			const body = JSON.parse(Buffer.concat(chunks).toString('utf8'));
			requests.push({ headers: request.headers, url: request.url, body, executions: body.executions });
			const said = answer(requests.length, body.executions);
			if (said === undefined) return; // Never answers.
			response.writeHead(said[0], { 'content-type': 'application/json' });
			response.end(JSON.stringify(said[1] ?? {}));
		});
	});
	await listening(server);
	const url = `http://127.0.0.1:${port(server)}/v1/executions`;
	const stop = () => {
		server.closeAllConnections();
		return new Promise((resolve) => server.close(resolve));
	};
	return { requests, url, stop };
}

/** The hook file, loaded as n8n loads it. */
function load(environment) {
	delete require.cache[FILE];
	Object.assign(
		process.env,
		{ FLOWMETER_PUSH_URL: '', FLOWMETER_PUSH_TOKEN: '', FLOWMETER_GATEWAY_URL: '' },
		environment,
	);
	const [post] = require(FILE).workflow.postExecute;
	return post;
}

const hooked = (url) => load({ FLOWMETER_PUSH_URL: url, FLOWMETER_PUSH_TOKEN: 'fmp_north-n8n.secret' });

function run(status = 'success') {
	const startedAt = new Date('2026-11-24T01:00:00.000Z');
	const stoppedAt = new Date('2026-11-24T01:00:00.250Z');
	return { mode: 'webhook', status, startedAt, stoppedAt, finished: status === 'success', data: {} };
}

const workflow = { id: 'w1', name: 'Order sync', nodes: [] };

async function eventually(what, look) {
	const giveUpAt = Date.now() + PATIENCE_MS;
	while (!look()) {
		assert.ok(Date.now() < giveUpAt, `not reached: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
}

/** The warnings while `act` runs. */
async function warnings(act) {
	const lines = [];
	const warn = console.warn;
	console.warn = (line) => lines.push(line);
	try {
		await act();
	} finally {
		console.warn = warn;
	}
	return lines;
}

test('a finished run is sent within a second, with its workflow', async () => {
	const { requests, url, stop } = await collector();
	const post = hooked(url);
	const began = Date.now();
	await post(run(), workflow, '926', { any: 'context' });
	await eventually('it is sent', () => requests.length === 1);
	assert.ok(Date.now() - began < 1_000);
	assert.equal(requests[0].headers.authorization, 'Bearer fmp_north-n8n.secret');
	assert.deepEqual(requests[0].executions, [
		{
			id: '926',
			workflow_id: 'w1',
			workflow_name: 'Order sync',
			status: 'success',
			mode: 'webhook',
			started_at: '2026-11-24T01:00:00.000Z',
			stopped_at: '2026-11-24T01:00:00.250Z',
		},
	]);
	await stop();
});

test('a request has the time of each attempt, and no instance if n8n has none', async () => {
	let answers = 0;
	const { requests, url, stop } = await collector(() => [++answers === 1 ? 503 : 202, {}]);
	const post = hooked(url);
	const began = Date.now();
	await post(run(), workflow, '926');
	await eventually('it is sent again', () => requests.length === 2);
	const [first, second] = requests.map(({ body }) => Date.parse(body.sent_at));
	assert.ok(first >= began - 1 && second > first && second <= Date.now(), `${first} ${second}`);
	assert.equal('instance' in requests[1].body, false);
	await stop();
});

test('a request names the instance as n8n itself has it, once n8n knows it', async (context) => {
	const { requests, url, stop } = await collector();
	const root = fs.mkdtempSync(path.join(os.tmpdir(), 'flowmeter-n8n-'));
	context.after(() => fs.rmSync(root, { recursive: true, force: true }));
	const write = (name, text) => {
		fs.mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
		fs.writeFileSync(path.join(root, name), text);
	};
	write('package.json', '{"name": "n8n", "version": "2.40.7"}');
	write('node_modules/@n8n/di/package.json', '{"main": "index.js"}');
	write(
		'node_modules/@n8n/di/index.js',
		'const made = new Map(); exports.Container = { get: (of) => made.get(of) ?? made.set(of, new of()).get(of) };',
	);
	write('node_modules/n8n-core/package.json', '{"main": "index.js"}');
	write('node_modules/n8n-core/index.js', "exports.InstanceSettings = class { instanceId = 'of the key'; };");
	const { filename } = require.main;
	require.main.filename = path.join(root, 'bin', 'n8n');
	context.after(() => (require.main.filename = filename));
	const post = hooked(url);
	await post(run(), workflow, '1');
	await eventually('one is sent', () => requests.length === 1);
	assert.equal('instance' in requests[0].body, false, 'reading it loads nothing');
	const { Container } = require(path.join(root, 'node_modules/@n8n/di'));
	const { InstanceSettings } = require(path.join(root, 'node_modules/n8n-core'));
	Container.get(InstanceSettings).instanceId = 'of the database';
	await post(run(), workflow, '2');
	await eventually('another is sent', () => requests.length === 2);
	assert.equal(requests[1].body.instance, 'of the database');
	await stop();
});

/** What a process knows about a run that another one has refused: one entry, of a node that never ran. */
const refusedShape = (name) => ({
	error: { name, message: 'no' },
	runData: { Webhook: [{ startTime: 1, executionTime: 0, executionStatus: 'error', source: [] }] },
});

test('the name of its error alone never makes a failed run free', async () => {
	const { requests, url, stop } = await collector();
	const post = hooked(url);
	const failed = (resultData) => ({ ...run('error'), data: { resultData } });
	const ran = { startTime: 1, executionTime: 3, executionStatus: 'success', source: [] };
	for (const name of ['RefusedBeforeStart', 'ResponseError']) {
		const error = { name, message: 'no' };
		const threw = { ...ran, executionStatus: 'error', error };
		await post(failed({ error }), workflow, '1');
		await post(failed({ error, runData: {} }), workflow, '2');
		await post(failed({ error, runData: { Function: [threw] } }), workflow, '3');
		await post(failed({ error, runData: { Webhook: [ran], Function: [threw] } }), workflow, '4');
		const shape = refusedShape(name);
		await post(failed({ ...shape, runData: { ...shape.runData, Other: [ran] } }), workflow, '5');
		await post({ ...failed(shape), status: 'success' }, workflow, '6');
		// Another symbol of the same name is not ours.
		await post(
			failed({ error: { ...error, [Symbol('refused')]: true, [Symbol.for('refused')]: true } }),
			workflow,
			'7',
		);
	}
	await post(failed({ ...refusedShape('NodeApiError') }), workflow, '8');
	const sent = () => requests.flatMap((request) => request.executions);
	await eventually('all are sent', () => sent().length === 15);
	assert.deepEqual(new Set(sent().map(({ status }) => status)), new Set(['error', 'success']));
	assert.ok(sent().every(({ refused }) => refused === undefined));
	await stop();
});

test('a run that another process has refused is recognized by its data', async () => {
	const { requests, url, stop } = await collector();
	const post = hooked(url);
	for (const [id, name] of [
		['1', 'RefusedBeforeStart'],
		['2', 'ResponseError'],
	]) {
		await post({ ...run('error'), data: { resultData: refusedShape(name) } }, workflow, id);
	}
	const sent = () => requests.flatMap((request) => request.executions);
	await eventually('both are sent', () => sent().length === 2);
	assert.deepEqual(
		sent().map(({ status, refused }) => [status, refused]),
		[
			['canceled', true],
			['canceled', true],
		],
	);
	await stop();
});

test('the token and the other settings are gone from the environment once the file is loaded', async () => {
	const { requests, url, stop } = await collector();
	const post = hooked(url);
	const left = Object.keys(process.env).filter((name) => name.startsWith('FLOWMETER_'));
	assert.deepEqual(left, []);
	assert.ok(!Object.values(process.env).some((value) => value.includes('fmp_')));
	await post(run(), workflow, '926');
	await eventually('it still works', () => requests.length === 1);
	assert.equal(requests[0].headers.authorization, 'Bearer fmp_north-n8n.secret');
	await stop();
});

test('runs that have not ended are skipped, and 1.x may pass no context or run', async () => {
	const { requests, url, stop } = await collector();
	const post = hooked(url);
	for (const status of ['waiting', 'running', 'new', 'unknown']) await post(run(status), workflow, '1');
	await post(undefined, workflow, '2');
	await post(run(), workflow, undefined);
	await post(run('crashed'), workflow, '3');
	await eventually('the crashed one is sent', () => requests.length === 1);
	assert.deepEqual(
		requests[0].executions.map(({ id, status }) => [id, status]),
		[['3', 'crashed']],
	);
	await stop();
});

test('a run that waited has its first start, not the time at which it resumed', async () => {
	const { requests, url, stop } = await collector();
	const post = hooked(url);
	const began = Date.parse('2026-11-24T00:00:00.005Z');
	const runData = { Wait: [{ startTime: began + 20 }, { startTime: began + 9_000 }], Webhook: [{ startTime: began }] };
	await post({ ...run(), data: { resultData: { runData } } }, workflow, '5');
	await eventually('it is sent', () => requests.length === 1);
	assert.equal(requests[0].executions[0].started_at, '2026-11-24T00:00:00.005Z');
	assert.equal(requests[0].executions[0].resumed_at, '2026-11-24T01:00:00.000Z');
	await stop();
});

test('on 1.x a run that waited has the time at which it resumed, as in the list', async () => {
	const { requests, url, stop } = await collector();
	const root = fs.mkdtempSync(path.join(os.tmpdir(), 'n8n-'));
	fs.writeFileSync(path.join(root, 'package.json'), JSON.stringify({ version: '1.123.81' }));
	const ours = require.main.filename;
	require.main.filename = path.join(root, 'bin/n8n');
	try {
		const runData = { Webhook: [{ startTime: Date.parse('2026-11-24T00:00:00.005Z') }] };
		await hooked(url)({ ...run(), data: { resultData: { runData } } }, workflow, '5');
	} finally {
		require.main.filename = ours;
		fs.rmSync(root, { recursive: true });
	}
	await eventually('it is sent', () => requests.length === 1);
	assert.equal(requests[0].executions[0].started_at, '2026-11-24T01:00:00.000Z');
	assert.equal(requests[0].executions[0].resumed_at, undefined);
	await stop();
});

test('many runs go in batches, each once and in order', async () => {
	const { requests, url, stop } = await collector();
	const post = hooked(url);
	for (let id = 1; id <= 250; id += 1) await post(run(), workflow, String(id));
	const sent = () => requests.flatMap(({ executions }) => executions.map(({ id }) => Number(id)));
	await eventually('all are sent', () => sent().length === 250);
	assert.deepEqual(
		requests.map(({ executions }) => executions.length),
		[100, 100, 50],
	);
	assert.deepEqual(
		sent(),
		Array.from({ length: 250 }, (_, index) => index + 1),
	);
	await stop();
});

test('a push to an unavailable or silent collector is retried', async () => {
	const { requests, url, stop } = await collector((count) =>
		count === 1 ? [503] : count === 2 ? undefined : [202, { rejected: [] }],
	);
	const post = hooked(url);
	const lines = await warnings(async () => {
		await post(run(), workflow, '7');
		await eventually('it is sent a third time', () => requests.length === 3);
	});
	assert.ok(requests.every(({ executions }) => executions[0].id === '7'));
	assert.equal(lines.length, 1, 'one line a minute');
	assert.match(lines[0], /status 503/);
	await stop();
});

test('a refused push is not retried, and the next one is sent', async () => {
	const { requests, url, stop } = await collector((count) => [count === 1 ? 403 : 202, { rejected: [] }]);
	const post = hooked(url);
	const lines = await warnings(async () => {
		await post(run(), workflow, '1');
		await eventually('the first is refused', () => requests.length === 1);
		await post(run(), workflow, '2');
		await eventually('the second is sent', () => requests.length === 2);
	});
	assert.deepEqual(
		requests.map(({ executions }) => executions.map(({ id }) => id)),
		[['1'], ['2']],
	);
	assert.match(lines[0], /refused.*403/);
	await stop();
});

test('a refused execution loses only itself, even in a full batch', async () => {
	for (const status of [400, 413, 422]) {
		const bad = new Set(['1', '37', '100', '101']);
		const { requests, url, stop } = await collector((_, executions) =>
			executions.some(({ id }) => bad.has(id)) ? [status] : [202, { rejected: [] }],
		);
		const post = hooked(url);
		const taken = () =>
			requests
				.map(({ executions }) => executions.map(({ id }) => id))
				.filter((ids) => !ids.some((id) => bad.has(id)))
				.flat();
		const lines = await warnings(async () => {
			for (let id = 1; id <= 250; id += 1) await post(run(), workflow, String(id));
			await eventually('the others are accepted', () => taken().length >= 246);
			await post(run(), workflow, '251');
			await eventually('the next one is accepted', () => taken().length >= 247);
		});
		const wanted = Array.from({ length: 251 }, (_, index) => String(index + 1)).filter((id) => !bad.has(id));
		assert.deepEqual(taken(), wanted, 'each once and in order');
		assert.ok(requests.length < 80, `${requests.length} requests`);
		assert.match(lines[0], new RegExp(`refused.*${status}`));
		await stop();
	}
});

test('a collector that refuses everything does not get endless retries', async () => {
	const { requests, url, stop } = await collector((_, executions) =>
		executions.some(({ id }) => Number(id) <= 100) ? [400] : [202, { rejected: [] }],
	);
	const post = hooked(url);
	await warnings(async () => {
		for (let id = 1; id <= 101; id += 1) await post(run(), workflow, String(id));
		await eventually('the execution after the batch is accepted', () => requests.at(-1)?.executions[0].id === '101');
	});
	assert.ok(requests.length <= 103, `${requests.length} requests`);
	await stop();
});

test('no run waits for the network, and a full buffer drops the oldest with one line', async () => {
	// Nothing listens on a port that was just closed.
	const { url, stop } = await collector();
	await stop();
	const post = hooked(url);
	const lines = await warnings(async () => {
		const began = performance.now();
		for (let id = 1; id <= 10_500; id += 1) await post(run(), workflow, String(id));
		assert.ok(performance.now() - began < 2_000, 'the hook is slow');
	});
	assert.equal(lines.filter((line) => /not pushed; the poll/.test(line)).length, 1);
});

test('the hook never throws, whatever n8n passes', async () => {
	const { url, stop } = await collector();
	const post = hooked(url);
	const broken = new Proxy(
		{},
		{
			get: () => {
				throw new Error('broken');
			},
		},
	);
	await warnings(async () => {
		for (const bad of [broken, null, 3, { status: 'success' }, { ...run(), stoppedAt: 'soon' }]) {
			await post(bad, null, '1');
			await post(run(), bad, '1');
		}
	});
	await stop();
	await warnings(async () => {
		await load({})(run(), workflow, '1');
		await load({ FLOWMETER_PUSH_URL: 'no url', FLOWMETER_PUSH_TOKEN: 'x' })(run(), workflow, '1');
	});
});

for (const [how, end] of [
	['ends', ''],
	['is stopped', 'process.kill(process.pid, "SIGTERM");'],
]) {
	test(`a process that ${how} sends what is left, and does not hang`, async () => {
		const { requests, url, stop } = await collector();
		const script = `
			const [post] = require(${JSON.stringify(FILE)}).workflow.postExecute;
			const run = { mode: 'webhook', status: 'success', startedAt: new Date(0), stoppedAt: new Date(1) };
			post(run, { id: 'w', name: 'W' }, '1');
			${end}
			${end && 'setInterval(() => {}, 1_000);'}`;
		const env = { ...process.env, FLOWMETER_PUSH_URL: url, FLOWMETER_PUSH_TOKEN: 'fmp_x.y' };
		await new Promise((resolve) => {
			execFile(process.execPath, ['-e', script], { env, timeout: PATIENCE_MS }, (error) => {
				assert.equal(error?.signal ?? 'none', end ? 'SIGTERM' : 'none');
				assert.ok(!error?.killed, 'it had to be killed');
				resolve();
			});
		});
		await eventually('it was sent', () => requests.length === 1);
		await stop();
	});
}

test('half of a surrogate pair in a name reaches the collector as valid JSON', async () => {
	const raw = [];
	const server = http.createServer((request, response) => {
		const chunks = [];
		request.on('data', (chunk) => chunks.push(chunk));
		request.on('end', () => {
			raw.push(Buffer.concat(chunks).toString('utf8'));
			response.writeHead(202, { 'content-type': 'application/json' });
			response.end(JSON.stringify({ accepted: 3, ignored: 0, rejected: [] }));
		});
	});
	await listening(server);
	const post = hooked(`http://127.0.0.1:${port(server)}/v1/executions`);
	const names = ['Good A', `Order sync ${'🧾'.slice(0, 1)}`, 'Good B'];
	for (const [place, name] of names.entries()) await post.call({}, run(), { id: 'w1', name }, String(place));
	await eventually('all three arrive', () => raw.flatMap((body) => JSON.parse(body).executions).length === 3);
	const pushed = raw.flatMap((body) => JSON.parse(body).executions.map((execution) => execution.workflow_name));
	assert.deepEqual(pushed, ['Good A', 'Order sync \ufffd', 'Good B']);
	assert.ok(!raw.some((body) => /\\ud83e/i.test(body)));
	server.closeAllConnections();
	await new Promise((resolve) => server.close(resolve));
});
