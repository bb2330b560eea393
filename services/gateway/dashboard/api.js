// @ts-check
// The gateway's HTTP API as the page uses it. The session is an HttpOnly cookie that scripts cannot read.

/** @typedef {import("./api_types").components["schemas"]} Answers */

/** A request that the gateway refused or that did not reach it (status 0). */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The page's own address: a proxy may serve the gateway under a path. */
const BASE = new URL(".", import.meta.url);

/** Longer than any answer of the gateway takes; after this the connection counts as lost. */
const REQUEST_TIMEOUT_MS = 15_000;

async function request(method, path, body) {
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method,
      // A cross-site form cannot set custom headers, so this one shows that the request comes from the page.
      headers: { "X-Flowmeter": "1", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    });
  } catch (error) {
    throw new ApiError(0, String(error));
  }
  const text = await response.text();
  const answer = parse(text);
  if (!response.ok) throw new ApiError(response.status, answer?.error?.message ?? response.statusText);
  return answer;
}

function parse(text) {
  try {
    return text === "" ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

const tenantPath = (tenant) => encodeURIComponent(tenant);

/** @type {(token: string) => Promise<Answers["SessionJson"]>} */
export const signIn = (token) => request("POST", "v1/session", { token });
/** @type {() => Promise<Answers["SessionJson"]>} */
export const session = () => request("GET", "v1/session");
/** @type {() => Promise<null>} */
export const signOut = () => request("DELETE", "v1/session");
/** @type {() => Promise<Answers["UsageList"]>} */
export const listUsage = () => request("GET", "v1/usage");
/** @type {(tenant: string) => Promise<Answers["UsageDetail"]>} */
export const tenantUsage = (tenant) => request("GET", `v1/usage/${tenantPath(tenant)}`);
/** @type {() => Promise<Answers["TenantList"]>} */
export const archivedTenants = () => request("GET", "v1/tenants?archived=true");
/** @type {(tenant: string) => Promise<Answers["PeriodList"]>} */
export const closedPeriods = (tenant) => request("GET", `v1/usage/${tenantPath(tenant)}/periods`);
/** @type {(tenant: string) => Promise<Answers["SeriesJson"]>} */
export const dailySeries = (tenant) => request("GET", `v1/tenants/${tenantPath(tenant)}/usage/series?grain=day`);
/** @type {(tenant: string) => Promise<Answers["TopWorkflows"]>} */
export const topWorkflows = (tenant) => request("GET", `v1/tenants/${tenantPath(tenant)}/usage/workflows?limit=1000`);
/** @type {(tenant: string) => Promise<Answers["RefusalsJson"]>} */
export const refusals = (tenant) => request("GET", `v1/tenants/${tenantPath(tenant)}/refusals`);
/** @type {(tenant: string) => Promise<Answers["AdmissionJson"]>} */
export const limitCheck = (tenant) => request("GET", `v1/admissions/${tenantPath(tenant)}`);
/** @type {() => Promise<Answers["UnmappedList"]>} */
export const unmapped = () => request("GET", "v1/unmapped");
export const EVENTS = new URL("v1/events", BASE).href;
