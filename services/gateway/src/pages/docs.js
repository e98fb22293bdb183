// Shows /openapi.json: operations by tag, with search, schemas and a form to try each. Everything from the document is
// set as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
const $ = (id) => document.getElementById(id);

/** An element with attributes and children; texts become text nodes. */
function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Text with `code` in it. */
function prose(text) {
  return (text ?? "").split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part));
}

let spec;

/** What a `$ref` points to; other schemas are themselves. */
function resolve(schema) {
  if (!schema?.$ref) return schema ?? {};
  const target = schema.$ref.slice(2).split("/").reduce((at, key) => at?.[key], spec) ?? {};
  const { $ref, ...own } = schema;
  return { ...target, ...own };
}

const nameOf = (schema) => schema?.$ref?.split("/").pop();

/** The type of a schema in a few words. */
function typeOf(schema) {
  if (!schema || Object.keys(schema).length === 0) return "any";
  const name = nameOf(schema);
  const full = resolve(schema);
  if (full.type === "array") return `list of ${typeOf(full.items)}`;
  if (name) return name;
  if (full.type === "object" && full.additionalProperties && full.additionalProperties !== true) {
    return `map to ${typeOf(full.additionalProperties)}`;
  }
  const type = Array.isArray(full.type) ? full.type.join(" or ") : full.type ?? "any";
  return full.format ? `${type} (${full.format})` : type;
}

/** What a schema demands, in words. */
function demands(schema) {
  const said = [];
  const add = (key, text) => { if (schema[key] !== undefined) said.push(text(schema[key])); };
  add("minLength", (n) => `at least ${n} characters`);
  add("maxLength", (n) => `at most ${n} characters`);
  add("minimum", (n) => `from ${n}`);
  add("maximum", (n) => `to ${n}`);
  add("minItems", (n) => `at least ${n}`);
  add("maxItems", (n) => `at most ${n}`);
  add("minProperties", (n) => `at least ${n}`);
  add("maxProperties", (n) => `at most ${n}`);
  add("uniqueItems", () => "no duplicates");
  add("pattern", (p) => `like ${p}`);
  add("not", (not) => `not ${(not.enum ?? []).join(", ")}`);
  add("readOnly", () => "read only");
  return said.join(", ");
}

/** The object below a schema whose fields can be listed. */
function inner(schema) {
  const full = resolve(schema);
  if (full.type === "array") return inner(full.items);
  if (full.properties) return full;
  if (full.additionalProperties && full.additionalProperties !== true) return inner(full.additionalProperties);
  return full.enum ? full : null;
}

/** One field with its type and, on demand, what is inside. */
function field(name, schema, required, text) {
  const full = resolve(schema);
  const below = inner(schema);
  const demand = demands(full);
  const item = el("li", {},
    el("span", { class: "name" }, name),
    el("span", { class: "type" }, typeOf(schema) + (demand ? `, ${demand}` : "")),
    required ? el("span", { class: "must" }, "required") : null,
    el("span", { class: "text" }, prose(text ?? schema.description ?? (nameOf(schema) ? "" : full.description))));
  if (below) {
    const more = el("details", {}, el("summary", {}, below.enum ? "values" : "fields"));
    more.addEventListener("toggle", () => {
      if (more.open && more.children.length === 1) more.append(fields(below));
    });
    item.append(more);
  }
  return item;
}

/** The fields of an object, or the values of a choice. */
function fields(schema) {
  if (schema.enum) return el("p", { class: "text small" }, prose(schema.description ?? schema.enum.join(", ")));
  const required = new Set(schema.required ?? []);
  return el("ul", { class: "fields" },
    Object.entries(schema.properties ?? {}).map(([name, of]) => field(name, of, required.has(name))));
}

/** What to fill in first: what is required, names and choices; of several that exclude each other the first. */
function example(schema) {
  const full = resolve(schema);
  if (full.enum) return full.enum.find((value) => !value.endsWith("_UNSPECIFIED")) ?? full.enum[0];
  if (full.type === "array") return full.minItems ? [example(full.items)] : [];
  if (full.properties) {
    const excluded = new Set((full["x-only-one-of"] ?? []).flatMap((names) => names.slice(1)));
    const first = new Set((full["x-only-one-of"] ?? []).map((names) => names[0]));
    const wanted = ([name, of]) => {
      const field = resolve(of);
      if (field.readOnly || excluded.has(name)) return false;
      return full.required?.includes(name) || first.has(name) || field.minItems || field.minProperties || field.enum
        || /name$|^(key|email|resource|source)$/i.test(name);
    };
    return Object.fromEntries(Object.entries(full.properties).filter(wanted).map(([name, of]) => [name, example(of)]));
  }
  if (full.type === "object") return {};
  if (full.type === "integer" || full.type === "number") return full.minimum ?? 0;
  if (full.type === "boolean") return false;
  if (full.format === "date-time") return new Date().toISOString();
  if (full.format === "int64") return "0";
  return full.type === "string" ? "" : null;
}

const parametersOf = (operation) => (operation.parameters ?? []).map(resolve);

/** Calls an operation with what its form says. */
async function send(method, path, operation, form, file, out) {
  const query = new URLSearchParams();
  const headers = new Headers();
  let target = path;
  for (const parameter of parametersOf(operation)) {
    const value = form.elements[`p:${parameter.name}`].value;
    if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (value === "") continue;
    else if (parameter.in === "header") headers.set(parameter.name, value);
    else if (resolve(parameter.schema).type === "array") value.split(",").forEach((one) => query.append(parameter.name, one.trim()));
    else query.append(parameter.name, value);
  }
  const key = $("key").value.trim();
  if (key) headers.set("authorization", `Bearer ${key}`);
  let body;
  if (file) {
    body = file.files[0];
  } else if (form.elements.body && form.elements.body.value.trim() !== "") {
    body = form.elements.body.value;
    headers.set("content-type", "application/json");
  }
  if ([...query].length) target += `?${query}`;
  const started = performance.now();
  try {
    const answer = await fetch(target, { method: method.toUpperCase(), headers, body, credentials: key ? "omit" : "same-origin" });
    const text = await answer.text();
    const took = Math.round(performance.now() - started);
    const shown = [...answer.headers].filter(([name]) => /^(content-type|content-disposition|retry-after|ratelimit-.*|allow)$/.test(name));
    let pretty = text.length > 200000 ? `${text.slice(0, 200000)}\n…` : text;
    if (/json/.test(answer.headers.get("content-type") ?? "")) {
      try { pretty = JSON.stringify(JSON.parse(text), null, 2); } catch { /* shown as it came */ }
    }
    out.replaceChildren(
      el("p", { class: answer.ok ? "good" : "bad" }, `${answer.status} ${answer.statusText} in ${took} ms`),
      el("p", { class: "muted small mono" }, `${method.toUpperCase()} ${target}`),
      el("pre", {}, shown.map(([name, value]) => `${name}: ${value}`).join("\n")),
      el("pre", {}, pretty || "(no body)"));
  } catch (error) {
    out.replaceChildren(el("p", { class: "bad" }, `The call did not get through: ${error.message}`));
  }
}

/** The form to try an operation with. */
function tryIt(method, path, operation) {
  const out = el("div", { "aria-live": "polite" });
  const content = operation.requestBody?.content ?? {};
  const json = content["application/json"]?.schema;
  const file = content["*/*"] ? el("input", { type: "file", "aria-label": "File" }) : null;
  const button = el("button", { type: "submit" }, "Send");
  const form = el("form", { class: "try", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    await send(method, path, operation, form, file, out);
    button.disabled = false;
  } }, el("strong", {}, "Try it"),
    parametersOf(operation).map((parameter) => el("label", {}, el("span", { class: "mono" }, parameter.name),
      el("input", { name: `p:${parameter.name}`, required: parameter.in === "path", spellcheck: "false", autocomplete: "off" }))),
    file ? el("label", {}, "File", file) : null,
    json ? el("textarea", { name: "body", spellcheck: "false", "aria-label": "JSON body" }) : null,
    el("div", { class: "actions" }, button));
  if (json) form.elements.body.value = JSON.stringify(example(json), null, 2);
  form.append(out);
  return form;
}

/** What an operation takes and answers. */
function describe(method, path, operation) {
  const body = el("div", { class: "body" }, el("p", {}, prose(operation.description)),
    el("p", { class: "small" }, "Permission ", el("span", { class: "chip mono" }, operation["x-permission"] ?? ""),
      "  gRPC ", el("span", { class: "chip mono" }, operation["x-grpc"] ?? "")));
  const parameters = parametersOf(operation);
  if (parameters.length) {
    body.append(el("h3", {}, "Parameters"), el("ul", { class: "fields" },
      parameters.map((p) => field(`${p.name} (${p.in})`, p.schema, p.required, p.description))));
  }
  const request = operation.requestBody?.content?.["application/json"]?.schema;
  if (request) body.append(el("h3", {}, `Body: ${typeOf(request)}`), fields(inner(request) ?? {}));
  if (operation.requestBody?.content?.["*/*"]) {
    body.append(el("h3", {}, "Body: the file itself"), el("p", {}, prose(operation.requestBody.description)));
  }
  const answer = resolve(operation.responses["200"]);
  const schema = answer.content?.["application/json"]?.schema;
  body.append(el("h3", {}, `Answer: ${schema ? typeOf(schema) : "a file"}`), el("p", {}, prose(answer.description)));
  if (schema && inner(schema)) body.append(fields(inner(schema)));
  const failures = Object.entries(operation.responses).filter(([status]) => status !== "200");
  body.append(el("h3", {}, "Errors"), el("ul", { class: "fields" }, failures.map(([status, of]) => el("li", {},
    el("span", { class: "name" }, status), el("span", { class: "type" }, prose(resolve(of).description))))));
  body.append(tryIt(method, path, operation));
  return body;
}

/** An operation that unfolds when it is opened. */
function operationBox(method, path, operation) {
  const box = el("details", { class: "operation", id: operation.operationId }, el("summary", {},
    el("span", { class: `method ${method}` }, method.toUpperCase()), el("span", { class: "path" }, path),
    el("span", { class: "what" }, operation.summary ?? "")));
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) box.append(describe(method, path, operation));
  });
  return box;
}

/** Opens the operation that the address names. */
function openNamed() {
  const box = $(decodeURIComponent(location.hash.slice(1)));
  if (box?.classList.contains("operation")) {
    box.open = true;
    box.scrollIntoView();
  }
}

function search(entries) {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const entry of entries) {
    const hit = words.every((word) => entry.text.includes(word));
    entry.link.hidden = !hit;
    entry.box.hidden = !hit;
  }
  for (const section of document.querySelectorAll("[data-tag]")) {
    section.hidden = !section.querySelector("a:not([hidden]), .operation:not([hidden])");
  }
}

function show() {
  document.title = `${spec.info.title} API`;
  $("brand").textContent = spec.info.title;
  $("title").textContent = `${spec.info.title} API`;
  $("version").textContent = `Version ${spec.info.version}, OpenAPI ${spec.openapi}`;
  $("about").replaceChildren(...prose(spec.info.description));
  const entries = [];
  const tags = new Map(spec.tags.map((tag) => [tag.name, { about: tag.description, links: [], boxes: [] }]));
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const method of METHODS.filter((name) => methods[name])) {
      const operation = methods[method];
      const box = operationBox(method, path, operation);
      const link = el("a", { href: `#${operation.operationId}`, title: `${method.toUpperCase()} ${path}`, onclick: () => { box.open = true; } },
        el("span", { class: `method ${method}` }, method.toUpperCase()), operation.operationId.split(".").pop());
      const text = [method, path, operation.operationId, operation.description, operation["x-permission"]].join(" ").toLowerCase();
      entries.push({ box, link, text });
      const tag = tags.get(operation.tags[0]);
      tag.links.push(link);
      tag.boxes.push(box);
    }
  }
  $("index").replaceChildren(...[...tags].map(([name, tag]) => el("section", { "data-tag": name }, el("strong", {}, name), tag.links)));
  $("operations").replaceChildren(...[...tags].map(([name, tag]) => el("section", { "data-tag": name },
    el("h2", {}, name), el("p", { class: "tag-about" }, tag.about), tag.boxes)));
  $("search").addEventListener("input", () => search(entries));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(input|textarea)$/i.test(event.target.tagName)) {
      event.preventDefault();
      $("search").focus();
    }
  });
  window.addEventListener("hashchange", openNamed);
  openNamed();
}

fetch("/openapi.json").then((answer) => answer.json()).then((document) => { spec = document; show(); })
  .catch((error) => $("operations").replaceChildren(el("p", { class: "bad" }, `/openapi.json could not be read: ${error.message}`)));
