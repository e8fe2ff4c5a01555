// What is measured in a page: contrast, names, overflow, bytes on the wire, first paint.

/**
 * The texts whose contrast with their background is below `least` (WCAG 2.2, 1.4.3), as
 * "ratio text <element>"; those of disabled controls count as little as there. Values and
 * placeholders of fields count as texts.
 */
export function lowContrast(page, least = 4.5) {
  return page.evaluate((least) => {
    // A colour that fades into another is measured as it will be.
    for (const each of document.getAnimations()) if (each instanceof CSSTransition) each.finish();
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const colours = new Map();
    const rgba = (colour) => {
      if (!colours.has(colour)) {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        colours.set(colour, [r, g, b, a / 255]);
      }
      return colours.get(colour);
    };
    const over = ([r, g, b, a], below) =>
      [r, g, b].map((value, index) => value * a + below[index] * (1 - a)).concat(1);
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const scheme = getComputedStyle(document.documentElement).colorScheme;
    const canvasColour = dark && scheme.includes("dark") ? [18, 18, 18, 1] : [255, 255, 255, 1];
    const ancestors = (element) => {
      const all = [];
      for (let each = element; each; each = each.parentElement ?? each.getRootNode().host) all.push(each);
      return all;
    };
    const background = (element) =>
      ancestors(element).reverse()
        .map((each) => rgba(getComputedStyle(each).backgroundColor))
        .reduce((below, above) => over(above, below), canvasColour);
    const opacity = (element) =>
      ancestors(element).reduce((all, each) => all * getComputedStyle(each).opacity, 1);
    const luminance = (colour) => {
      const [r, g, b] = colour.slice(0, 3).map((value) => {
        const part = value / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (text, behind) => {
      const [low, high] = [luminance(text), luminance(behind)].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05);
    };
    const isShown = (element) => {
      const { width, height } = element.getBoundingClientRect();
      return width > 1 && height > 1 && !element.closest(":disabled")
        && element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    };
    const faults = new Set();
    const check = (element, text, style) => {
      if (!text.trim() || !isShown(element)) return;
      const behind = background(element);
      const [r, g, b, a] = rgba(style.color);
      const front = over([r, g, b, a * opacity(element) * (style.opacity || 1)], behind);
      const measured = ratio(front, behind);
      const name = `${element.localName}.${[...element.classList].join(".")}`;
      if (measured < least)
        faults.add(`${measured.toFixed(2)} ${JSON.stringify(text.trim().slice(0, 30))} <${name}>`);
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!element.closest("script, style, noscript, title, desc, textarea, select"))
        check(element, walker.currentNode.data, { color: getComputedStyle(element).color });
    }
    for (const field of document.querySelectorAll("input, textarea, select")) {
      if (["checkbox", "radio", "hidden"].includes(field.type)) continue;
      const placeholder = getComputedStyle(field, "::placeholder");
      if (field.value) check(field, field.value, { color: getComputedStyle(field).color });
      else if (field.placeholder) check(field, field.placeholder, placeholder);
    }
    return [...faults];
  }, least);
}

/** The buttons and links without a name for a screen reader, as HTML. */
export async function nameless(page) {
  const snapshot = await page.locator("body").ariaSnapshot();
  return snapshot.split("\n").filter((line) => /^\s*- (button|link|tab|textbox|combobox)(:|$| \[)/.test(line));
}

/** How far the page's content is wider than the window, in CSS pixels. */
export function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
}

/** Whether an element lies in the window with its whole area. */
export async function isInWindow(page, locator) {
  const box = await locator.boundingBox();
  const { width, height } = page.viewportSize();
  return box !== null && box.x >= 0 && box.y >= 0
    && box.x + box.width <= width && box.y + box.height <= height;
}

/** Counts the bytes that a page receives from now on, headers included. */
export async function wire(context, page) {
  const received = { bytes: 0, requests: 0 };
  const client = await context.newCDPSession(page);
  await client.send("Network.enable");
  client.on("Network.loadingFinished", ({ encodedDataLength }) => {
    received.bytes += encodedDataLength;
    received.requests += 1;
  });
  return received;
}

/** Milliseconds from the start of the navigation to the first contentful paint. */
export function firstPaint(page) {
  return page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
}
