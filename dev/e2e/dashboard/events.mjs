// A day of usage events: tenants that come and go, and one that stays and is counted up.

export const EVENTS = 100_000;
/** Tenants at a time. */
export const TENANTS = 50;
const STREAMS = 20;

/** The bodies of the event streams. `sample` is one element of the gateway's list: the tenant that stays. */
export function* eventsOf(sample) {
  const perStream = EVENTS / STREAMS;
  const from = Date.parse(sample.as_of ?? new Date().toISOString());
  for (let stream = 0; stream < STREAMS; stream++) {
    const lines = [];
    for (let index = 0; index < perStream; index++) {
      const number = stream * perStream + index + 1;
      const usage = index % TENANTS === TENANTS - 1 ? counted(sample, number) : passing(sample, stream, index, number);
      lines.push(
        `event: usage\ndata: ${JSON.stringify({ ...usage, as_of: new Date(from + number).toISOString() })}\n\n`,
      );
    }
    yield lines.join("");
  }
}

const counted = (sample, number) => ({ ...sample, counted: number });

function passing(sample, stream, index, number) {
  const tenant = `passing-${stream}-${index % TENANTS}`;
  return {
    ...sample,
    tenant,
    name: tenant,
    counted: number,
    sources: sample.sources.map((source) => ({ ...source, source: tenant })),
  };
}
