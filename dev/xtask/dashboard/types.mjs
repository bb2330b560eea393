// Writes the types of the gateway's answers, as docs/openapi.json has them, to the standard output:
// `TOOLS=... node dev/xtask/dashboard/types.mjs`. `cargo xtask verify` compares them with the committed file.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const HEAD = `// The gateway's answers. Generated from docs/openapi.json: \`cargo xtask verify --only types --fix\` writes it anew.
`;

const { default: openapiTS, astToString } = createRequire(`${process.env.TOOLS}/`)("openapi-typescript");

const document = JSON.parse(readFileSync("docs/openapi.json", "utf8"));
const { schemas } = document.components;

/** The schemas that a value refers to, directly or through another one. */
function reach(value, found) {
  if (value === null || typeof value !== "object") return;
  const name = typeof value.$ref === "string" ? value.$ref.split("/").at(-1) : undefined;
  if (name !== undefined && !found.has(name)) {
    found.add(name);
    reach(schemas[name], found);
  }
  for (const part of Object.values(value)) reach(part, found);
}

const answered = new Set();
for (const operations of Object.values(document.paths)) {
  for (const { responses } of Object.values(operations)) reach(responses, answered);
}
const kept = Object.fromEntries([...answered].sort().map((name) => [name, schemas[name]]));
const ast = await openapiTS({ ...document, paths: {}, components: { schemas: kept } });
process.stdout.write(HEAD + astToString(ast));
