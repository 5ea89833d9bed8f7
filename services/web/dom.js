// The document: elements by id, and new ones. Text from outside only ever becomes text.

export function find(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no element #${id}`);
  return element;
}

/** A new element; `properties` are set as such, `dataset` and `aria-...` included. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.startsWith("aria-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export function show(element, visible = true) {
  element.hidden = !visible;
}

/** Say something to whoever listens to the page. */
export function announce(text) {
  find("said").textContent = text;
}
