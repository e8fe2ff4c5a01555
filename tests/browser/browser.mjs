// Opens pages of the server under test in Chromium, and keeps account of what they must
// not do: reach for another host, break the Content-Security-Policy, throw.

import { chromium } from "playwright-core";

export const base = new URL(process.env.TWOFOLD_URL ?? "http://127.0.0.1:8000");

const flags = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  // Belt and braces beside the route below: no name resolves but the server's own.
  `--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE ${base.hostname.replace(/^\[|\]$/g, "")}`,
];

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: flags,
  });

/**
 * A new page in a fresh profile, and the list of its offences so far. With a prefix, the page is
 * behind a proxy that strips it; what is asked for without the prefix is not found.
 */
export async function open(browser, path, { prefix = "", ...options } = {}) {
  const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    ...options,
  });
  const offences = [];

  await context.route(
    (url) => /^(https?|wss?):$/.test(url.protocol) && url.host !== base.host,
    (route) => {
      offences.push(`outside request: ${route.request().url()}`);
      return route.abort();
    },
  );
  if (prefix) {
    await context.route(
      (url) => url.host === base.host,
      (route) => {
        const url = new URL(route.request().url());
        if (!url.pathname.startsWith(`${prefix}/`)) return route.fulfill({ status: 404 });
        url.pathname = url.pathname.slice(prefix.length);
        return route.continue({ url: url.href });
      },
    );
  }
  await context.exposeFunction("reportOffence", (what) => offences.push(what));
  await context.addInitScript(() =>
    addEventListener("securitypolicyviolation", (event) =>
      reportOffence(`CSP: ${event.effectiveDirective} refused ${event.blockedURI}`),
    ),
  );
  context.on("weberror", (error) => offences.push(`exception: ${error.error().stack}`));
  context.on("console", (message) => {
    if (/content security policy|web worker|monacoenvironment/i.test(message.text()))
      offences.push(`console: ${message.text()}`);
  });
  context.on("response", (response) => {
    if (response.request().method() === "GET" && response.status() >= 400)
      offences.push(`${response.status()}: ${response.url()}`);
  });

  const page = await context.newPage();
  const response = await page.goto(new URL(prefix + path, base).href);
  return { page, context, response, offences };
}

/** What a policy allows scripts, in the browser's own reading of it. */
export function scriptSources(response) {
  const policy = response.headers()["content-security-policy"] ?? "";
  const directives = new Map(
    policy.split(";").map((directive) => {
      const [name, ...sources] = directive.trim().split(/\s+/);
      return [name, sources];
    }),
  );
  return directives.get("script-src") ?? directives.get("default-src") ?? ["*"];
}
