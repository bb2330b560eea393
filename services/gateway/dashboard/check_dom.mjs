// A document for the checks: only the part of the DOM that dom.js and the views use. Importing it installs
// it.

class Node {
  parent = null;
  kept = [];
  listeners = new Map();

  get childNodes() {
    return this.kept;
  }

  get children() {
    return this.kept.filter((child) => child instanceof Element);
  }

  get childElementCount() {
    return this.children.length;
  }

  append(...nodes) {
    for (const node of nodes) this.insertBefore(node, null);
  }

  insertBefore(node, before) {
    const child = node instanceof Node ? node : new Text(String(node));
    child.remove();
    const at = before === null ? this.kept.length : this.kept.indexOf(before);
    this.kept.splice(at, 0, child);
    child.parent = this;
  }

  replaceChildren(...nodes) {
    for (const child of [...this.kept]) child.remove();
    this.append(...nodes);
  }

  remove() {
    if (this.parent === null) return;
    this.parent.kept.splice(this.parent.kept.indexOf(this), 1);
    this.parent = null;
  }

  contains(other) {
    return other === this || this.kept.some((child) => child.contains(other));
  }

  get textContent() {
    return this.kept.map((child) => child.textContent).join("");
  }

  set textContent(text) {
    this.replaceChildren(...(text === "" ? [] : [new Text(text)]));
  }

  addEventListener(name, listener) {
    this.listeners.set(name, [...(this.listeners.get(name) ?? []), listener]);
  }
}

class Text extends Node {
  constructor(text) {
    super();
    this.text = text;
  }

  get textContent() {
    return this.text;
  }
}

class Element extends Node {
  attributes = new Map();
  dataset = {};
  style = { setProperty() {} };
  classList = { add: (name) => this.setAttribute("class", `${this.getAttribute("class") ?? ""} ${name}`.trim()) };
  hidden = false;

  constructor(tag) {
    super();
    this.tag = tag;
  }

  setAttribute(name, value) {
    this.attributes.set(name, String(value));
    if (name === "hidden") this.hidden = true;
  }

  getAttribute(name) {
    return this.attributes.get(name) ?? null;
  }

  removeAttribute(name) {
    this.attributes.delete(name);
  }
}

const stored = new Map();
const storage = {
  getItem: (key) => stored.get(key) ?? null,
  setItem: (key, value) => stored.set(key, value),
  removeItem: (key) => stored.delete(key),
};

Object.defineProperty(globalThis, "navigator", { value: { languages: ["en-GB", "fr"] }, configurable: true });
Object.assign(globalThis, {
  localStorage: storage,
  sessionStorage: storage,
  document: {
    createElement: (tag) => new Element(tag),
    createElementNS: (_, tag) => new Element(tag),
  },
});

/** All elements below a node, itself included. */
export function elements(node) {
  return [node, ...node.children.flatMap(elements)];
}

/** The elements with a class. */
export const withClass = (node, name) =>
  elements(node).filter((element) => (element.getAttribute("class") ?? "").split(" ").includes(name));
