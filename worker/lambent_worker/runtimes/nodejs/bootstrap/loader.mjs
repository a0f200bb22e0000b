// Finds the function that a handler names: `index.handler` is `handler` of index.js, index.mjs or index.cjs.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { Fault } from "./failure.mjs";

const require = createRequire(import.meta.url);

export async function load(root, handler) {
  const [folder, name, exported] = parts(handler);
  const module = await moduleOf(root, folder, name);
  const found = exported.split(".").reduce((value, key) => value?.[key], module);
  const fallback = module.default && exported.split(".").reduce((value, key) => value?.[key], module.default);
  const result = found ?? fallback;
  if (result === undefined || result === null) {
    throw new Fault("Runtime.HandlerNotFound", `${handler} is undefined or not exported`);
  }
  if (typeof result !== "function") {
    throw new Fault("Runtime.HandlerNotFound", `${handler} is not a function`);
  }
  return result;
}

function parts(handler) {
  if (handler.includes("..")) {
    throw new Fault("Runtime.MalformedHandlerName", `'${handler}' is not a valid handler name: it has '..'`);
  }
  const match = /^((?:.*\/)?)([^./]*)\.([^/]+)$/.exec(handler);
  if (match === null) {
    throw new Fault("Runtime.MalformedHandlerName", `Bad handler: '${handler}' is not MODULE.FUNCTION`);
  }
  return match.slice(1);
}

async function moduleOf(root, folder, name) {
  const base = path.resolve(root, folder, name);
  try {
    for (const suffix of ["", ".js", ".mjs", ".cjs"]) {
      const file = base + suffix;
      if (fs.statSync(file, { throwIfNoEntry: false })?.isFile()) {
        return isModule(file) ? await import(pathToFileURL(file).href) : require(file);
      }
    }
    return require(require.resolve(`./${name}`, { paths: [path.resolve(root, folder)] }));
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new Fault("Runtime.UserCodeSyntaxError", String(error), error);
    }
    if (error?.code === "MODULE_NOT_FOUND" || error?.code === "ERR_MODULE_NOT_FOUND") {
      throw new Fault("Runtime.ImportModuleError", missing(error, base, name), error);
    }
    throw error;
  }
}

/** Lambda names the module as the handler does, whichever of our files wanted it. */
function missing(error, base, name) {
  const text = String(error);
  return text.startsWith(`Error: Cannot find module './${name}'`) ? `Error: Cannot find module '${name}'` : text;
}

/** As Node.js decides it: by the name, or by the nearest package.json above. */
function isModule(file) {
  if (!file.endsWith(".js")) {
    return file.endsWith(".mjs");
  }
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(folder, "package.json"), "utf8")).type === "module";
    } catch (error) {
      if (error.code !== "ENOENT" && error.code !== "ENOTDIR") {
        return false;
      }
    }
    if (folder === path.dirname(folder)) {
      return false;
    }
  }
}
