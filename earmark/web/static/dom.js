/** Elements of the page, built without a line of HTML in a string: names of classes are only text. */

/**
 * @param {string} tag
 * @param {Record<string, any>} properties `on` holds listeners, a name with `-` or `role` is an
 *   attribute, everything else a property of the element.
 * @param {...(Node | string | null)} children
 * @returns {any}
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name.includes("-") || name === "role" || name === "for") {
      setAttribute(node, name, value);
    } else if (name === "class") {
      node.className = value;
    } else {
      node[name] = value;
    }
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Sets an attribute only where it changes; null and undefined take it away. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** Sets a text only where it changes, so that what is selected or read aloud stays. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @returns {any} */
export const byId = (id) => document.getElementById(id);

/** The canvas as large as it is shown, in device pixels, cleared; its context in CSS pixels. */
export function clearedContext(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
